"""Configuration versions: checked before anything is stored, immutable afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import IO

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.archives import ArchiveLimits, check_archive
from tasks_app.exceptions import TooLarge
from tasks_app.models import Blob, ConfigurationVersion, Workspace
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

_READ_BYTES = 1 << 20


def archive_limits() -> ArchiveLimits:
    """Return the limits of the installation."""
    slipway = settings.SLIPWAY
    return ArchiveLimits(
        unpacked_bytes=slipway.archive_unpacked_bytes_max,
        files=slipway.archive_files_max,
        ratio=slipway.archive_ratio_max,
    )


def store_configuration(
    *, actor: Actor, workspace: Workspace, archive: IO[bytes], source: str, message: str = ""
) -> ConfigurationVersion:
    """Check a tar.gz and store it as the workspace's next configuration version.

    Args:
        archive: seekable, at any position.

    Raises:
        NotFound, NotPermitted: by role.
        TooLarge, ArchiveRefused: nothing is stored.
    """
    require(actor, Action.UPLOAD_CONFIGURATION, workspace)
    size = archive.seek(0, 2)
    limit = settings.SLIPWAY.archive_bytes_max
    if size > limit:
        raise TooLarge(f"The archive has {size} bytes, more than the allowed {limit}.")
    archive.seek(0)
    facts = check_archive(archive, size, archive_limits())
    archive.seek(0)
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
        last = workspace.configurations.aggregate(last=Max("number"))["last"] or 0
        blob = blobs.store(
            iter(partial(archive.read, _READ_BYTES), b""), Blob.Retention.CONFIGURATION
        )
        version = ConfigurationVersion.objects.create(
            workspace=workspace,
            number=last + 1,
            source=source,
            digest=blob.digest,
            size=blob.size,
            blob=blob,
            message=message[:250],
            created_by=actor.user,
        )
        record(
            "configuration.stored",
            actor=actor,
            workspace=workspace,
            cause=message,
            data={"number": version.number, "bytes": blob.size, "files": facts.files},
        )
    return version


def read_configuration(configuration: ConfigurationVersion) -> Iterator[bytes]:
    """Yield the tar.gz in pieces.

    Raises:
        DecryptionFailed.
    """
    return blobs.read(configuration.blob)
