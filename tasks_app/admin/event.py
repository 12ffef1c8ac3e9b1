"""The history of everything: who did what, when, and why. Read-only."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html

from tasks_app.admin.base import SlipwayAdmin, object_url
from tasks_app.admin.filters import WorkspaceFilter, uuid_or_none
from tasks_app.formats import DASH, actor_words, ago, code, event_words, link, status_badge
from tasks_app.models import Event
from tasks_app.permissions import Action, may, visible_projects


@admin.register(Event)
class EventAdmin(SlipwayAdmin):
    """Newest first; what belongs to no workspace is for operators."""

    empty_text = "Nothing happened yet."
    list_display = ("kind_word", "about", "actor_word", "cause_word", "age")
    list_filter: ClassVar[Any] = (WorkspaceFilter,)
    search_fields = ("kind",)
    search_help_text = "Kind as task.confirmed, who as user:ada, or the id of a task"
    list_select_related = ("workspace", "task__workspace")
    ordering = ("-id",)
    sortable_by = ()
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        rows = super().get_queryset(request).defer("task__diagnostics")
        user: Any = request.user
        if user.is_superuser:
            return rows
        seen = Q(workspace__project__in=visible_projects(user))
        if may(user, Action.OPERATE):
            seen |= Q(workspace=None)
        return rows.filter(seen)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """Find by the kind's beginning, by the actor or by the task's id."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if (task_id := uuid_or_none(term)) is not None:
            return queryset.filter(task=task_id), False
        return queryset.filter(Q(kind__startswith=term) | Q(actor=term)), False

    @admin.display(description="What")
    def kind_word(self, obj: Event) -> Any:
        if obj.to_status:
            return format_html(
                '{} <span class="sw-subtle">{}</span>', status_badge(obj.to_status), ""
            )
        return code(obj.kind)

    @admin.display(description="About")
    def about(self, obj: Event) -> Any:
        if obj.task:
            return link(object_url(obj.task), f"{obj.task.workspace.name} #{obj.task.number}")
        if obj.workspace:
            return link(object_url(obj.workspace), obj.workspace.name)
        named = [str(value) for key, value in obj.data.items() if key in {"pod", "pool", "name"}]
        return ", ".join(named) or DASH

    @admin.display(description="Who")
    def actor_word(self, obj: Event) -> str:
        return actor_words(obj.actor)

    @admin.display(description="Why")
    def cause_word(self, obj: Event) -> Any:
        words = event_words(obj)
        return format_html('<span class="sw-clip">{}</span>', words) if words else DASH

    @admin.display(description="When")
    def age(self, obj: Event) -> Any:
        return ago(obj.created_at)

    def page_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        return self.get_queryset(request).select_related("workspace", "task__workspace", "user")

    def facts(self, request: HttpRequest, obj: Event) -> list[tuple[str, Any]]:
        change: Any = DASH
        if obj.to_status:
            change = format_html(
                "{} → {}",
                status_badge(obj.from_status) if obj.from_status else "",
                status_badge(obj.to_status),
            )
        return [
            ("What", code(obj.kind)),
            ("Status", change),
            ("About", self.about(obj)),
            ("Who", obj.actor),
            ("Why", obj.cause or DASH),
            ("When", ago(obj.created_at)),
            ("Lease", code(obj.lease_id)),
            ("Epoch", obj.epoch if obj.epoch is not None else DASH),
            ("Data", code(json.dumps(obj.data, indent=1)) if obj.data else DASH),
        ]
