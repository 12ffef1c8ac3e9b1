"""What a run's token may do with a state: the second gate.

The token is signed, not stored: it names a lease, a phase and the digest of what its run is
given, and what it may do is read from the rows each time. It is inert for writing until the
permit, and stays so unless the permit was granted for a run that was given just that.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from pods_app.models import Lease
from pods_app.states import LeasePhase, LeaseState
from tasks_app.keyring import keyring
from tasks_app.models import Workspace
from tasks_app.models.base import columns
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
        facts = _facts(UUID(hex=parts[1]), digest)
        if facts is None:
            return None
        over = facts.lease_state == LeaseState.ENDED
        refusal = "This run is over." if over else _lock_refusal(facts, phase)
        writes = phase == LeasePhase.APPLY and bool(facts.mine) and facts.locked
        if over:
            writes = writes and facts.outlives_freeze
        return StateGrant(
            workspace=facts.workspace,
            task_id=facts.task_id,
            lease_id=facts.lease_id,
            may_read=not over or writes,
            may_lock=not refusal,
            may_write=writes,
            refusal=refusal,
        )


class _Facts(NamedTuple):
    """What a token is judged by."""

    workspace: Workspace
    lease_id: UUID
    lease_state: str
    task_id: UUID
    task_status: str
    #: A freeze took the pod of an apply whose process may still live. Nothing that it reports
    #: counts, but what it stores under its lock is the only record of what it made, and nobody
    #: else writes until a person has looked and the lock is released.
    outlives_freeze: bool
    #: The permit was granted for a run that was given what the token's run was given, and its
    #: time is not over; None: there is no permit.
    mine: bool | None
    valid: bool | None
    locked: bool  # the state, under this lease


#: One question: an apply asks it three times before its first action, and a person waits.
_FACTS = f"""
SELECT {columns(Workspace, "workspace")},
    lease.id AS lease_id,
    lease.state AS lease_state,
    lease.task_id,
    task.status AS task_status,
    lease.frozen_at IS NOT NULL AND task.status = 'interrupted' AND task.acknowledged_at IS NULL
        AS outlives_freeze,
    left(permit.environment_digest, %s) = %s AS mine,
    permit.expires_at > clock_timestamp() AS valid,
    EXISTS (
        SELECT FROM tasks_app_statelock held
        WHERE held.lease_id = lease.id AND held.released_at IS NULL
    ) AS locked
FROM pods_app_lease lease
JOIN workspace_tasks task ON task.id = lease.task_id
JOIN tasks_app_workspace workspace ON workspace.id = task.workspace_id
LEFT JOIN pods_app_applypermit permit ON permit.lease_id = lease.id
WHERE lease.id = %s
"""


def _facts(lease_id: UUID, digest: str) -> _Facts | None:
    found: Any = Workspace.objects.raw(_FACTS, [_DIGEST_LENGTH, digest, lease_id])
    for row in found:  # a workspace with annotations
        return _Facts(row, *(getattr(row, name) for name in _Facts._fields[1:]))
    return None


def _lock_refusal(facts: _Facts, phase: str) -> str:
    """Return why this lease may not lock the state now; empty if it may."""
    if phase != LeasePhase.APPLY:
        return "A plan reads the state without locking it."
    if facts.mine is False:
        return "The apply was permitted for a run with other variables or credentials than this."
    if facts.mine and facts.locked:
        return ""  # LOCK is idempotent by its ID; the backend compares it.
    if not facts.mine or facts.task_status != Status.APPLYING:
        return f"The task is {facts.task_status}: no apply is permitted."
    if not facts.valid:
        return "The apply permit is not valid any more; nothing was applied."
    return ""
