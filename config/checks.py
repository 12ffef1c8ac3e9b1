"""What must hold before Slipway starts; each check says what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import DatabaseError, connections

POSTGRESQL_MIN = 150000


@register(Tags.security)
def check_keys(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E001 secret key, E002 encryption keys missing, E003 encryption key malformed."""
    found: list[CheckMessage] = []
    if not settings.SECRET_KEY:
        found.append(
            Error("SECRET_KEY is not set.", id="slipway.E001",
                  hint="Set it to 50 random characters and keep it; sessions depend on it.")
        )
    keys = settings.SLIPWAY.encryption_keys
    if not keys:
        found.append(
            Error("SLIPWAY_ENCRYPTION_KEYS is not set.", id="slipway.E002",
                  hint='Set it to "k1:" and the base64 of 32 random bytes, and keep it safe: '
                       "state and secrets cannot be read without it.")
        )
    for key_id, key in keys.items():
        if len(key) != 32 or not key_id:
            found.append(
                Error(f"Encryption key {key_id!r} is not 32 bytes in base64.", id="slipway.E003",
                      hint='Write each entry as "<id>:<base64 of 32 bytes>", separated by commas.')
            )
    return found


@register()
def check_work_directory(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E004: the work directories' base is not absolute, or exists and cannot be written."""
    path = settings.SLIPWAY.agent_base_path
    if not path.is_absolute():
        return [
            Error(f"SLIPWAY_AGENT_BASE_PATH is not an absolute path: {path}", id="slipway.E004",
                  hint="Saved plans can hold absolute paths; use the same one on every agent.")
        ]
    if path.exists() and not os.access(path, os.W_OK | os.X_OK):
        return [
            Error(f"The work directory {path} cannot be written.", id="slipway.E004",
                  hint="Change its owner, or set SLIPWAY_AGENT_BASE_PATH to another folder.")
        ]
    return []


@register(Tags.database)
def check_database(app_configs: Any, databases: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E005 not PostgreSQL 15 or newer, E006 commits are not durable."""
    if "default" not in (databases or ()):
        return []
    connection = connections["default"]
    if connection.vendor != "postgresql":
        return [
            Error("The database is not PostgreSQL.", id="slipway.E005",
                  hint="Set DATABASE_URL to postgres://user:password@host/name.")
        ]
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version_num')::int,"
                " current_setting('synchronous_commit')"
            )
            version, synchronous = cursor.fetchone()
    except DatabaseError:
        return []  # Not reachable: migrate says so itself.
    found: list[CheckMessage] = []
    if version < POSTGRESQL_MIN:
        found.append(
            Error(f"PostgreSQL {version // 10000} is too old.", id="slipway.E005",
                  hint="Slipway needs PostgreSQL 15 or newer.")
        )
    if synchronous == "off":
        found.append(
            Error("synchronous_commit is off: acknowledged state could be lost.",
                  id="slipway.E006", hint="Set synchronous_commit = on for this database.")
        )
    return found
