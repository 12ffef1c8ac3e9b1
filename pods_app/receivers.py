"""What a task's news means for pods: runs inside the transaction that makes the news.

This is how a confirmation and its lease commit together.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from pods_app.dispatch import DISPATCH, dispatch_task, fill_slots
from pods_app.leases import end, lease_of, release
from pods_app.notify import notify_agent
from pods_app.services import place_in_pool
from tasks_app.models import Task
from tasks_app.states import FINAL, Status


def on_task_created(sender: Any, task: Task, **kwargs: Any) -> None:
    """Record the pool and try to start at once."""
    place_in_pool(task)
    dispatch_task(task)


def on_task_transitioned(
    sender: Any, task: Task, source: Status, target: Status, **kwargs: Any
) -> None:
    """Keep leases in step with the task."""
    if target == Status.CONFIRMED:
        dispatch_task(task)
    elif target in FINAL:
        _let_go(task, source, target)
        transaction.on_commit(fill_slots, robust=True)
    elif target == Status.PENDING:
        transaction.on_commit(fill_slots, robust=True)


def _let_go(task: Task, source: Status, target: Status) -> None:
    lease = lease_of(task)
    if lease is None:
        return
    if source == Status.APPLY_UNKNOWN:
        # A person's verdict: the lease is fenced, whatever its agent still does.
        end(lease, actor=DISPATCH, reason="fenced by a verdict")
    else:
        release(lease, actor=DISPATCH, reason=f"the task is {target}")


def on_cancel_requested(sender: Any, task: Task, **kwargs: Any) -> None:
    """Wake the agent that runs the task."""
    lease = lease_of(task)
    if lease is not None:
        notify_agent(lease.slot.pod.agent_id)
