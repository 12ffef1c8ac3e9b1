"""Settings of web, worker and controller, all from the environment; production by default.

``docs/settings.md`` lists every variable with its default and unit; it is made by
``python -m config.settings_docs``.
"""

import os
from pathlib import Path
from typing import Any

import environ

from config.unfold import UNFOLD as UNFOLD
from tasks_app.conf import SlipwaySettings

BASE_DIR = Path(__file__).resolve().parent.parent.parent
env = environ.Env()

# --- Secrets and addresses -----------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
# Without DEBUG there is no default: slipway.E001 and E002 say so at start.
SECRET_KEY = env.str("SECRET_KEY", default="only-for-debugging-" + "x" * 50 if DEBUG else "")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# --- Slipway: the fields of tasks_app/conf.py, SLIPWAY_<FIELD> -------------------------------
_defaults: dict[str, Any] = {
    "work_directory": BASE_DIR / "var" / "work",
    "agents_directory": BASE_DIR / "var" / "agents",
}
if DEBUG:
    _defaults["encryption_keys"] = {"debug": b"only-for-debugging".ljust(32, b"x")}
SLIPWAY = SlipwaySettings.from_environ(os.environ, **_defaults)

# --- Applications --------------------------------------------------------------------------
INSTALLED_APPS = [
    "unfold",  # before django.contrib.admin, whose templates it replaces
    "unfold.contrib.filters",
    "unfold.contrib.forms",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "django_q",
    "config.apps.ConfigAppConfig",
    "tasks_app.apps.TasksAppConfig",
    "pods_app.apps.PodsAppConfig",
    "agents_app.apps.AgentsAppConfig",
]

# All of them work asynchronously too: a long poll must not hold a thread.
MIDDLEWARE = [
    "tasks_app.api.middleware.RequestIdMiddleware",
    "config.middleware.programs",
    "django.middleware.security.SecurityMiddleware",
    "config.middleware.static_files",
    "config.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Database: PostgreSQL only (LISTEN/NOTIFY, SKIP LOCKED, partial indexes) -----------------
_database = env.db("DATABASE_URL", default="postgres://slipway@127.0.0.1/slipway")
# A statement is parsed and planned once on each connection instead of each time, which whoever
# confirms would wait for. A pooler in transaction mode mixes the connections up.
_prepares = not SLIPWAY.database_direct_url
DATABASES = {
    "default": {
        **_database,
        # Connections stay in psycopg's pool, per process; Django's own reuse must be off.
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            **_database.get("OPTIONS", {}),  # sslmode and what else the address says
            "server_side_binding": _prepares,
            "prepare_threshold": 2 if _prepares else None,
            "pool": {
                "min_size": 1,
                "max_size": env.int("DATABASE_POOL_SIZE", default=16),
                # Longer than this without a free connection is an error, in seconds.
                "timeout": env.float("DATABASE_POOL_TIMEOUT_SECONDS", default=10.0),
            },
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- People --------------------------------------------------------------------------------
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "admin:login"
SESSION_COOKIE_AGE = env.int("SESSION_SECONDS", default=12 * 3600)

# --- Language and time ---------------------------------------------------------------------
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

# --- Static files --------------------------------------------------------------------------
STATIC_URL = "static/"
STATIC_ROOT = Path(env.str("STATIC_ROOT", default=str(BASE_DIR / "var" / "static")))
STATICFILES_DIRS = [BASE_DIR / "static"] if (BASE_DIR / "static").is_dir() else []
_STATIC_STORAGE = (
    "django.contrib.staticfiles.storage.StaticFilesStorage"
    if DEBUG
    else "whitenoise.storage.CompressedManifestStaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": _STATIC_STORAGE},
}

# --- Security ------------------------------------------------------------------------------
# HTTPS is ended by a proxy that sets X-Forwarded-Proto; off only on loopback and in tests.
HTTPS = env.bool("HTTPS", default=not DEBUG)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^livez$", r"^readyz$", r"^metrics$"]
SECURE_HSTS_SECONDS = env.int("HSTS_SECONDS", default=31_536_000) if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_SECURE = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Uploads are streamed by their views, which have limits of their own.
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024**2

# --- API -----------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "knox.auth.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "tasks_app.api.schema.ExactSchema",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_PAGINATION_CLASS": "tasks_app.api.pagination.NewestFirst",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "tasks_app.api.problems.exception_handler",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.UserRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"user": env.str("API_RATE", default="1200/min")},
    "PAGE_SIZE": 50,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
REST_KNOX = {"TOKEN_TTL": None, "AUTO_REFRESH": False}  # each token's life is chosen when made
SPECTACULAR_SETTINGS = {
    "TITLE": "Slipway",
    "DESCRIPTION": "Plan, confirm and apply Terraform configurations.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",  # from this server: no page calls another host
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": r"/api/v1/",
    "ENUM_NAME_OVERRIDES": {
        "TaskStatus": "tasks_app.states.Status",
        "SlotStatus": "pods_app.states.SlotStatus",
        "PodPhase": "pods_app.states.PodPhase",
        "Health": "pods_app.health.Health",
        "ApplyPath": "pods_app.states.ApplyPath",
        "WarmupStatus": "tasks_app.states.WarmupStatus",
        "RunPhase": [("plan", "plan"), ("warmup", "warmup"), ("apply", "apply")],
        "PoolKind": "pods_app.states.PoolKind",
        "CredentialKind": "tasks_app.models.project.AbstractCredential.Kind",
    },
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "tasks_app.api.schema.add_problems",
        "agents_app.api.openapi.add_agents_api",
    ],
}

# --- Background jobs: short, idempotent, never Terraform --------------------------------------
Q_CLUSTER = {
    "name": "main",
    "orm": "default",  # the same database: a job is queued with the row it is about
    "broker_class": "config.broker.ResilientORM",
    "workers": env.int("WORKERS", default=2),
    "poll": 0.2,  # seconds; 0.05 costs four times the queries
    "bulk": 1,
    "queue_limit": 2,
    "timeout": 60,
    # Counted from the prefetch, not from the start: must exceed all that can wait before it.
    "retry": 600,
    "max_attempts": 1,
    "ack_failures": True,
    "catch_up": False,  # a schedule missed ten times runs once
    "save_limit": 500,
}

# --- Notices of freezes: to nobody unless an address is given -----------------------------------
NOTICE_EMAILS = env.list("NOTICE_EMAILS", default=[])
NOTICE_WEBHOOK_URLS = env.list("NOTICE_WEBHOOK_URLS", default=[])
NOTICE_WEBHOOK_SECRETS = env.list("NOTICE_WEBHOOK_SECRETS", default=[])
_mail = env.email_url("EMAIL_URL", default="dummymail://")
EMAIL_BACKEND = _mail["EMAIL_BACKEND"]
EMAIL_HOST, EMAIL_PORT = _mail["EMAIL_HOST"], _mail["EMAIL_PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = _mail["EMAIL_HOST_USER"], _mail["EMAIL_HOST_PASSWORD"]
EMAIL_USE_TLS, EMAIL_USE_SSL = "EMAIL_USE_TLS" in _mail, "EMAIL_USE_SSL" in _mail
EMAIL_FILE_PATH = _mail["EMAIL_FILE_PATH"] or None
EMAIL_TIMEOUT = 10  # seconds
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default="slipway@localhost")

# --- Logging: one line per event, to stderr ---------------------------------------------------
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "config.logs.LineFormatter",
            "format": "{asctime} {levelname} {name} {message}",
            "style": "{",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    # httpx notes every address that it asks, and those of webhooks are secret.
    "loggers": {"httpx": {"level": "WARNING"}, "httpcore": {"level": "WARNING"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", default="INFO").upper()},
}
