"""Configuration versions, state versions and state locks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponseBase
from rest_framework.request import Request

from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.admin.base import SlipwayAdmin, below_url, object_url
from tasks_app.admin.filters import ProjectFilter, WorkspaceFilter
from tasks_app.admin.operations import Availability, Done, Operation
from tasks_app.api.downloads import download
from tasks_app.exceptions import NotFound, NotPermitted
from tasks_app.formats import DASH, ago, badge, byte_words, code, link
from tasks_app.models import Blob, ConfigurationVersion, StateLock, StateVersion
from tasks_app.permissions import Action, may, visible_projects
from tasks_app.services import state
from tasks_app.services.state_position import current_version


def _contents(blob: Blob | None) -> Iterator[bytes]:
    if blob is None:
        raise Http404("The contents were purged by the retention rules.")
    return blobs.read(blob)


def _who(user: Any) -> Any:
    return user.get_username() if user else DASH


@admin.register(ConfigurationVersion)
class ConfigurationVersionAdmin(SlipwayAdmin):
    """Immutable configurations; they are uploaded on a workspace's page."""

    project_path = "workspace__project"
    empty_text = "Configurations are uploaded on the page of a workspace."
    list_display = ("title", "workspace", "source", "bytes", "by", "age")
    list_filter: ClassVar[Any] = (ProjectFilter, WorkspaceFilter)
    list_select_related = ("workspace", "created_by")
    sortable_by = ()
    refresh_ms = 0

    @admin.display(description="Version")
    def title(self, obj: ConfigurationVersion) -> str:
        return f"{obj.number}"

    @admin.display(description="Size")
    def bytes(self, obj: ConfigurationVersion) -> str:
        return byte_words(obj.size)

    @admin.display(description="By")
    def by(self, obj: ConfigurationVersion) -> Any:
        return _who(obj.created_by)

    @admin.display(description="Age")
    def age(self, obj: ConfigurationVersion) -> Any:
        return ago(obj.created_at)

    def page_queryset(self, request: HttpRequest) -> QuerySet[ConfigurationVersion]:
        return self.get_queryset(request).select_related("workspace", "created_by", "blob")

    def facts(self, request: HttpRequest, obj: ConfigurationVersion) -> list[tuple[str, Any]]:
        return [
            ("Workspace", link(object_url(obj.workspace), obj.workspace.name)),
            ("Version", obj.number),
            ("Message", obj.message or DASH),
            ("From", obj.get_source_display()),
            ("By", _who(obj.created_by)),
            ("Stored", ago(obj.created_at)),
            ("Size", byte_words(obj.size)),
            ("SHA-256", code(obj.digest)),
            ("Archive", link(below_url(obj, "download"), "Download")),
        ]

    def page_urls(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [("download/", "download", self.download_view)]

    def download_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The tar.gz as it was uploaded."""
        row = self.visible(request, object_id)
        name = f"{row.workspace.name}-{row.number}.tar.gz"
        return download(Request(request), _contents(row.blob), "application/gzip", name)


class RollBack(Operation):
    name, label, icon, tone = "rollback", "Roll back to this", "history", "danger"
    title, submit = "Make this state current again?", "Roll back"
    text = (
        "It becomes a new version with a higher serial; nothing is deleted. Plans that wait were "
        "made on another state and become void. The real resources do not change by this."
    )

    def availability(self, actor: Actor, obj: StateVersion) -> Availability:
        if not may(actor, Action.WRITE_STATE, obj):
            return Availability(False)
        current = current_version(obj.workspace)
        if current is not None and current.pk == obj.pk:
            return Availability(True, "This is the current version.")
        return Availability(True, "" if obj.blob_id else "Its contents were purged.")

    def run(self, actor: Actor, obj: StateVersion, data: dict[str, Any]) -> Done:
        version = state.rollback_state(actor=actor, workspace=obj.workspace, version=obj)
        return Done(
            f"Serial {obj.serial} is current again, as {version.serial}.", object_url(obj.workspace)
        )


@admin.register(StateVersion)
class StateVersionAdmin(SlipwayAdmin):
    """Versions of states; seen by those who may read states."""

    project_path = "workspace__project"
    view_action = Action.READ_STATE
    operations = (RollBack(),)
    empty_text = "The first apply of a workspace makes its first state."
    list_display = ("title", "workspace", "resource_count", "bytes", "source", "age")
    list_filter: ClassVar[Any] = (ProjectFilter, WorkspaceFilter)
    list_select_related = ("workspace", "task", "created_by")
    ordering = ("-id",)
    sortable_by = ()
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[StateVersion]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        actor = self.actor(request)
        readable = [
            project.pk
            for project in visible_projects(request.user)
            if may(actor, Action.READ_STATE, project)
        ]
        return rows.filter(workspace__project__in=readable)

    @admin.display(description="Serial")
    def title(self, obj: StateVersion) -> str:
        return str(obj.serial)

    @admin.display(description="Size")
    def bytes(self, obj: StateVersion) -> str:
        return byte_words(obj.size)

    @admin.display(description="From")
    def source(self, obj: StateVersion) -> Any:
        if obj.task:
            return link(object_url(obj.task), f"#{obj.task.number}")
        return _who(obj.created_by)

    @admin.display(description="Age")
    def age(self, obj: StateVersion) -> Any:
        return ago(obj.created_at)

    def page_queryset(self, request: HttpRequest) -> QuerySet[StateVersion]:
        return self.get_queryset(request).select_related(
            "workspace__project", "task", "created_by", "blob"
        )

    def facts(self, request: HttpRequest, obj: StateVersion) -> list[tuple[str, Any]]:
        contents: Any = badge("purged", "quiet", "delete")
        if obj.blob_id:
            contents = link(below_url(obj, "download"), "Download")
        return [
            ("Workspace", link(object_url(obj.workspace), obj.workspace.name)),
            ("Serial", obj.serial),
            ("Lineage", code(obj.lineage)),
            ("Resources", obj.resource_count),
            ("Terraform", obj.terraform_version or DASH),
            ("Size", byte_words(obj.size)),
            ("SHA-256", code(obj.digest)),
            ("From", self.source(obj)),
            ("Cause", obj.cause or DASH),
            ("Stored", ago(obj.created_at)),
            ("Contents", contents),
        ]

    def page_urls(self) -> list[tuple[str, str, Callable[..., Any]]]:
        return [("download/", "download", self.download_view)]

    def download_view(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        """The state, for those who may read it."""
        row = self.visible(request, object_id)
        try:
            parts = state.open_state(actor=self.actor(request), version=row)
        except (NotFound, NotPermitted) as error:
            raise Http404(error.detail) from None
        name = f"{row.workspace.name}-{row.serial}.tfstate"
        return download(Request(request), parts, "application/json", name)


@admin.register(StateLock)
class StateLockAdmin(SlipwayAdmin):
    """Who locked which state; released locks stay as evidence."""

    project_path = "workspace__project"
    empty_text = "No state was ever locked. Applies lock their workspace's state."
    list_display = ("workspace", "held", "holder", "operation", "since", "released")
    list_filter: ClassVar[Any] = (ProjectFilter, WorkspaceFilter)
    list_select_related = ("workspace", "task", "user", "forced_by")
    ordering = ("-id",)
    sortable_by = ()

    @admin.display(description="Now")
    def held(self, obj: StateLock) -> Any:
        if obj.released_at is None:
            return badge("held", "busy", "lock")
        if obj.forced_by_id:
            return badge("forced open", "bad", "no_encryption")
        return badge("released", "quiet", "lock_open")

    @admin.display(description="Holder")
    def holder(self, obj: StateLock) -> Any:
        if obj.task:
            return link(object_url(obj.task), f"task #{obj.task.number}")
        return _who(obj.user)

    @admin.display(description="For")
    def operation(self, obj: StateLock) -> Any:
        return obj.info.get("Operation", "") or DASH

    @admin.display(description="Taken")
    def since(self, obj: StateLock) -> Any:
        return ago(obj.created_at)

    @admin.display(description="Released")
    def released(self, obj: StateLock) -> Any:
        return ago(obj.released_at)

    def page_queryset(self, request: HttpRequest) -> QuerySet[StateLock]:
        return self.get_queryset(request).select_related("workspace", "task", "user", "forced_by")

    def facts(self, request: HttpRequest, obj: StateLock) -> list[tuple[str, Any]]:
        return [
            ("Workspace", link(object_url(obj.workspace), obj.workspace.name)),
            ("Now", self.held(obj)),
            ("Holder", self.holder(obj)),
            ("Who", obj.info.get("Who", "") or DASH),
            ("For", self.operation(obj)),
            ("Lock ID", code(obj.lock_id)),
            ("Taken", ago(obj.created_at)),
            ("Released", ago(obj.released_at)),
            ("Forced open by", _who(obj.forced_by)),
        ]
