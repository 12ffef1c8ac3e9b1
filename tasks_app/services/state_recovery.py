"""A state that Terraform could not upload (``errored.tfstate``, or its dump on stdout)."""

from __future__ import annotations

import hashlib

from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput, StateConflict, TooLarge
from tasks_app.models import StateLock, StateVersion, Task
from tasks_app.permissions import Action, require
from tasks_app.services.state import append_version, open_lock, refuse_in_use, release_lock
from tasks_app.services.state_documents import parse_state, with_serial
from tasks_app.services.state_position import current_version, lock_row
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


def make_recovered_state_current(
    *, actor: Actor, task: Task, content: bytes, comment: str = ""
) -> StateVersion:
    """Make a state that was saved of a task's apply current: the decision of a person.

    Its serial is raised where the current one is as high.

    Raises:
        NotFound, NotPermitted, InvalidInput, TooLarge.
        StateConflict: it belongs to another lineage.
        StateLocked: the state is locked, maybe still by the run; force the lock open first.
        Conflict: a task applies, or it is the current version.
    """
    require(actor, Action.WRITE_STATE, task)
    facts = parse_state(content)
    with transaction.atomic():
        lock_row(task.workspace)
        refuse_in_use(task.workspace)
        current = current_version(task.workspace)
        if current is not None and current.digest == hashlib.sha256(content).hexdigest():
            raise Conflict(f"It is the current version, serial {current.serial}.")
        if current is not None and facts.serial <= current.serial:
            content = with_serial(content, current.serial + 1)
            facts = parse_state(content)
        return append_version(
            task.workspace,
            content,
            facts,
            actor=actor,
            task_id=task.pk,
            cause=comment or f"recovered from #{task.number}",
        )


def _had_the_lock_last(task: Task) -> bool:
    """Return whether nobody had the state's lock since the task's run, nor took it from it.

    Terraform itself gives the lock back after a state that it could not upload.
    """
    last = StateLock.objects.filter(workspace=task.workspace_id).order_by("-id").first()
    return last is not None and last.task_id == task.pk and last.forced_by_id is None
