"""Projects and workspaces."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput
from tasks_app.models import Project, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.]+)?")
_FOLDER = re.compile(r"[^\\\x00-\x1f\x7f]*")
_REASON_MAX = 250
_CHANGEABLE = {
    "name",
    "description",
    "engine",
    "engine_version",
    "working_directory",
    "auto_apply",
    "state_backend",
}


def default_project() -> Project:
    """Return the project `default`, made on first use."""
    return Project.objects.get_or_create(
        name="default", defaults={"description": "Workspaces that belong to no other project"}
    )[0]


def create_project(*, actor: Actor, name: str, description: str = "") -> Project:
    """Create a project; only managers of every project may.

    Raises:
        NotPermitted, InvalidInput; Conflict: the name is taken.
    """
    require(actor, Action.OPERATE, None)
    return _saved(Project(name=name, description=description), actor, "project.created")


def update_project(*, actor: Actor, project: Project, **fields: Any) -> Project:
    """Change name or description.

    Raises:
        NotFound, NotPermitted, InvalidInput; Conflict: the name is taken.
    """
    require(actor, Action.CHANGE_PROJECT, project)
    return _change(project, actor, "project.changed", {"name", "description"}, fields)


def create_workspace(*, actor: Actor, project: Project, name: str, **fields: Any) -> Workspace:
    """Create a workspace.

    Raises:
        NotFound, NotPermitted, InvalidInput; Conflict: the name is taken in the project.
    """
    require(actor, Action.CHANGE_WORKSPACE, project)
    _refuse_unknown(fields, _CHANGEABLE)
    return _saved(Workspace(project=project, name=name, **fields), actor, "workspace.created")


def update_workspace(*, actor: Actor, workspace: Workspace, **fields: Any) -> Workspace:
    """Change settings; tasks that exist keep what they were created with.

    Raises:
        As :func:`create_workspace`; Conflict also while a task uses the state backend that
        shall change.
    """
    require(actor, Action.CHANGE_WORKSPACE, workspace)
    return _change(workspace, actor, "workspace.changed", _CHANGEABLE, fields)


def _refuse_unknown(fields: dict[str, Any], known: set[str]) -> None:
    for name in fields:
        if name not in known:
            raise InvalidInput(f"There is no setting “{name}” here.", field=name)


def _change(row: Any, actor: Actor, kind: str, known: set[str], fields: dict[str, Any]) -> Any:
    """Write only the given columns, of the row as it is now: others change beside it."""
    _refuse_unknown(fields, known)
    with transaction.atomic():
        now = type(row).objects.select_for_update(no_key=True).get(pk=row.pk)
        if isinstance(now, Workspace):
            backend = fields.get("state_backend", now.state_backend)
            if backend != now.state_backend and now.tasks.filter(finished_at=None).exists():
                raise Conflict(
                    "Wait until the workspace's tasks have ended before changing its backend."
                )
        for name, value in fields.items():
            setattr(now, name, value)
        _saved(now, actor, kind, sorted(fields))
    row.refresh_from_db()
    return row


def _saved(row: Any, actor: Actor, kind: str, changed: list[str] | None = None) -> Any:
    if isinstance(row, Workspace):
        _check(row)
    try:
        row.full_clean(validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise InvalidInput(" ".join(messages), field=field) from None
    try:
        with transaction.atomic():
            row.save(update_fields=changed)
            record(
                kind,
                actor=actor,
                workspace=row if isinstance(row, Workspace) else None,
                data={"name": row.name, "changed": changed or []},
            )
    except IntegrityError:
        raise Conflict(f"The name “{row.name}” is taken; choose another.", field="name") from None
    return row


def _check(workspace: Workspace) -> None:
    version, directory = workspace.engine_version, workspace.working_directory
    if version and not _VERSION.fullmatch(version):
        raise InvalidInput("Write an exact version such as 1.11.4.", field="engine_version")
    path = PurePosixPath(directory)
    if path.is_absolute() or ".." in path.parts or not _FOLDER.fullmatch(directory):
        raise InvalidInput(
            "Name a folder inside the configuration, such as environments/prod.",
            field="working_directory",
        )


def lock_workspace(*, actor: Actor, workspace: Workspace, reason: str) -> Workspace:
    """Let nothing start in a workspace until it is unlocked.

    Raises:
        NotFound, NotPermitted; InvalidInput: no reason; Conflict: locked already.
    """
    require(actor, Action.LOCK_WORKSPACE, workspace)
    if not reason.strip() or len(reason) > _REASON_MAX:
        raise InvalidInput(
            f"Say why, for those who wait, in at most {_REASON_MAX} characters.", field="reason"
        )
    with transaction.atomic():
        locked = Workspace.objects.filter(pk=workspace.pk, locked_at=None).update(
            locked_at=ClockTimestamp(), locked_by=actor.user, lock_reason=reason
        )
        if not locked:
            raise Conflict("The workspace is locked already.")
        record("workspace.locked", actor=actor, workspace=workspace, cause=reason)
    workspace.refresh_from_db()
    return workspace


def unlock_workspace(*, actor: Actor, workspace: Workspace) -> Workspace:
    """Let tasks start again.

    Raises:
        NotFound, NotPermitted; Conflict: it is not locked.
    """
    require(actor, Action.LOCK_WORKSPACE, workspace)
    with transaction.atomic():
        unlocked = Workspace.objects.filter(pk=workspace.pk, locked_at__isnull=False).update(
            locked_at=None, locked_by=None, lock_reason=""
        )
        if not unlocked:
            raise Conflict("The workspace is not locked.")
        record("workspace.unlocked", actor=actor, workspace=workspace)
    workspace.refresh_from_db()
    return workspace
