"""What a run's token may do with a state: the second gate.

The token is signed, not stored: it names a lease and a phase, and what it may do is read from
the rows each time. Made for one phase of one lease, it is inert for writing until the permit.
"""

from __future__ import annotations

from uuid import UUID

from pods_app.models import ApplyPermit, Lease
from pods_app.states import LeasePhase, LeaseState
from tasks_app.keyring import keyring
from tasks_app.models import StateLock
from tasks_app.models.base import ClockTimestamp
from tasks_app.ports import StateGrant
from tasks_app.states import Status

_PREFIX = "slr"


def run_token(lease: Lease) -> str:
    """Return the state password of a lease's present phase."""
    body = f"{_PREFIX}.{lease.pk.hex}.{lease.phase}"
    return f"{body}.{keyring().sign(body)}"


class LeaseStateAccess:
    """Implements `tasks_app.ports.StateAccess` by leases and permits."""

    def authenticate(self, token: str) -> StateGrant | None:
        """Return the grant of a run's token, None for anything else."""
        parts = token.split(".", 3)
        if len(parts) != 4 or parts[0] != _PREFIX:
            return None
        body = ".".join(parts[:3])
        if not keyring().verify(body, parts[3]):
            return None
        lease = Lease.objects.select_related("task").filter(pk=UUID(hex=parts[1])).first()
        if lease is None:
            return None
        over = lease.state == LeaseState.ENDED
        refusal = "This run is over." if over else _lock_refusal(lease, parts[2])
        return StateGrant(
            workspace_id=lease.task.workspace_id,
            task_id=lease.task_id,
            lease_id=lease.pk,
            may_read=not over,
            may_lock=not refusal,
            may_write=not over and parts[2] == LeasePhase.APPLY and _holds_lock(lease),
            refusal=refusal,
        )


def _holds_lock(lease: Lease) -> bool:
    return StateLock.objects.filter(lease_id=lease.pk, released_at=None).exists()


def _lock_refusal(lease: Lease, phase: str) -> str:
    """Return why this lease may not lock the state now; empty if it may."""
    if phase != LeasePhase.APPLY:
        return "A plan reads the state without locking it."
    if _holds_lock(lease):
        return ""  # LOCK is idempotent by its ID; the backend compares it.
    if lease.task.status != Status.APPLYING:
        return f"The task is {lease.task.status}: no apply is permitted."
    live = ApplyPermit.objects.filter(lease=lease, expires_at__gt=ClockTimestamp())
    if not live.exists():
        return "The apply permit is not valid any more; nothing was applied."
    return ""
