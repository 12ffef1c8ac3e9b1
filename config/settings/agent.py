"""Settings of the agent program: no database, no secret key, no encryption key."""

import secrets

from django.conf.global_settings import LOGGING_CONFIG  # noqa: F401

SECRET_KEY = secrets.token_urlsafe(50)  # Django wants one; nothing is signed with it.
DATABASES: dict[str, dict[str, object]] = {}
INSTALLED_APPS = ["agents_app.agent.apps.AgentProgramConfig"]
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
