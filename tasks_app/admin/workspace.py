"""The list of workspaces and the workspace page; configurations and state versions below it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from tasks_app.admin.base import SlipwayAdmin, below_url, list_url, operation_url
from tasks_app.admin.filters import ProjectFilter
from tasks_app.admin.variables import AddVariable, variable_rows
from tasks_app.admin.workspace_operations import (
    ChangeSettings,
    CreateWorkspace,
    ForceUnlock,
    Lock,
    PlanNow,
    Unlock,
    UploadConfiguration,
    UploadState,
)
from tasks_app.formats import DASH, ago, badge, link, status_badge
from tasks_app.models import StateVersion, Task, Variable, Workspace
from tasks_app.permissions import Action, may
from tasks_app.services import state
from tasks_app.states import Status

_ROWS = 8


@admin.register(Workspace)
class WorkspaceAdmin(SlipwayAdmin):
    """Workspaces with what happened last in each."""

    project_path = "project"
    page_template = "admin/slipway/workspace/page.html"
    create = CreateWorkspace()
    operations = (
        PlanNow(),
        UploadConfiguration(),
        Lock(),
        Unlock(),
        ChangeSettings(),
        ForceUnlock(),
        UploadState(),
        AddVariable(),
    )
    empty_text = "A workspace holds one Terraform state. “Add” makes the first."

    list_display = ("title", "project_name", "latest", "waiting_count", "engine_word", "notes")
    list_filter: ClassVar[Any] = (
        ProjectFilter,
        ("engine", ChoicesDropdownFilter),
        ("state_backend", ChoicesDropdownFilter),
    )
    search_fields = ("name", "description")
    list_select_related = ("project", "locked_by")
    ordering = ("name", "id")
    sortable_by = ("title",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Workspace]:
        return super().get_queryset(request).select_related("project", "locked_by")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Add the newest task of the page's rows only, so that counting stays cheap."""
        changelist = super().get_changelist_instance(request)
        shown = [workspace.pk for workspace in changelist.result_list]
        newest = Task.objects.filter(workspace=OuterRef("pk")).order_by("-id")
        rows = (
            Workspace.objects.filter(pk__in=shown)
            .annotate(latest_id=Subquery(newest.values("pk")[:1]))
            .values_list("pk", "latest_id")
        )
        tasks = Task.objects.defer("diagnostics").in_bulk([pk for _, pk in rows if pk])
        waiting = dict(
            Task.objects.filter(workspace__in=shown, status=Status.APPLY_PENDING)
            .values_list("workspace")
            .annotate(Count("pk"))
        )
        by_workspace = {pk: tasks.get(latest) for pk, latest in rows}
        for workspace in changelist.result_list:
            workspace.latest_task = by_workspace.get(workspace.pk)
            workspace.waiting = waiting.get(workspace.pk, 0)
        return changelist

    @admin.display(description="Workspace", ordering="name")
    def title(self, obj: Workspace) -> SafeString:
        return format_html("<strong>{}</strong>", obj.name)

    @admin.display(description="Project")
    def project_name(self, obj: Workspace) -> str:
        return obj.project.name

    @admin.display(description="Latest task")
    def latest(self, obj: Any) -> Any:
        task = getattr(obj, "latest_task", None)
        if task is None:
            return format_html('<span class="sw-subtle">{}</span>', "never planned")
        url = f"{list_url(Task)}{task.pk}/change/"
        return format_html(
            '{} <a class="sw-link" href="{}">#{}</a> <span class="sw-subtle">{}</span>',
            status_badge(task.status),
            url,
            task.number,
            ago(task.created_at),
        )

    @admin.display(description="To confirm")
    def waiting_count(self, obj: Any) -> Any:
        count = getattr(obj, "waiting", 0)
        if not count:
            return DASH
        query = f"workspace={obj.pk}&status={Status.APPLY_PENDING}"
        return link(list_url(Task, query), count)

    @admin.display(description="Engine")
    def engine_word(self, obj: Workspace) -> str:
        return f"{obj.get_engine_display()} {obj.engine_version}".strip()

    @admin.display(description="Notes")
    def notes(self, obj: Workspace) -> Any:
        marks = []
        if obj.locked_at:
            marks.append(badge("locked", "ask", "lock"))
        if obj.auto_apply:
            marks.append(badge("auto apply", "quiet", "bolt"))
        if obj.state_backend == Workspace.StateBackend.CONFIGURATION:
            marks.append(badge("own backend", "quiet", "cloud"))
        return format_html("{} {} {}", *(*marks, "", "", "")[:3]) if marks else DASH

    # --- the page ------------------------------------------------------------------------------

    def subtitle(self, obj: Workspace) -> str:
        return obj.project.name

    def page_context(self, request: HttpRequest, obj: Workspace) -> dict[str, Any]:
        actor = self.actor(request)
        own_state = obj.state_backend == Workspace.StateBackend.SLIPWAY
        reads_state = own_state and may(actor, Action.READ_STATE, obj)
        shared = Variable.objects.filter(deleted_at=None, workspace=None).filter(
            Q(project=obj.project_id) | Q(project=None)
        )
        return {
            "workspace": obj,
            "tasks": list(
                obj.tasks.select_related("created_by", "plan").defer("diagnostics")[:_ROWS]
            ),
            "tasks_url": list_url(Task, f"workspace={obj.pk}"),
            "configurations": list(obj.configurations.select_related("created_by")[:_ROWS]),
            "variables": variable_rows(obj.variables.filter(deleted_at=None)),
            "shared": list(shared.only("key")),
            "may_change_variables": may(actor, Action.CHANGE_VARIABLES, obj),
            "add_variable_url": operation_url(obj, AddVariable.name),
            "own_state": own_state,
            "reads_state": reads_state,
            "writes_state": own_state and may(actor, Action.WRITE_STATE, obj),
            "upload_state_url": operation_url(obj, UploadState.name),
            "states": self._states(obj) if reads_state else [],
            "states_url": list_url(StateVersion, f"workspace={obj.pk}"),
            "state_lock": state.open_lock(obj) if own_state else None,
            "events": list(obj.events.filter(task=None).select_related("user")[:_ROWS]),
        }

    def _states(self, obj: Workspace) -> list[dict[str, Any]]:
        rows = obj.state_versions.select_related("task", "created_by")[:_ROWS]
        return [
            {
                "row": row,
                "current": position == 0,
                "download": below_url(row, "download") if row.blob_id else "",
                "rollback": operation_url(row, "rollback") if position and row.blob_id else "",
            }
            for position, row in enumerate(rows)
        ]
