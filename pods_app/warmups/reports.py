"""What an agent says of a warm-up."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from pods_app.leases import get_lease, release, warmed
from pods_app.models import Lease, ManagedPod
from pods_app.states import LeasePhase, LeaseState
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict
from tasks_app.services import warmups


@dataclass(frozen=True)
class Report:
    """What lies ready on an agent; as schema.WarmupReport."""

    ready: bool
    held: bool = False
    restored: bool = False
    reason: str = ""
    permanent: bool = False


def warmup_reported(*, lease_id: UUID, epoch: int, pod: ManagedPod, report: Report) -> None:
    """Record what lies ready for a task's apply. Repeating it is harmless.

    An agent that could not make it ready gives its slot back; the apply then takes the normal
    path, or another agent warms it. While the apply is asked for, only what is held is noted.

    Raises:
        NotFound, StaleLease: as `leases.get_lease`.
        Conflict: the lease has not come to a warm-up.
    """
    actor = Actor.agent(pod.agent_id)
    with transaction.atomic():
        lease = get_lease(lease_id, epoch, pod, lock=True)
        if lease.phase == LeasePhase.PLAN:
            raise Conflict("The lease is in its phase “plan”: there is no plan to be ready for.")
        if lease.state == LeaseState.ENDING:
            return  # it was asked to let go; nothing is to be made of what it has
        _note(lease, report)
        if lease.phase == LeasePhase.APPLY:
            return
        if report.ready:
            warmed(lease)
            warmups.ready(lease.task, agent_id=pod.agent_id, actor=actor, lease=lease)
        else:
            cause = report.reason or "The agent could not make the directory ready."
            fail(lease, cause=cause, permanent=report.permanent, actor=actor)


def _note(lease: Lease, report: Report) -> None:
    """Store what the agent has, if that is news."""
    facts = {
        "held": report.held,
        "hold_reason": report.reason,
        "restored": report.restored,
    }
    if any(getattr(lease, name) != value for name, value in facts.items()):
        Lease.objects.filter(pk=lease.pk).update(**facts)


def fail(lease: Lease, *, cause: str, permanent: bool, actor: Actor) -> bool:
    """Note a failure and have the agent give its slot back.

    Not if the plan was confirmed meanwhile: its agent goes on, by the normal path if need be.
    """
    failed = warmups.fail(lease.task, cause=cause, permanent=permanent, actor=actor, lease=lease)
    return failed and release(lease, actor=actor, reason=f"not ready: {cause}"[:250])
