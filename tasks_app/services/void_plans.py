"""Plans that cannot be applied any more, because the state they were made on moved."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.models import Task, Workspace
from tasks_app.states import Status, TaskType
from tasks_app.transitions import lock_task, transition

#: Lineage and serial; ("", None) where there is no state yet.
Position = tuple[str, int | None]


def void_plans_not_made_on(workspace: Workspace, position: Callable[[], Position]) -> int:
    """Discard waiting plans that were made on another state; returns how many.

    Called after the version is committed: a confirmation that comes between is refused by its
    own check, and a permit by its own.

    Args:
        position: reads the present position and keeps it; called under each task's lock.
    """
    waiting = Task.objects.filter(
        workspace=workspace,
        type=TaskType.PLAN_AND_APPLY,
        status=Status.APPLY_PENDING,
        state_backend=Workspace.StateBackend.SLIPWAY,
    )
    voided = 0
    for task_id in waiting.values_list("pk", flat=True):
        with transaction.atomic():
            voided += void_if_moved(lock_task(task_id), position())
    return voided


def void_if_moved(task: Task, position: Position) -> bool:
    """Discard a waiting plan if it was made on another state; the caller holds the task's row."""
    planned_on = (task.plan.state_lineage, task.plan.state_serial)
    if task.status != Status.APPLY_PENDING or planned_on == position:
        return False
    transition(
        task,
        Status.DISCARDED,
        actor=Actor.system("state"),
        cause=f"the plan became void: the state moved from serial {planned_on[1]} to {position[1]}",
    )
    return True
