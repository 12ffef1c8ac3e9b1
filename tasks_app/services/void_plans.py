"""Plans that cannot be applied any more, because the state they were made on moved."""

from __future__ import annotations

from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery

from tasks_app.actors import Actor
from tasks_app.models import StateVersion, Task, Workspace
from tasks_app.services.state_position import Position, locked_state_position
from tasks_app.states import Status, TaskType
from tasks_app.transitions import lock_task, transition


def _waiting() -> QuerySet[Task]:
    return Task.objects.filter(
        type=TaskType.PLAN_AND_APPLY,
        status=Status.APPLY_PENDING,
        state_backend=Workspace.StateBackend.SLIPWAY,
    )


def void_outdated_plans(workspace: Workspace) -> int:
    """Discard a workspace's waiting plans that were made on another state; returns how many.

    Called after the version is committed and outside any transaction: each task is locked
    before the workspace, whose row the writer of the version held. A confirmation that comes
    between is refused by its own check, and a permit by its own.
    """
    voided = 0
    for task_id in _waiting().filter(workspace=workspace).values_list("pk", flat=True):
        with transaction.atomic():
            voided += void_if_moved(lock_task(task_id), locked_state_position(workspace))
    return voided


def void_moved_plans() -> int:
    """Discard every waiting plan whose state moved, whoever failed to; returns how many."""
    newest = StateVersion.objects.filter(workspace=OuterRef("workspace")).order_by("-serial")
    waiting = _waiting().annotate(
        lineage=Subquery(newest.values("lineage")[:1]), serial=Subquery(newest.values("serial")[:1])
    )
    moved = {
        workspace_id
        for workspace_id, lineage, serial, planned_lineage, planned_serial in waiting.values_list(
            "workspace_id", "lineage", "serial", "plan__state_lineage", "plan__state_serial"
        )
        if (lineage or "", serial) != (planned_lineage, planned_serial)
    }
    return sum(map(void_outdated_plans, Workspace.objects.filter(pk__in=moved)))


def void_if_moved(task: Task, position: Position) -> bool:
    """Discard a waiting plan if it was made on another state; the caller holds the task's row."""
    planned_on = (task.plan.state_lineage, task.plan.state_serial)
    if task.status != Status.APPLY_PENDING or planned_on == position:
        return False
    was, now = (_words(serial) for _, serial in (planned_on, position))
    cause = f"the plan became void: the state moved from {was} to {now}"
    transition(
        task,
        Status.DISCARDED,
        actor=Actor.system("state"),
        cause=cause,
        error=f"{cause[0].upper()}{cause[1:]}. Nothing was applied; plan again.",
    )
    return True


def _words(serial: int | None) -> str:
    return "no state" if serial is None else f"serial {serial}"
