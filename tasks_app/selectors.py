"""Reads that several parts need."""

from __future__ import annotations

from django.db.models import Case, IntegerField, QuerySet, Value, When

from tasks_app.models import Task, Workspace
from tasks_app.states import FINAL, OCCUPYING, Status, TaskType

#: Of tasks that wait for a slot: confirmed first, then what people wait for.
_ORDER = Case(
    When(status=Status.CONFIRMED, then=Value(0)),
    When(type=TaskType.PLAN_AND_APPLY, then=Value(1)),
    When(type=TaskType.PLAN, then=Value(2)),
    default=Value(3),
    output_field=IntegerField(),
)


def startable_order() -> QuerySet[Task]:
    """Return the tasks that wait for a lease, in the order they shall be tried."""
    return Task.objects.filter(status__in=[Status.PENDING, Status.CONFIRMED]).order_by(_ORDER, "id")


def occupying(workspace: Workspace) -> QuerySet[Task]:
    """Return the plan_and_apply that occupies the workspace, if any."""
    return Task.objects.filter(
        workspace=workspace, type=TaskType.PLAN_AND_APPLY, status__in=OCCUPYING
    )


def blocked_by(task: Task) -> str:
    """Return, as one sentence, what in its workspace keeps a task from starting; "" if nothing.

    plan and drift_check run beside everything; plan_and_apply one at a time, oldest first.
    """
    workspace = task.workspace
    if workspace.locked_at:
        who = workspace.locked_by.get_username() if workspace.locked_by else "somebody"
        return f"The workspace is locked by {who}: {workspace.lock_reason}"
    if task.type != TaskType.PLAN_AND_APPLY:
        return ""
    hold = (
        Task.objects.filter(
            workspace=workspace,
            status=Status.INTERRUPTED,
            acknowledged_at=None,
            confirmed_at__isnull=False,
        )
        .exclude(pk=task.pk)
        .first()
    )
    if hold is not None:
        return f"Waits until somebody acknowledges that the apply of #{hold.number} was cut off"
    if task.status != Status.PENDING:
        return ""
    ahead = list(
        Task.objects.filter(workspace=workspace, type=TaskType.PLAN_AND_APPLY, pk__lt=task.pk)
        .exclude(status__in=FINAL)
        .order_by("id")
        .values_list("number", "status")
    )
    late = occupying(workspace).filter(pk__gt=task.pk).values_list("number", "status")
    ahead = [*late, *ahead]
    if not ahead:
        return ""
    number, status = ahead[0]
    words = Status(status).label.lower()
    return f"Waits for #{number} ({words}) · position {len(ahead)} in this workspace"
