"""Which group has which role where."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tasks_app.models import Project, RoleAssignment
from tasks_app.permissions import Action, require
from tasks_app.transitions import record


def _right(project: Project | None) -> tuple[Action, Project | None]:
    """A role in every project, which includes operating, is given by who has that."""
    return (Action.OPERATE, None) if project is None else (Action.CHANGE_PROJECT, project)


def give_role(*, actor: Actor, group: Group, project: Project | None, role: str) -> RoleAssignment:
    """Give a group a role in a project, or in every project; it replaces the one it has there.

    Raises:
        NotFound, NotPermitted: by role; InvalidInput: there is no such role.
    """
    require(actor, *_right(project))
    if role not in RoleAssignment.Role.values:
        raise InvalidInput(f"Use one of {', '.join(RoleAssignment.Role.values)}.", field="role")
    with transaction.atomic():
        row, _ = RoleAssignment.objects.update_or_create(
            group=group, project=project, defaults={"role": role}
        )
        record("role.given", actor=actor, data=_facts(row))
    return row


def take_role(*, actor: Actor, assignment: RoleAssignment) -> None:
    """Take a role from a group.

    Raises:
        NotFound, NotPermitted: by role.
    """
    require(actor, *_right(assignment.project))
    with transaction.atomic():
        record("role.taken", actor=actor, data=_facts(assignment))
        assignment.delete()


def _facts(row: RoleAssignment) -> dict[str, str | None]:
    project = row.project.name if row.project else None
    return {"group": row.group.name, "project": project, "role": row.role}
