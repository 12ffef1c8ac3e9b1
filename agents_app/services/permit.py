"""The apply permit, as agents ask for it."""

from __future__ import annotations

from uuid import UUID

from agents_app.schema import PermitReply, PermitRequest
from agents_app.tokens import Caller
from pods_app import permits
from pods_app.incarnation import doubt_if_unknown


def permit(caller: Caller, lease_id: UUID, epoch: int, message: PermitRequest) -> PermitReply:
    """Grant the permit, or raise the reason why not; the same key gets the same answer.

    Raises:
        NotFound, StaleLease, PermitRefused, PlanVoid: as `permits.grant`.
    """
    leases = {known for known in (message.newest_lease,) if known and known != lease_id}
    permitted = {known for known in (message.newest_permit,) if known}
    if leases or permitted:
        # What it says is stored; the permit asks for it under its locks.
        doubt_if_unknown(caller.pod, message.incarnation, leases, permitted)
    seconds = permits.grant(
        lease_id=lease_id,
        epoch=epoch,
        pod=caller.pod,
        key=message.key,
        plan_hash=message.plan_hash,
        manifest_digest=message.manifest_digest,
        path=message.path,
        path_reason=message.path_reason,
        environment_digest=message.environment_digest,
    )
    return PermitReply(valid_seconds=seconds)
