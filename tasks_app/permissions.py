"""One question for admin, API and services: may this actor do this action on this object?"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db.models import Q, QuerySet

from tasks_app.actors import Actor
from tasks_app.exceptions import NotFound, NotPermitted
from tasks_app.models import Project, RoleAssignment

Role = RoleAssignment.Role


class Action(StrEnum):
    VIEW = "view"
    PLAN = "plan"
    UPLOAD_CONFIGURATION = "upload_configuration"
    CONFIRM = "confirm"
    DISCARD = "discard"
    CANCEL = "cancel"
    FORCE_CANCEL = "force_cancel"
    ACKNOWLEDGE = "acknowledge"
    LOCK_WORKSPACE = "lock_workspace"
    READ_STATE = "read_state"
    WRITE_STATE = "write_state"
    FORCE_UNLOCK = "force_unlock"
    CHANGE_WORKSPACE = "change_workspace"
    CHANGE_VARIABLES = "change_variables"
    CHANGE_PROJECT = "change_project"  # credentials, roles
    OPERATE = "operate"  # pools, pods, agents, freeze windows: global
    DRAIN_POD = "drain_pod"  # global
    DELETE_POD = "delete_pod"  # global
    OVERRIDE_FREEZE = "override_freeze"  # global


_VIEWER = {Action.VIEW}
_PLANNER = _VIEWER | {Action.PLAN, Action.UPLOAD_CONFIGURATION}
_APPROVER = _PLANNER | {
    Action.CONFIRM,
    Action.DISCARD,
    Action.CANCEL,
    Action.ACKNOWLEDGE,
    Action.LOCK_WORKSPACE,
    Action.READ_STATE,
}
#: What a manager of every project may do in addition.
GLOBAL_MANAGER = {
    Action.OPERATE,
    Action.DRAIN_POD,
    Action.DELETE_POD,
    Action.OVERRIDE_FREEZE,
}
_MANAGER = set(Action) - GLOBAL_MANAGER
ALLOWED: dict[str, set[Action]] = {
    Role.VIEWER: _VIEWER,
    Role.PLANNER: _PLANNER,
    Role.APPROVER: _APPROVER,
    Role.MANAGER: _MANAGER,
}


def project_of(obj: Any) -> Project | None:
    """Return the project an object belongs to; None for installation-wide objects."""
    if isinstance(obj, Project):
        return obj
    for link in ("project", "workspace", "task", "variable"):
        target = getattr(obj, link, None)
        if target is not None:
            return project_of(target)
    return None


def _user(actor: Actor | User | AnonymousUser) -> Any:
    return actor.user if isinstance(actor, Actor) else actor


def may(actor: Actor | User | AnonymousUser, action: Action, obj: Any = None) -> bool:
    """Return whether ``actor`` may do ``action`` on ``obj`` (None: anywhere at all).

    Superusers and parts of Slipway may; everybody else by the roles of their groups.
    """
    if isinstance(actor, Actor) and actor.is_system:
        return True
    user = _user(actor)
    if user is None or not user.is_active or user.is_anonymous:
        return False
    if user.is_superuser:
        return True
    roles = RoleAssignment.objects.filter(group__user=user)
    project = None if obj is None else project_of(obj)
    if obj is not None:
        roles = roles.filter(Q(project=None) | Q(project=project))
    if action in GLOBAL_MANAGER:
        return roles.filter(role=Role.MANAGER, project=None).exists()
    return any(action in ALLOWED[role] for role in roles.values_list("role", flat=True))


def require(actor: Actor | User | AnonymousUser, action: Action, obj: Any) -> None:
    """Raise unless ``actor`` may do ``action`` on ``obj``.

    Raises:
        NotFound: the actor may not even see it.
        NotPermitted: it may be seen, but not so used.
    """
    if may(actor, action, obj):
        return
    if obj is not None and not may(actor, Action.VIEW, obj):
        raise NotFound()
    raise NotPermitted(f"Your role does not include “{action}” here; ask a manager of the project.")


def visible_projects(user: Any) -> QuerySet[Project]:
    """Return the projects whose contents ``user`` may see; lists filter by it."""
    if user is None or not user.is_active or user.is_anonymous:
        return Project.objects.none()
    if user.is_superuser:
        return Project.objects.all()
    roles = RoleAssignment.objects.filter(group__user=user)
    if roles.filter(project=None).exists():
        return Project.objects.all()
    return Project.objects.filter(pk__in=roles.values("project"))
