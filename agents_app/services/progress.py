"""Steps of a run with their durations, counted from when the phase was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from agents_app.schema import Phase, ProgressRequest, Step
from agents_app.tokens import Caller
from pods_app.leases import get_lease
from pods_app.models import Lease
from pods_app.states import LeasePhase
from tasks_app.models import TaskStep

#: From asking (task created, or confirmed) to the slot, and from the slot to the agent's having it.
QUEUE, PLACEMENT = "queue", "placement"


def progress(caller: Caller, lease_id: UUID, epoch: int, message: ProgressRequest) -> None:
    """Store steps that are over; a step named before is written anew.

    Raises:
        NotFound, StaleLease: as `leases.get_lease`.
    """
    lease = get_lease(lease_id, epoch, caller.pod)
    store_steps(lease, message.phase, message.steps)


def store_steps(lease: Lease, phase: Phase, steps: Iterable[Step]) -> None:
    """Write an agent's steps, and before them how long the phase waited for slot and agent.

    Nobody waits for a warm-up: its steps stand alone.

    Args:
        lease: as it was when the steps were reported, with its task.
    """
    if phase == Phase.WARMUP and lease.phase != LeasePhase.PLAN:
        _write(lease, phase, steps)
        return
    if lease.phase != phase:
        return  # a repeated report; the times of this phase are gone from the lease
    task = lease.task
    asked = (phase == Phase.APPLY and task.confirmed_at) or task.created_at
    queue = max((lease.phase_at - asked).total_seconds() * 1000, 0.0)
    placement = 0.0
    if lease.delivered_at is not None:
        placement = max((lease.delivered_at - lease.phase_at).total_seconds() * 1000, 0.0)
    rows = {
        QUEUE: Step(name=QUEUE, started_ms=0, duration_ms=queue),
        PLACEMENT: Step(name=PLACEMENT, started_ms=queue, duration_ms=placement),
    }
    for step in steps:
        rows[step.name] = step.model_copy(
            update={"started_ms": queue + placement + step.started_ms}
        )
    _write(lease, phase, rows.values())


def _write(lease: Lease, phase: Phase, steps: Iterable[Step]) -> None:
    TaskStep.objects.bulk_create(
        [
            TaskStep(
                task_id=lease.task_id,
                phase=phase,
                lease_id=lease.pk,
                name=step.name,
                started_ms=step.started_ms,
                duration_ms=step.duration_ms,
                detail=step.detail,
            )
            for step in {step.name: step for step in steps}.values()
        ],
        update_conflicts=True,
        unique_fields=["task", "phase", "lease_id", "name"],
        update_fields=["started_ms", "duration_ms", "detail"],
    )
