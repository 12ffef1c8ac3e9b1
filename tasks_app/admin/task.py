"""The list of tasks and the task page."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from unfold.admin import checkbox
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from tasks_app.admin import task_bulk, task_page
from tasks_app.admin.base import SlipwayAdmin, may_cached, object_url
from tasks_app.admin.filters import ProjectFilter, StatusFilter, WorkspaceFilter, uuid_or_none
from tasks_app.admin.task_operations import TASK_OPERATIONS
from tasks_app.formats import DASH, ago, counts, link, status_badge, warmup_badge
from tasks_app.models import Task, Workspace
from tasks_app.states import WAITING, Status

#: Workspaces whose names match a word of a search; more than these are not told apart by it.
_NAMED_MAX = 1000
_ROW = "the-row-s-id"


@cache
def _box() -> str:
    return str(checkbox.render(ACTION_CHECKBOX_NAME, _ROW))


@admin.register(Task)
class TaskAdmin(SlipwayAdmin):
    """Every run of every workspace, newest first."""

    project_path = "workspace__project"
    page_template = "admin/slipway/task/page.html"
    operations = TASK_OPERATIONS
    empty_text = "Nothing was planned yet. Open a workspace and press “Plan now”."

    list_display = ("name", "badge", "type_word", "summary", "waiting", "by", "age")
    list_filter: ClassVar[Any] = (
        StatusFilter,
        ("type", ChoicesDropdownFilter),
        ("warmup_status", ChoicesDropdownFilter),
        ProjectFilter,
        WorkspaceFilter,
    )
    search_fields = ("workspace__name",)
    search_help_text = "Workspace, number as #12, message or id"
    list_select_related = ("workspace", "created_by", "plan")
    ordering = ("-id",)
    sortable_by = ()
    actions = ()  # those of `task_bulk`, by role
    list_disable_select_all = True

    def get_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return super().get_queryset(request).defer("diagnostics")

    @admin.display(description="Task")
    def name(self, obj: Task) -> SafeString:
        return format_html(
            "<strong>{} #{}</strong>{}",
            obj.workspace.name,
            obj.number,
            format_html('<div class="sw-subtle sw-clip">{}</div>', obj.message)
            if obj.message
            else "",
        )

    @admin.display(description="Status")
    def badge(self, obj: Task) -> SafeString:
        return status_badge(obj.status)

    @admin.display(description="Type")
    def type_word(self, obj: Task) -> SafeString:
        words = f"{obj.get_type_display()}{' (destroy)' if obj.destroy else ''}"
        return format_html('<span class="sw-nowrap">{}</span>', words)

    @admin.display(description="Plan")
    def summary(self, obj: Task) -> SafeString:
        plan = getattr(obj, "plan", None)
        if plan is None:
            return DASH
        return counts(plan.to_add, plan.to_change, plan.to_destroy, plan.to_import)

    @admin.display(description="Waits for")
    def waiting(self, obj: Task) -> Any:
        if obj.status in WAITING and obj.waiting_reason:
            ready = warmup_badge(obj.warmup_status) if obj.status == Status.APPLY_PENDING else ""
            return format_html('<span class="sw-clip">{}</span>{}', obj.waiting_reason, ready)
        if obj.error:
            return format_html('<span class="sw-clip sw-text-bad">{}</span>', obj.error)
        return DASH

    @admin.display(description="By")
    def by(self, obj: Task) -> Any:
        return obj.created_by.get_username() if obj.created_by else DASH

    @admin.display(description="Age")
    def age(self, obj: Task) -> SafeString:
        return ago(obj.created_at)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Task], search_term: str
    ) -> tuple[QuerySet[Task], bool]:
        """Find by number, by id, or by words in the workspace's name or the message."""
        term = search_term.strip()
        if term.lstrip("#").isdigit() and len(term) < 10:
            return queryset.filter(number=int(term.lstrip("#"))), False
        if (task_id := uuid_or_none(term)) is not None:
            return queryset.filter(pk=task_id), False
        for word in term.split():
            # The few workspaces first: joining them to every task is what would be slow.
            named = Workspace.objects.filter(name__icontains=word).values_list("pk", flat=True)
            queryset = queryset.filter(
                Q(workspace__in=list(named[:_NAMED_MAX])) | Q(message__icontains=word)
            )
        return queryset, False

    # --- several at once ---------------------------------------------------------------------

    @admin.display(description=mark_safe(checkbox.render("action_toggle_all", 1)))
    def action_checkbox(self, obj: Task) -> SafeString:
        """Unfold's own box; its template is rendered once, not for every row."""
        return mark_safe(_box().replace(_ROW, str(obj.pk)))

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        return task_bulk.actions_for(request)

    def bulk_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Confirm or discard several plans: the list of them, or the outcome of each."""
        bulk = task_bulk.BULKS.get(name)
        if bulk is None or not may_cached(request, bulk.right):
            raise Http404
        return task_bulk.bulk_response(self, request, bulk)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.bulk_view)
        return [
            path("bulk/<slug:name>/", view, name="tasks_app_task_bulk"),
            *super().get_urls(),
        ]

    # --- the page ----------------------------------------------------------------------------

    def page_queryset(self, request: HttpRequest) -> QuerySet[Task]:
        return self.get_queryset(request).select_related(
            "workspace__project",
            "workspace__locked_by",
            "created_by",
            "configuration",
            "plan",
            "confirmation__user",
            "acknowledged_by",
        )

    def subtitle(self, obj: Task) -> str:
        return str(obj.get_status_display())

    def every_ms(self, obj: Task) -> int:
        return task_page.every_ms(obj)

    def page_context(self, request: HttpRequest, obj: Task) -> dict[str, Any]:
        return {
            **task_page.page_context(obj),
            "workspace_link": link(object_url(obj.workspace), obj.workspace.name),
        }

    def page_urls(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [
            ("plan/", "plan", self.plan_view),
            ("plan/text/", "plan_text", self.plan_text_view),
            ("log/<slug:phase>/", "log", self.log_view),
        ]

    def plan_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The plan's changes and text, fetched by the page once it exists."""
        task = self.visible(request, object_id)
        return TemplateResponse(
            request, "admin/slipway/task/plan.html", task_page.plan_context(task)
        )

    def plan_text_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The plan as Terraform shows it, as a file."""
        task = self.visible(request, object_id)
        text = task_page.plan_context(task)["text"]
        return HttpResponse(text, content_type="text/plain; charset=utf-8")

    def log_view(
        self, request: HttpRequest, object_id: str, phase: str
    ) -> HttpResponse | StreamingHttpResponse:
        """A part of a phase's log from ``?offset=``, or with ``?download`` all of it."""
        task = self.visible(request, object_id)
        if phase not in task_page.PHASES:
            raise Http404
        if "download" in request.GET:
            return task_page.log_download(request, task, phase)
        offset = request.GET.get("offset", "0")
        return task_page.log_part(task, phase, int(offset) if offset.isdigit() else 0)
