"""What a freeze does to the work of a pool, lease by lease.

Runs after the pool is marked frozen: from then on nothing new starts, so that every lease is
looked at once and for good. A lease whose pod is known to be gone ends at once; one whose agent
may still live is ending until the agent reports its process gone, and its agent is told to kill
what a permit let start.
"""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from pods_app import leases
from pods_app.leases import end, find_lease, release
from pods_app.models import Lease
from pods_app.outcomes import fence, never_locked
from pods_app.states import LeaseState
from pods_app.traces import traces
from tasks_app.actors import Actor
from tasks_app.models import StateLock, Task
from tasks_app.states import Status
from tasks_app.transitions import transition

FREEZE = Actor.system("freeze")


def cut(lease_id: UUID, *, names: str, sentence: str, gone: bool) -> None:
    """Take a lease away from its agent.

    A plan goes back to the queue. A confirmed apply without permit, and a plan that waits, go
    on waiting. A permitted apply is interrupted: it is never tried again, and its workspace
    waits until a person has looked.

    Args:
        names: of the windows, for the audit.
        sentence: why the task waits now.
        gone: the pod is known to be gone, and everything in it.
    """
    with transaction.atomic():
        found = Lease.objects.select_related("slot__pod").filter(pk=lease_id).first()
        if found is None:
            return
        lease = find_lease(lease_id, found.epoch, found.slot.pod, lock=True)
        if lease.state == LeaseState.ENDED:
            return
        cause = f"cut by the freeze {names}"[:250]
        task = lease.task
        match task.status:
            case Status.APPLYING:
                _interrupt(task, lease, cause)
            case Status.APPLY_UNKNOWN:
                fence(task, actor=FREEZE, cause=cause)
            case Status.PLANNING:
                release(lease, actor=FREEZE, reason=cause)
                _plan_later(task, lease, cause, sentence)
            case _:
                release(lease, actor=FREEZE, reason=cause)
        if gone:
            lease.refresh_from_db()
            end(lease, actor=FREEZE, reason=cause)


def _plan_later(task: Task, lease: Lease, cause: str, sentence: str) -> None:
    if task.cancel_requested_at:
        transition(task, Status.CANCELLED, actor=FREEZE, cause=cause, lease=lease)
        return
    transition(
        task,
        Status.PENDING,
        actor=FREEZE,
        cause=cause,
        lease=lease,
        waiting_reason=sentence,
        plan_attempts=max(task.plan_attempts - 1, 0),  # a freeze is no failed attempt
    )


def _interrupt(task: Task, lease: Lease, cause: str) -> None:
    """End a permitted apply, with all that a person needs to find out what became of it."""
    lock = StateLock.objects.filter(task=task, released_at=None).first()
    if never_locked(task):
        verdict = "The state was never locked, so nothing was applied."
    elif lock is not None:
        verdict = f"Its state may be incomplete, and the lock {lock.lock_id} is held."
    else:
        verdict = "Its state may be incomplete; nobody holds its lock."
    pod = lease.slot.pod
    leases.freeze(lease, actor=FREEZE, reason=cause)
    transition(
        task,
        Status.INTERRUPTED,
        actor=FREEZE,
        cause=cause,
        lease=lease,
        data=traces(task, lease),
        error=(
            f"The apply was {cause}, on pod {pod.pod_name} ({pod.pod_uid}), whose process may "
            f"still live. {verdict} Look what it did, acknowledge it, then plan again."
        ),
    )
