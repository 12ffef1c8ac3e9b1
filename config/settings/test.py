"""Settings of the tests: those of the server, with throw-away secrets and no HTTPS.

Without DATABASE_URL the tests use a throw-away PostgreSQL in a folder of this run, which
`tests/conftest.py` starts when the first test needs it.
"""

import base64
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

# One folder per run; the processes of pytest-xdist and the agents of tests inherit it.
TEST_RUN_DIRECTORY = Path(
    os.environ.setdefault(
        "SLIPWAY_TEST_RUN_DIRECTORY", f"{tempfile.gettempdir()}/slipway-tests-{os.getpid()}"
    )
)
_KEYS = {name: base64.b64encode(name.encode() * 8).decode() for name in ("new1", "old1")}

os.environ.update(
    {
        "DEBUG": "false",
        "SECRET_KEY": "only-for-tests-" + "k" * 50,
        "SLIPWAY_ENCRYPTION_KEYS": ",".join(f"{name}:{key}" for name, key in _KEYS.items()),
        "SLIPWAY_WORK_DIRECTORY": str(TEST_RUN_DIRECTORY / "work"),
        "SLIPWAY_AGENTS_DIRECTORY": str(TEST_RUN_DIRECTORY / "agents"),
        "HTTPS": "false",
    }
)
os.environ.setdefault("LOG_LEVEL", "WARNING")
os.environ.setdefault("DATABASE_POOL_SIZE", "40")
os.environ.setdefault(
    "DATABASE_URL", f"postgres://postgres@/postgres?host={quote(str(TEST_RUN_DIRECTORY))}/postgres"
)

from config.settings.server import *  # noqa: E402, F403
from config.settings.server import REST_FRAMEWORK as _REST_FRAMEWORK  # noqa: E402
from config.settings.server import STORAGES as _STORAGES  # noqa: E402

ALLOWED_HOSTS = ["*"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # fast, not safe
STORAGES = {
    **_STORAGES,
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_AUTOREFRESH = True  # finds static files without collectstatic
WHITENOISE_USE_FINDERS = True
REST_FRAMEWORK = {**_REST_FRAMEWORK, "DEFAULT_THROTTLE_CLASSES": []}
