"""State: append-only encrypted versions and Terraform's lock.

Lock order: the task's row first (where one is named), then the workspace's row, which
serialises everybody who writes or locks its state. Confirmations and permits hold the task's
row and read the position; a version that was stored voids waiting plans once it is committed,
each under its own task's lock and in a transaction of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.after_commit import after_commit
from tasks_app.exceptions import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    StateConflict,
    StateLocked,
)
from tasks_app.models import Blob, StateLock, StateVersion, Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.services.state_documents import StateFacts, parse_state, with_serial
from tasks_app.services.state_position import current_version, lock_row
from tasks_app.services.void_plans import void_outdated_plans
from tasks_app.signals import state_unlocked_by_force
from tasks_app.states import Status
from tasks_app.transitions import lock_task, lock_task_row, record


def read_state(version: StateVersion) -> bytes:
    """Return the document.

    Raises:
        DecryptionFailed: it cannot be read; never mistaken for an absent state.
        NotFound: its contents were purged by the retention rules.
    """
    if version.blob is None:
        raise NotFound(f"The contents of state {version.serial} were purged.")
    return blobs.read_all(version.blob)


def open_state(*, actor: Actor, version: StateVersion) -> Iterator[bytes]:
    """Return the document in pieces for a person, and write down who read it.

    Raises:
        NotFound, NotPermitted: by role; NotFound also when its contents were purged.
    """
    require(actor, Action.READ_STATE, version.workspace)
    if version.blob is None:
        raise NotFound(f"The contents of state {version.serial} were purged.")
    record_download(actor, version.workspace, f"serial {version.serial}")
    return blobs.read(version.blob)


def record_download(
    actor: Actor, workspace: Workspace, cause: str, task: Task | None = None
) -> None:
    """Write down that a person read a state, which holds secrets in plain text."""
    record("state.downloaded", actor=actor, workspace=workspace, task=task, cause=cause)


def store_state(
    *,
    workspace: Workspace,
    content: bytes,
    lock_id: str,
    actor: Actor,
    task_id: UUID | None = None,
    may_write: Callable[[], bool] = lambda: True,
) -> StateVersion:
    """Store a state under the lock ``lock_id``; durable when this returns.

    Repeating the same content is accepted without a new version, because Terraform resends a
    request whose reply was lost.

    Args:
        task_id: of the run that writes; its lock must be its own.
        may_write: asked under the task's lock whether the run was fenced meanwhile.

    Raises:
        InvalidInput, TooLarge: the content.
        Conflict: the lock is not held by this writer.
        StateConflict: another lineage, or a serial that does not follow.
    """
    facts = parse_state(content)
    with transaction.atomic():
        if task_id is not None:
            lock_task_row(task_id)
        lock_row(workspace)
        held = open_lock(workspace)
        if held is None or held.lock_id != lock_id:
            raise Conflict("The state is not locked under this ID; lock it first.")
        if held.task_id != task_id or (task_id is None and held.user != actor.user):
            raise Conflict("The state is locked by somebody else.")
        if not may_write():
            raise Conflict("This run is over: a person gave a verdict on it, or took its lock.")
        cause = f"task {task_id}" if task_id else "written over HTTP"
        version = append_version(
            workspace, content, facts, actor=actor, task_id=task_id, cause=cause
        )
    return version


def append_version(
    workspace: Workspace,
    content: bytes,
    facts: StateFacts,
    *,
    actor: Actor,
    task_id: UUID | None,
    cause: str,
) -> StateVersion:
    """Make a state the current version; the caller holds the workspace's row.

    Waiting plans that it outdates are void as soon as it is committed.

    Raises:
        StateConflict: it does not follow the current one.
    """
    current = current_version(workspace)
    digest = hashlib.sha256(content).hexdigest()
    if current is not None:
        if (current.serial, current.digest) == (facts.serial, digest):
            return current
        if current.lineage != facts.lineage:
            raise StateConflict(
                f"The state belongs to lineage {facts.lineage}, the current one to "
                f"{current.lineage}: these are two different states."
            )
        if facts.serial <= current.serial:
            raise StateConflict(
                f"Serial {facts.serial} does not follow the current {current.serial}; "
                "give it a higher one."
            )
    blob = blobs.store([content], Blob.Retention.STATE)
    version = StateVersion.objects.create(
        workspace=workspace,
        serial=facts.serial,
        lineage=facts.lineage,
        terraform_version=facts.terraform_version,
        digest=digest,
        size=len(content),
        resource_count=facts.resource_count,
        blob=blob,
        task_id=task_id,
        created_by=actor.user,
        cause=cause[:250],
    )
    record(
        "state.stored",
        actor=actor,
        workspace=workspace,
        cause=cause,
        task=task_id,
        data={"serial": facts.serial, "bytes": len(content)},
    )
    # Not in this transaction, nor in one of the caller's around it (a request with an
    # Idempotency-Key has one): it holds the workspace's row, and tasks are locked before it.
    # The state is stored whatever becomes of it; what fails here the controller's pass finds.
    after_commit(void_outdated_plans, workspace)
    return version


def upload_state(
    *, actor: Actor, workspace: Workspace, content: bytes, message: str = ""
) -> StateVersion:
    """Bring in a raw state, lineage kept.

    Raises:
        NotFound, NotPermitted, InvalidInput, TooLarge, StateConflict.
        StateLocked, Conflict: somebody works with the state.
    """
    require(actor, Action.WRITE_STATE, workspace)
    facts = parse_state(content)
    with transaction.atomic():
        lock_row(workspace)
        refuse_in_use(workspace)
        version = append_version(
            workspace, content, facts, actor=actor, task_id=None, cause=message or "uploaded"
        )
    return version


def rollback_state(*, actor: Actor, workspace: Workspace, version: StateVersion) -> StateVersion:
    """Make an older version current again, as a new version with a higher serial.

    Raises:
        As :func:`upload_state`.
    """
    require(actor, Action.WRITE_STATE, workspace)
    content = read_state(version)
    with transaction.atomic():
        lock_row(workspace)
        refuse_in_use(workspace)
        current = current_version(workspace)
        assert current is not None  # there is at least ``version``
        content = with_serial(content, current.serial + 1)
        new = append_version(
            workspace,
            content,
            parse_state(content),
            actor=actor,
            task_id=None,
            cause=f"rolled back to serial {version.serial}",
        )
    return new


def refuse_in_use(workspace: Workspace) -> None:
    """Refuse what a person wants with a state that somebody works with; its row is locked.

    Raises:
        StateLocked, Conflict: who it is.
    """
    held = open_lock(workspace)
    if held is not None:
        raise StateLocked(
            "The state is locked; wait for its holder, or force the lock open.", holder=held.info
        )
    _refuse_while_applying(workspace)


def _refuse_while_applying(workspace: Workspace) -> None:
    running = Task.objects.filter(
        workspace=workspace, status__in=[Status.APPLYING, Status.APPLY_UNKNOWN]
    ).first()
    if running is not None:
        raise Conflict(f"Task #{running.number} is {running.status}; wait until it has ended.")


# --- the lock -----------------------------------------------------------------------------


#: The members of Terraform's LockInfo, as another Terraform shows them.
_LOCK_INFO = ("ID", "Operation", "Info", "Who", "Version", "Created", "Path")


def open_lock(workspace: Workspace) -> StateLock | None:
    """Return the lock that is held now, if any."""
    return (
        StateLock.objects.select_related("user")
        .filter(workspace=workspace, released_at=None)
        .first()
    )


def lock_state(
    *,
    workspace: Workspace,
    info: dict[str, Any],
    actor: Actor,
    task_id: UUID | None = None,
    lease_id: UUID | None = None,
) -> StateLock:
    """Grant Terraform's lock; the same ID again is granted again (its reply was lost).

    The caller decided whether this actor may lock; for a run it holds the task's row.

    Args:
        task_id, lease_id: of the run that locks; None: a person.

    Raises:
        InvalidInput: no ID.
        StateLocked: somebody else holds it; ``holder`` is their LockInfo.
        NotPermitted: the ID was locked and released before.
        Conflict: a person while a task applies.
    """
    lock_id = info.get("ID")
    if not isinstance(lock_id, str) or not 0 < len(lock_id) <= 128 or not lock_id.isprintable():
        raise InvalidInput("LockInfo has no ID.", field="ID")
    info = {key: str(info.get(key, ""))[:500].replace("\0", "") for key in _LOCK_INFO}
    with transaction.atomic():
        lock_row(workspace)
        known = StateLock.objects.filter(
            Q(released_at=None) | Q(lock_id=lock_id), workspace=workspace
        )
        held = next((lock for lock in known if not lock.released_at), None)
        owner = (task_id, None if task_id else actor.user)
        if held is not None:
            if held.lock_id == lock_id and (held.task_id, held.user) == owner:
                return held
            raise StateLocked(holder=held.info)
        if known:
            # A request that was long on its way: nobody would ever release this lock.
            raise NotPermitted("The lock with this ID was released before; make a new one.")
        if task_id is None:
            _refuse_while_applying(workspace)
        lock = StateLock.objects.create(
            workspace=workspace,
            lock_id=lock_id,
            info=info,
            task_id=task_id,
            lease_id=lease_id,
            user=None if task_id else actor.user,
        )
        record(
            "state.locked",
            actor=actor,
            workspace=workspace,
            task=task_id,
            data={"id": lock_id, "operation": info["Operation"][:50]},
        )
    return lock


def unlock_state(
    *, workspace: Workspace, lock_id: str, actor: Actor, task_id: UUID | None = None
) -> None:
    """Release one's own lock with this ID; released before is fine.

    Args:
        task_id: of the run that asks.

    Raises:
        Conflict: somebody else holds the lock; ``holder`` is their LockInfo.
    """
    with transaction.atomic():
        lock_row(workspace)
        held = open_lock(workspace)
        if held is None:
            if StateLock.objects.filter(workspace=workspace, lock_id=lock_id).exists():
                return
            raise Conflict("The state is not locked.")
        if held.lock_id != lock_id:
            raise Conflict("The state is locked under another ID.", holder=held.info)
        if held.task_id != task_id or (task_id is None and held.user != actor.user):
            raise Conflict("The lock is somebody else's; it can only be forced.", holder=held.info)
        release_lock(held, actor, "state.unlocked")


def release_lock(lock: StateLock, actor: Actor, kind: str, cause: str = "", **fields: Any) -> None:
    """Release a lock, with its audit row; the caller holds the workspace's row."""
    StateLock.objects.filter(pk=lock.pk).update(released_at=ClockTimestamp(), **fields)
    record(
        kind,
        actor=actor,
        workspace=lock.workspace,
        task=lock.task,
        cause=cause,
        data={"id": lock.lock_id},
    )


def release_leftover_lock(*, task: Task, actor: Actor) -> None:
    """Release what a run that provably ended left locked; the caller holds the task's row."""
    lock_row(task.workspace)
    held = open_lock(task.workspace)
    if held is not None and held.task_id == task.pk:
        release_lock(held, actor, "state.unlocked", "the run ended without unlocking")


def force_unlock_state(*, actor: Actor, workspace: Workspace, comment: str = "") -> StateLock:
    """Take the lock away from its holder, whose later writes are refused.

    Raises:
        NotFound, NotPermitted; Conflict: it is not locked.
    """
    require(actor, Action.FORCE_UNLOCK, workspace)
    with transaction.atomic():
        found = open_lock(workspace)
        if found is not None and found.task_id:
            lock_task(found.task_id)
        lock_row(workspace)
        held = open_lock(workspace)
        if held is None:
            raise Conflict("The state is not locked.")
        if found is None or held.pk != found.pk:
            raise Conflict("Somebody else took the lock just now; look again.")
        release_lock(held, actor, "state.force_unlocked", comment, forced_by=actor.user)
        held.refresh_from_db()
        state_unlocked_by_force.send(sender=StateLock, lock=held)
    return held
