"""Settings of the agent program: no database, no secret key, no encryption key.

The agent's own settings come from its command line and environment; see `run_agent --help`.
"""

import os
import secrets

SECRET_KEY = secrets.token_urlsafe(50)  # Django wants one; nothing is signed with it.
DATABASES: dict[str, dict[str, object]] = {}
INSTALLED_APPS = ["config.agent_program.AgentProgramConfig"]
USE_TZ = True
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
    "root": {"handlers": ["stderr"], "level": os.environ.get("LOG_LEVEL", "INFO").upper()},
    # httpx notes every request at INFO; heartbeats would be most of the log.
    "loggers": {"httpx": {"level": "WARNING"}, "httpcore": {"level": "WARNING"}},
}
