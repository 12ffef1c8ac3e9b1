"""The only writer of `Task.status`: a guarded UPDATE and its audit row, in one transaction."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Manager, QuerySet
from django.db.models.sql import UpdateQuery

from tasks_app.actors import Actor
from tasks_app.exceptions import IllegalTransition, NotFound
from tasks_app.models import Event, Task
from tasks_app.models.base import ClockTimestamp, columns
from tasks_app.signals import task_transitioned
from tasks_app.states import FINAL, TRANSITIONS, WAITING, Status, WarmupStatus, sources_of

#: The time a status sets when it is entered.
_TIMES = {
    Status.PLANNING: "started_at",
    Status.APPLY_PENDING: "planned_at",
    Status.CONFIRMED: "confirmed_at",
}

#: Nothing lies ready for a task that is over; its status says so, no event of the warm-up.
_NOT_WARM = {
    "warmup_status": WarmupStatus.NONE,
    "warmup_agent_id": None,
    "warmup_expires_at": None,
    "warmup_retry_at": None,
}


def lock_task(task_id: UUID) -> Task:
    """Return the task with its row locked until the end of the transaction.

    Rows that only refer to the task (logs, steps, audit) can be written beside the lock.

    Raises:
        NotFound: there is no such task.
    """
    try:
        return locked(Task.objects).get(pk=task_id)
    except Task.DoesNotExist:
        raise NotFound(f"There is no task {task_id}.") from None


def lock_task_row(task_id: UUID) -> None:
    """Lock a task's row as :func:`lock_task` does, for whoever needs nothing of what it says."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM workspace_tasks WHERE id = %s FOR NO KEY UPDATE", [task_id])


def locked(tasks: Manager[Task] | QuerySet[Task]) -> QuerySet[Task]:
    """Return the same tasks, each with its row locked until the end of the transaction."""
    return tasks.select_for_update(of=("self",), no_key=True).select_related("workspace")


def transition(
    task: Task,
    target: Status,
    *,
    actor: Actor,
    cause: str,
    sources: Collection[Status] | None = None,
    lease: Any = None,
    data: dict[str, Any] | None = None,
    **fields: Any,
) -> Task:
    """Move ``task`` to ``target`` and write the event, or change nothing.

    Args:
        sources: narrows the legal sources further.
        lease: what caused it, with ``id`` and ``epoch``, for the audit row.
        fields: other columns of the task written by the same UPDATE.

    Returns:
        The same object, its columns refreshed. A workspace that was read with it stays as it
        was read: what must be true of it now is read under its row's lock.

    Raises:
        IllegalTransition: the task's current status does not lead to ``target``.
    """
    allowed = [s for s in sources_of(target) if sources is None or s in sources]
    with transaction.atomic():
        if target in _TIMES:
            fields.setdefault(_TIMES[target], ClockTimestamp())
        if target in FINAL:
            fields = {"finished_at": ClockTimestamp(), **_NOT_WARM, **fields}
        fields.setdefault("waiting_reason", WAITING.get(target, ""))
        changes = {"status": target, **fields}
        # The status that was read is nearly always the present one, and then one statement does.
        source = Status(task.status)
        if source not in allowed or not _update(task, source, changes):
            source = Status(_locked_status(task))
            if source not in allowed or not _update(task, source, changes):
                raise IllegalTransition(source, target, TRANSITIONS[source])
        Event.objects.create(
            kind=f"task.{target}",
            task_id=task.pk,
            workspace_id=task.workspace_id,
            from_status=source,
            to_status=target,
            actor=actor.name,
            user=actor.user,
            cause=cause,
            lease_id=getattr(lease, "id", None),
            epoch=getattr(lease, "epoch", None),
            data=data or {},
        )
        task_transitioned.send(sender=Task, task=task, source=source, target=target)
    return task


def _update(task: Task, source: Status, changes: dict[str, Any]) -> bool:
    """Change the row if it has this status, and read ``task`` from it; False if it has not.

    One statement; Django's own ``update`` cannot return the row.
    """
    row = Task.objects.filter(pk=task.pk, status=source)
    query = cast(UpdateQuery, row.query.chain(UpdateQuery))
    query.add_update_values(changes)
    statement, values = query.get_compiler(row.db).as_sql()
    returned = columns(Task, Task._meta.db_table)
    changed = list(Task.objects.raw(f"{statement} RETURNING {returned}", values))
    if not changed:
        return False
    for field in Task._meta.concrete_fields:
        setattr(task, field.attname, getattr(changed[0], field.attname))
    for relation in Task._meta.related_objects:
        if relation.is_cached(task):
            relation.delete_cached_value(task)
    return True


def _locked_status(task: Task) -> str:
    row = Task.objects.select_for_update(of=("self",), no_key=True)
    return row.values_list("status", flat=True).get(pk=task.pk)


def record(
    kind: str,
    *,
    actor: Actor,
    task: Task | UUID | None = None,
    workspace: Any = None,
    cause: str = "",
    lease: Any = None,
    data: dict[str, Any] | None = None,
) -> Event:
    """Write an audit row for something that is not a change of status.

    Args:
        task: its id is enough where the workspace is given, too.
        workspace: the task's by default.
    """
    about: Any = workspace if workspace is not None else getattr(task, "workspace_id", None)
    workspace_id: UUID | None = getattr(about, "pk", about)
    return Event.objects.create(
        kind=kind,
        task_id=getattr(task, "pk", task),
        workspace_id=workspace_id,
        actor=actor.name,
        user=actor.user,
        cause=cause,
        lease_id=getattr(lease, "id", None),
        epoch=getattr(lease, "epoch", None),
        data=data or {},
    )


def next_task_number(workspace_id: UUID) -> int:
    """Take the next number of a workspace; the row lock makes it unique."""
    from tasks_app.models import Workspace

    Workspace.objects.filter(pk=workspace_id).update(last_task_number=F("last_task_number") + 1)
    return Workspace.objects.values_list("last_task_number", flat=True).get(pk=workspace_id)
