"""Contents that agents store with a lease and read back, streamed and encrypted at rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from django.conf import settings
from django.db import transaction

from agents_app.models import LeaseArtifact
from agents_app.schema import Artifact
from agents_app.tokens import Caller
from pods_app.leases import find_lease, get_lease
from pods_app.models import Lease
from pods_app.states import LeasePhase
from tasks_app import blobs
from tasks_app.exceptions import Conflict, InvalidInput, NotFound
from tasks_app.models import Blob, ConfigurationVersion, Plan, Task

_RETENTION = {Artifact.RECOVERED_STATE: Blob.Retention.STATE}


def store_artifact(
    caller: Caller, lease_id: UUID, epoch: int, kind: Artifact, digest: str, parts: Iterable[bytes]
) -> None:
    """Store a content; repeating the same one is harmless.

    What belongs to the plan may be replaced until the plan's end is reported and not after,
    because a person reads it then. A recovered state is never replaced, and is accepted of a
    lease that is over too: it is evidence, and may be the only copy.

    Args:
        digest: SHA-256 of the content, from the request's header.
        parts: the content in pieces of any size.

    Raises:
        NotFound, StaleLease: as `leases.get_lease`.
        InvalidInput: the content is not what the digest says.
        TooLarge: above the limit of its kind.
        Conflict: another content is final there.
    """
    _find(caller, lease_id, epoch, kind, lock=False)
    with transaction.atomic():
        blob = blobs.store(parts, _RETENTION.get(kind, Blob.Retention.PLAN), limit=_limit(kind))
        if blob.digest != digest:
            raise InvalidInput(
                f"The content's SHA-256 is {blob.digest}: damaged on the way; send it again.",
                field="Slipway-Digest",
            )
        lease = _find(caller, lease_id, epoch, kind, lock=True)
        present = (
            LeaseArtifact.objects.select_related("blob").filter(lease=lease, kind=kind).first()
        )
        if present is not None and present.blob.digest == digest:
            blob.delete()
        elif _is_final(lease, kind, present):
            raise Conflict(f"Another {kind} was stored with this lease before and is final.")
        else:
            LeaseArtifact.objects.update_or_create(lease=lease, kind=kind, defaults={"blob": blob})
            if present is not None:
                present.blob.delete()


def _find(caller: Caller, lease_id: UUID, epoch: int, kind: Artifact, *, lock: bool) -> Lease:
    find = find_lease if kind == Artifact.RECOVERED_STATE else get_lease
    return find(lease_id, epoch, caller.pod, lock=lock)


def _is_final(lease: Lease, kind: Artifact, present: LeaseArtifact | None) -> bool:
    if kind == Artifact.RECOVERED_STATE:
        return present is not None
    return lease.phase != LeasePhase.PLAN


def _limit(kind: Artifact) -> int:
    slipway = settings.SLIPWAY
    return slipway.state_bytes_max if kind == Artifact.RECOVERED_STATE else slipway.bundle_bytes_max


def size_limit() -> int:
    """Return the size of the largest artifact of any kind, in bytes."""
    return max(map(_limit, Artifact))


def read_artifact(
    caller: Caller, lease_id: UUID, epoch: int, kind: Artifact
) -> tuple[Blob, Iterator[bytes]]:
    """Return a stored content: of the task's plan, else of this lease.

    Raises:
        NotFound: there is none (any more).
        StaleLease: as `leases.get_lease`.
    """
    lease = get_lease(lease_id, epoch, caller.pod)
    blob = _of_plan(lease.task, kind) or _of_lease(lease, kind)
    if blob is None:
        raise NotFound(f"No {kind} is stored for task #{lease.task.number}.")
    return blob, blobs.read(blob)


def _of_plan(task: Task, kind: Artifact) -> Blob | None:
    column = {
        Artifact.PLAN_BUNDLE: "bundle",
        Artifact.PLAN_JSON: "json",
        Artifact.PLAN_TEXT: "text",
    }.get(kind)
    if column is None:
        return None
    plan = Plan.objects.select_related(column).filter(task=task).first()
    return getattr(plan, column) if plan else None


def _of_lease(lease: Lease, kind: Artifact) -> Blob | None:
    row = LeaseArtifact.objects.select_related("blob").filter(lease=lease, kind=kind).first()
    return row.blob if row else None


def blobs_of_lease(lease_id: UUID) -> dict[str, Blob]:
    """Return what a lease stored, by kind."""
    rows = LeaseArtifact.objects.select_related("blob").filter(lease_id=lease_id)
    return {row.kind: row.blob for row in rows}


def read_configuration(caller: Caller, lease_id: UUID, epoch: int) -> tuple[Blob, Iterator[bytes]]:
    """Return the tar.gz of the lease's task.

    Raises:
        NotFound, StaleLease: as `leases.get_lease`.
    """
    lease = get_lease(lease_id, epoch, caller.pod)
    version = ConfigurationVersion.objects.select_related("blob").get(
        pk=lease.task.configuration_id
    )
    return version.blob, blobs.read(version.blob)
