"""What lies ready for an apply, as agents tell it."""

from __future__ import annotations

from uuid import UUID

from agents_app.schema import WarmupReport
from agents_app.tokens import Caller
from pods_app import warmups


def warmup(caller: Caller, lease_id: UUID, epoch: int, message: WarmupReport) -> None:
    """Record what is ready, or why it is not. Repeating it is harmless.

    Raises:
        NotFound, StaleLease, Conflict: as `warmups.warmup_reported`.
    """
    warmups.warmup_reported(
        lease_id=lease_id,
        epoch=epoch,
        pod=caller.pod,
        report=warmups.Report(**message.model_dump()),
    )
