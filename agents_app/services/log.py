"""Log bytes from agents: acknowledged only after the commit."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from agents_app.schema import LogReply, Phase
from agents_app.services.log_net import masked
from agents_app.tokens import Caller
from pods_app.leases import get_lease
from pods_app.states import LeasePhase
from tasks_app.exceptions import Conflict
from tasks_app.services.logs import append_log, log_size


def append(
    caller: Caller, lease_id: UUID, epoch: int, phase: Phase, offset: int, data: bytes
) -> LogReply:
    """Store log bytes that begin at ``offset`` of the redacted stream.

    A repeated piece is ignored; one after a gap is not stored, and the reply says where to
    continue. What comes after the phase's end was recorded is a repetition.

    Raises:
        NotFound, StaleLease: as `leases.get_lease`.
        Conflict: the lease has not come to that phase.
    """
    lease = get_lease(lease_id, epoch, caller.pod)
    if phase == Phase.APPLY and lease.phase != LeasePhase.APPLY:
        raise Conflict(f"The lease is in its phase “{lease.phase}”: there is no apply to log.")
    if phase == Phase.WARMUP and lease.phase == LeasePhase.PLAN:
        raise Conflict("The lease is in its phase “plan”: there is no warm-up to log.")
    if phase == Phase.PLAN and lease.phase != LeasePhase.PLAN:
        return LogReply(next_offset=log_size(lease.task, phase))
    with transaction.atomic():
        clean = masked(lease, phase, offset, data)
        stored = append_log(
            task=lease.task, phase=phase, lease_id=lease.pk, offset=offset, data=clean
        )
    return LogReply(next_offset=stored)
