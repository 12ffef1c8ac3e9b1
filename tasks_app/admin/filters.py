"""Filters of the lists; what can be chosen is only what may be seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from tasks_app.models import Workspace
from tasks_app.permissions import visible_projects
from tasks_app.states import FINAL, RUNNING, Status

_CHOICES_MAX = 500


def uuid_or_none(text: str | None) -> UUID | None:
    """Return the id in ``text``, None if it holds none."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


class StatusFilter(DropdownFilter):
    """One status, or a group: running, open, ended, what needs a person."""

    title, parameter_name = "status", "status"
    groups: ClassVar[dict[str, tuple[str, Q]]] = {
        "running": ("Running: planning or applying", Q(status__in=RUNNING)),
        "open": ("Open: not ended", Q(status__in=frozenset(Status) - FINAL)),
        "ended": ("Ended", Q(status__in=FINAL)),
        "unacknowledged": (
            "Interrupted, not acknowledged",
            Q(status=Status.INTERRUPTED, acknowledged_at=None),
        ),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [*((key, label) for key, (label, _) in self.groups.items()), *Status.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if value in self.groups:
            return queryset.filter(self.groups[value][1])
        return queryset.filter(status=value) if value in Status.values else queryset


class ProjectFilter(DropdownFilter):
    """The project of a row; ``path`` leads to it."""

    title, parameter_name = "project", "project"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(str(p.pk), p.name) for p in visible_projects(request.user)[:_CHOICES_MAX]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = uuid_or_none(self.value())
        path = getattr(self.model_admin, "project_path", "project")
        return queryset.filter(**{path: chosen}) if chosen else queryset

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        self.model_admin = model_admin
        super().__init__(request, params, model, model_admin)


class WorkspaceFilter(DropdownFilter):
    """The workspace of a row."""

    title, parameter_name = "workspace", "workspace"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        rows = Workspace.objects.filter(project__in=visible_projects(request.user))
        return [(str(pk), name) for pk, name in rows.values_list("pk", "name")[:_CHOICES_MAX]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = uuid_or_none(self.value())
        return queryset.filter(workspace=chosen) if chosen else queryset
