"""Settings of the tests: those of the server, with throw-away secrets and no TLS."""

import base64
import os
import tempfile

os.environ.setdefault("SECRET_KEY", "test-" + "k" * 60)
os.environ.setdefault(
    "SLIPWAY_ENCRYPTION_KEYS",
    ",".join(f"{name}:{base64.b64encode(name.encode() * 8).decode()}" for name in ("new1", "old1")),
)
os.environ.setdefault("HTTPS", "false")
os.environ.setdefault("SLIPWAY_AGENT_BASE_PATH", tempfile.mkdtemp(prefix="slipway-test-work-"))

from config.settings.server import *  # noqa: E402, F403

ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
REST_FRAMEWORK = {**REST_FRAMEWORK, "DEFAULT_THROTTLE_CLASSES": []}  # noqa: F405
WHITENOISE_AUTOREFRESH = True
