"""Where a workspace's state stands, and the row that keeps it there.

Lock order: the task's row first (where one is named), then the workspace's row.
"""

from __future__ import annotations

from django.db import connection

from tasks_app.models import StateVersion, Workspace

#: Lineage and serial; ("", None) where there is no state yet.
Position = tuple[str, int | None]


def current_version(workspace: Workspace) -> StateVersion | None:
    """Return the newest version with its blob, None only if there never was one."""
    versions = StateVersion.objects.filter(workspace=workspace).select_related("blob")
    return versions.order_by("-serial").first()


def state_position(workspace: Workspace) -> Position:
    """Return lineage and serial of the current state; ("", None) when there is none."""
    row = (
        StateVersion.objects.filter(workspace=workspace)
        .order_by("-serial")
        .values_list("lineage", "serial")
        .first()
    )
    return row or ("", None)


def locked_state_position(workspace: Workspace) -> Position:
    """Return the position and keep it: nobody moves the state before the transaction ends."""
    lock_row(workspace)
    return state_position(workspace)


def lock_row(workspace: Workspace) -> None:
    """Lock the workspace's row: one writer of its state at a time.

    Whether a person locked the workspace is read from the row that is locked now.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT locked_at, locked_by_id, lock_reason FROM tasks_app_workspace"
            " WHERE id = %s FOR NO KEY UPDATE",
            [workspace.pk],
        )
        if row := cursor.fetchone():
            workspace.locked_at, workspace.locked_by_id, workspace.lock_reason = row
