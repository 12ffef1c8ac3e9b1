"""What a task's news means for pods: runs inside the transaction that makes the news.

This is how a confirmation and its lease commit together.
"""

from __future__ import annotations

from typing import Any

from pods_app.dispatch import DISPATCH, dispatch_task
from pods_app.leases import lease_of, release
from pods_app.models import Lease
from pods_app.notify import notify_agent, notify_controller
from pods_app.outcomes import fence
from pods_app.room import use_room
from pods_app.services import place_in_pool
from pods_app.warmups import warm_pass
from tasks_app.after_commit import after_commit
from tasks_app.models import StateLock, Task
from tasks_app.states import FINAL, Status
from tasks_app.transitions import lock_task


def on_task_created(sender: Any, task: Task, **kwargs: Any) -> None:
    """Record the pool and try to start at once."""
    place_in_pool(task)
    if dispatch_task(task):
        notify_controller()  # the pool may have to grow


def on_task_transitioned(
    sender: Any, task: Task, source: Status, target: Status, **kwargs: Any
) -> None:
    """Keep leases in step with the task."""
    if target == Status.CONFIRMED:
        if dispatch_task(task):
            notify_controller()
    elif target in FINAL:
        _let_go(task, source, target)
    if target in FINAL or target == Status.PENDING:
        use_room(task.placement.pool_id)


def _let_go(task: Task, source: Status, target: Status) -> None:
    if source == Status.APPLY_UNKNOWN:
        # A person's verdict: whatever its agent still does.
        fence(task, actor=DISPATCH, cause="fenced by a verdict")
    elif (lease := lease_of(task)) is not None:
        release(lease, actor=DISPATCH, reason=f"the task is {target}")


def on_lease_ended(sender: Any, lease: Lease, **kwargs: Any) -> None:
    """Its slot is free: place what waits for one."""
    use_room(lease.slot.pod.pool_id)


def on_warmup_wanted(sender: Any, task: Task, **kwargs: Any) -> None:
    """A person asked for it."""
    after_commit(warm_pass, {task.placement.pool_id})


def on_state_unlocked_by_force(sender: Any, lock: StateLock, **kwargs: Any) -> None:
    """The holder's later writes are refused; so is all else its lease could do."""
    if lock.task_id and lock.lease_id:
        fence(
            lock_task(lock.task_id),
            actor=DISPATCH,
            cause="the state lock was taken away by force",
        )


def on_cancel_requested(sender: Any, task: Task, **kwargs: Any) -> None:
    """Wake the agent that runs the task."""
    lease = lease_of(task)
    if lease is not None:
        notify_agent(lease.slot.pod.agent_id)
