"""A state that Terraform could not upload (``errored.tfstate``, or its dump on stdout)."""

from __future__ import annotations

from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput, StateConflict, TooLarge
from tasks_app.models import StateLock, Task
from tasks_app.services.state import append_version, open_lock, release_lock
from tasks_app.services.state_documents import parse_state
from tasks_app.services.state_position import lock_row
from tasks_app.transitions import lock_task, record


def store_recovered_state(*, task: Task, content: bytes, actor: Actor) -> bool:
    """Take in what a run could not upload; repeating it is harmless.

    Where it follows the current state and the run was the last that had the lock it becomes the
    current version and a lock still held is released; otherwise it stays with the task as
    evidence, and a lock that the run holds stays too, until a person has looked.

    Returns:
        Whether it became the current version.
    """
    with transaction.atomic():
        lock_task(task.pk)
        lock_row(task.workspace)
        held = open_lock(task.workspace)
        if not _had_the_lock_last(task):
            reason = "its lock was taken away"
        else:
            try:
                append_version(
                    task.workspace,
                    content,
                    parse_state(content),
                    actor=actor,
                    task_id=task.pk,
                    cause="recovered after a failed upload",
                )
            except (StateConflict, InvalidInput, TooLarge) as refusal:
                reason = refusal.detail
            else:
                if held is not None:
                    release_lock(held, actor, "state.unlocked", "its state was recovered")
                return True
        record(
            "state.quarantined",
            actor=actor,
            task=task,
            cause=f"The recovered state was not made current: {reason}",
        )
    return False


def _had_the_lock_last(task: Task) -> bool:
    """Return whether nobody had the state's lock since the task's run, nor took it from it.

    Terraform itself gives the lock back after a state that it could not upload.
    """
    last = StateLock.objects.filter(workspace=task.workspace_id).order_by("-id").first()
    return last is not None and last.task_id == task.pk and last.forced_by_id is None
