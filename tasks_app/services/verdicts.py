"""What a person says of an apply whose agent vanished."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import IllegalTransition, InvalidInput
from tasks_app.models import Task
from tasks_app.permissions import Action, require
from tasks_app.services import tasks
from tasks_app.states import TRANSITIONS, Status
from tasks_app.transitions import lock_task, record

#: Not a verdict: a note for the others; the task goes on waiting for its agent.
STILL_RUNNING = "still_running"
STILL_RUNNING_EVENT = "task.still_running"
ANSWERS = (*tasks.VERDICTS, STILL_RUNNING)


def answer(*, actor: Actor, task_id: UUID, verdict: str, comment: str) -> Task:
    """Give a verdict, or note that the apply still runs.

    Raises:
        NotFound, NotPermitted, IllegalTransition; InvalidInput: verdict or comment missing.
    """
    if verdict == STILL_RUNNING:
        return note_still_running(actor=actor, task_id=task_id, comment=comment)
    if verdict not in ANSWERS:
        raise InvalidInput(f"Use one of {', '.join(ANSWERS)}.", field="verdict")
    return tasks.resolve_task(actor=actor, task_id=task_id, verdict=verdict, comment=comment)


def note_still_running(*, actor: Actor, task_id: UUID, comment: str) -> Task:
    """Write down that somebody saw the apply run on; nothing changes but the history.

    Raises:
        NotFound, NotPermitted; IllegalTransition: the apply is not unknown; InvalidInput: no
        comment.
    """
    if not comment.strip():
        raise InvalidInput("Say where you saw it run.", field="comment")
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.ACKNOWLEDGE, task)
        if task.status != Status.APPLY_UNKNOWN:
            raise IllegalTransition(
                task.status, Status.APPLY_UNKNOWN, TRANSITIONS[Status(task.status)]
            )
        record(STILL_RUNNING_EVENT, actor=actor, task=task, cause=comment)
        return task
