"""What the sidebar and the search (Ctrl+K) ask; `config/unfold.py` names these functions."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from django.http import HttpRequest
from unfold.dataclasses import SearchResult

from tasks_app.admin.base import may_cached, object_url
from tasks_app.models import Task, Workspace
from tasks_app.permissions import Action, visible_projects
from tasks_app.states import Status

_RESULTS_MAX = 8
_BADGE_MAX = 99


def sees(request: HttpRequest) -> bool:
    """Whether the person has any role."""
    return may_cached(request, Action.VIEW)


def operates(request: HttpRequest) -> bool:
    """Whether the person may operate pools and agents."""
    return may_cached(request, Action.OPERATE)


def superuser(request: HttpRequest) -> bool:
    """Whether the person may change users and groups."""
    return bool(request.user.is_superuser)


def anybody(request: HttpRequest) -> bool:
    """Everybody who is signed in."""
    return True


def to_confirm(request: HttpRequest) -> str | None:
    """Return how many plans wait for a person."""
    waiting = Task.objects.filter(status=Status.APPLY_PENDING)
    user: Any = request.user
    if not user.is_superuser:
        waiting = waiting.filter(workspace__project__in=visible_projects(user))
    count = waiting[: _BADGE_MAX + 1].count()
    return f"{_BADGE_MAX}+" if count > _BADGE_MAX else str(count) if count else None


def search(request: HttpRequest, term: str) -> list[SearchResult]:
    """Find workspaces by name, and tasks by number (``#12``) or by their workspace."""
    projects = visible_projects(request.user)
    workspaces = Workspace.objects.filter(project__in=projects, name__icontains=term)
    found = [
        SearchResult(
            title=workspace.name,
            description="Workspace",
            link=object_url(workspace),
            icon="deployed_code",
        )
        for workspace in workspaces[:_RESULTS_MAX]
    ]
    number = term.lstrip("#")
    wanted = Q(workspace__name__icontains=term)
    if number.isdigit() and len(number) < 10:
        wanted |= Q(number=int(number))
    tasks = Task.objects.filter(wanted, workspace__project__in=projects)
    for task in tasks.select_related("workspace")[:_RESULTS_MAX]:
        found.append(
            SearchResult(
                title=f"{task.workspace.name} #{task.number}",
                description=f"Task, {Status(task.status).label.lower()}",
                link=object_url(task),
                icon="play_circle",
            )
        )
    return found
