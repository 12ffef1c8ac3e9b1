"""What a run's token may do with a state: the second gate.

The token is signed, not stored: it names a lease, a phase and the digest of what its run is
given, and what it may do is read from the rows each time. It is inert for writing until the
permit, and stays so unless the permit was granted for a run that was given just that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db.models import F

from pods_app.models import ApplyPermit, Lease
from pods_app.states import LeasePhase, LeaseState
from tasks_app.keyring import keyring
from tasks_app.models import StateLock
from tasks_app.models.base import ClockTimestamp
from tasks_app.ports import StateGrant
from tasks_app.states import Status

_PREFIX = "slr"


#: Of a SHA-256 in hex; more would only lengthen the password.
_DIGEST_LENGTH = 16


def run_token(lease: Lease, environment_digest: str) -> str:
    """Return the state password of a lease's present phase.

    A warm-up and a hold have that of the apply, which goes on with the process they started.

    Args:
        environment_digest: SHA-256 in hex of what the run is given.
    """
    phase = LeasePhase.PLAN if lease.phase == LeasePhase.PLAN else LeasePhase.APPLY
    body = f"{_PREFIX}.{lease.pk.hex}.{phase}.{environment_digest[:_DIGEST_LENGTH]}"
    return f"{body}.{keyring().sign(body)}"


class LeaseStateAccess:
    """Implements `tasks_app.ports.StateAccess` by leases and permits."""

    def authenticate(self, token: str) -> StateGrant | None:
        """Return the grant of a run's token, None for anything else."""
        parts = token.split(".", 4)
        if len(parts) != 5 or parts[0] != _PREFIX:
            return None
        body, (phase, digest) = ".".join(parts[:4]), parts[2:4]
        if not keyring().verify(body, parts[4]):
            return None
        lease = Lease.objects.select_related("task").filter(pk=UUID(hex=parts[1])).first()
        if lease is None:
            return None
        over = lease.state == LeaseState.ENDED
        permit = _permit(lease, digest) if phase == LeasePhase.APPLY else None
        refusal = "This run is over." if over else _lock_refusal(lease, phase, permit)
        writes = permit is not None and permit.mine and _holds_lock(lease)
        if over:
            writes = writes and _outlives_freeze(lease)
        return StateGrant(
            workspace_id=lease.task.workspace_id,
            task_id=lease.task_id,
            lease_id=lease.pk,
            may_read=not over or writes,
            may_lock=not refusal,
            may_write=writes,
            refusal=refusal,
        )


@dataclass(frozen=True)
class _Permit:
    """A lease's permit, as far as a token is concerned.

    Args:
        mine: it was granted for a run that was given what the token's run was given.
        valid: its time is not over.
    """

    mine: bool
    valid: bool


def _permit(lease: Lease, digest: str) -> _Permit | None:
    row = (
        ApplyPermit.objects.filter(lease=lease)
        .annotate(left=F("expires_at") - ClockTimestamp())
        .values_list("environment_digest", "left")
        .first()
    )
    if row is None:
        return None
    granted_for, left = row
    return _Permit(granted_for[:_DIGEST_LENGTH] == digest, left > timedelta(0))


def _outlives_freeze(lease: Lease) -> bool:
    """Whether a freeze took the pod of an apply whose process may still live.

    Nothing that it reports counts, but what it stores under its lock is the only record of what
    it made, and nobody else writes until a person has looked and the lock is released.
    """
    task = lease.task
    return (
        lease.frozen_at is not None
        and task.status == Status.INTERRUPTED
        and task.acknowledged_at is None
    )


def _holds_lock(lease: Lease) -> bool:
    return StateLock.objects.filter(lease_id=lease.pk, released_at=None).exists()


def _lock_refusal(lease: Lease, phase: str, permit: _Permit | None) -> str:
    """Return why this lease may not lock the state now; empty if it may."""
    if phase != LeasePhase.APPLY:
        return "A plan reads the state without locking it."
    if permit is not None and not permit.mine:
        return "The apply was permitted for a run with other variables or credentials than this."
    if permit is not None and _holds_lock(lease):
        return ""  # LOCK is idempotent by its ID; the backend compares it.
    if permit is None or lease.task.status != Status.APPLYING:
        return f"The task is {lease.task.status}: no apply is permitted."
    if not permit.valid:
        return "The apply permit is not valid any more; nothing was applied."
    return ""
