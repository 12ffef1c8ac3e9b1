"""Slots, leases and work directories: read-only, filled by dispatch and agents."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from pods_app.admin.pod import InPools, PoolOfPodFilter
from pods_app.models import Lease, PodSlot, WorkDirectory
from pods_app.states import DirectoryState, LeaseState, PodPhase, SlotStatus
from tasks_app.admin.base import SlipwayAdmin, object_url
from tasks_app.formats import DASH, ago, badge, byte_words, code, link
from tasks_app.permissions import visible_projects

_SLOT_LOOKS = {
    SlotStatus.IDLE: ("check_box_outline_blank", "quiet"),
    SlotStatus.RUNNING: ("sync", "busy"),
    SlotStatus.RESERVED: ("bookmark", "ask"),
}
_LEASE_TONES = {LeaseState.LIVE: "busy", LeaseState.ENDING: "ask", LeaseState.ENDED: "quiet"}
_DIRECTORY_TONES = {
    DirectoryState.KEPT: "good",
    DirectoryState.QUARANTINED: "bad",
    DirectoryState.DELETING: "ask",
    DirectoryState.DELETED: "quiet",
}


def _task(task: Any) -> Any:
    return link(object_url(task), f"{task.workspace.name} #{task.number}") if task else DASH


def _pod(pod: Any) -> Any:
    return link(object_url(pod), pod.pod_name)


@admin.register(PodSlot)
class PodSlotAdmin(InPools):
    """Slots: idle ones, and those with a task the person may see."""

    pool_path = "pod__pool"
    empty_text = "Slots come with agents: start one with run_agent and a pool token."
    list_display = ("place", "pool_name", "status_badge", "task_link", "since")
    list_filter: ClassVar[Any] = (PoolOfPodFilter, ("status", ChoicesDropdownFilter))
    list_select_related = ("pod__pool", "task__workspace")
    ordering = ("pod", "slot_id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[PodSlot]:
        projects = visible_projects(request.user)
        return (
            super()
            .get_queryset(request)
            .filter(Q(task=None) | Q(task__workspace__project__in=projects))
            .exclude(pod__phase=PodPhase.GONE)
            .defer("task__diagnostics")
        )

    @admin.display(description="Slot")
    def place(self, obj: PodSlot) -> str:
        return f"{obj.pod.pod_name}/{obj.slot_id}"

    @admin.display(description="Pool")
    def pool_name(self, obj: PodSlot) -> str:
        return obj.pod.pool.name

    @admin.display(description="Status")
    def status_badge(self, obj: PodSlot) -> Any:
        symbol, tone = _SLOT_LOOKS[SlotStatus(obj.status)]
        return badge(obj.get_status_display(), tone, symbol)

    @admin.display(description="Task")
    def task_link(self, obj: PodSlot) -> Any:
        return _task(obj.task)

    @admin.display(description="Since")
    def since(self, obj: PodSlot) -> Any:
        return ago(obj.updated_at)

    def page_queryset(self, request: HttpRequest) -> QuerySet[PodSlot]:
        return self.get_queryset(request).select_related("pod__pool", "task__workspace")

    def facts(self, request: HttpRequest, obj: PodSlot) -> list[tuple[str, Any]]:
        return [
            ("Pod", _pod(obj.pod)),
            ("Pool", link(object_url(obj.pod.pool), obj.pod.pool.name)),
            ("Status", self.status_badge(obj)),
            ("Task", _task(obj.task)),
            ("Type", obj.task_type or DASH),
            ("Since", ago(obj.updated_at)),
        ]


@admin.register(Lease)
class LeaseAdmin(SlipwayAdmin):
    """Stays of tasks in slots."""

    project_path = "task__workspace__project"
    pool_path = "slot__pod__pool"
    empty_text = "No task has got a slot yet."
    list_display = ("task_link", "place", "phase", "state_badge", "epoch", "reported", "reason")
    list_filter: ClassVar[Any] = (
        PoolOfPodFilter,
        ("state", ChoicesDropdownFilter),
        ("phase", ChoicesDropdownFilter),
    )
    list_select_related = ("task__workspace", "slot__pod")
    ordering = ("-id",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lease]:
        return super().get_queryset(request).defer("task__diagnostics")

    @admin.display(description="Task")
    def task_link(self, obj: Lease) -> str:
        return f"{obj.task.workspace.name} #{obj.task.number}"

    @admin.display(description="Slot")
    def place(self, obj: Lease) -> str:
        return f"{obj.slot.pod.pod_name}/{obj.slot.slot_id}"

    @admin.display(description="State")
    def state_badge(self, obj: Lease) -> Any:
        return badge(obj.state.capitalize(), _LEASE_TONES[LeaseState(obj.state)], "vpn_key")

    @admin.display(description="Reported")
    def reported(self, obj: Lease) -> Any:
        return ago(obj.reported_at)

    @admin.display(description="Ended because")
    def reason(self, obj: Lease) -> Any:
        return obj.end_reason or DASH

    def page_queryset(self, request: HttpRequest) -> QuerySet[Lease]:
        return self.get_queryset(request).select_related("task__workspace", "slot__pod__pool")

    def facts(self, request: HttpRequest, obj: Lease) -> list[tuple[str, Any]]:
        return [
            ("Task", _task(obj.task)),
            ("Pod", _pod(obj.slot.pod)),
            ("Slot", obj.slot.slot_id),
            ("Phase", obj.get_phase_display()),
            ("State", self.state_badge(obj)),
            ("Epoch", obj.epoch),
            ("In this phase", ago(obj.phase_at)),
            ("Delivered", ago(obj.delivered_at)),
            ("Reported", ago(obj.reported_at)),
            ("Ended", ago(obj.ended_at)),
            ("Because", obj.end_reason or DASH),
            ("Keeps its directory", "yes" if obj.keep_directory else "no"),
        ]


@admin.register(WorkDirectory)
class WorkDirectoryAdmin(SlipwayAdmin):
    """Directories on agents' disks: how large, how old, and why they are kept."""

    project_path = "task__workspace__project"
    pool_path = "pod__pool"
    empty_text = "Agents report the directories they keep; there is none."
    list_display = ("task_link", "pod", "size", "state_badge", "used", "reason_word")
    list_filter: ClassVar[Any] = (PoolOfPodFilter, ("state", ChoicesDropdownFilter))
    list_select_related = ("task__workspace", "pod")
    ordering = ("-id",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[WorkDirectory]:
        return super().get_queryset(request).defer("task__diagnostics")

    @admin.display(description="Task")
    def task_link(self, obj: WorkDirectory) -> str:
        return f"{obj.task.workspace.name} #{obj.task.number}"

    @admin.display(description="Size")
    def size(self, obj: WorkDirectory) -> str:
        return byte_words(obj.bytes)

    @admin.display(description="State")
    def state_badge(self, obj: WorkDirectory) -> Any:
        tone = _DIRECTORY_TONES[DirectoryState(obj.state)]
        return badge(obj.get_state_display(), tone, "folder")

    @admin.display(description="Last used")
    def used(self, obj: WorkDirectory) -> Any:
        return ago(obj.last_used_at)

    @admin.display(description="Why")
    def reason_word(self, obj: WorkDirectory) -> Any:
        return obj.reason or DASH

    def page_queryset(self, request: HttpRequest) -> QuerySet[WorkDirectory]:
        return self.get_queryset(request).select_related("task__workspace", "pod")

    def facts(self, request: HttpRequest, obj: WorkDirectory) -> list[tuple[str, Any]]:
        return [
            ("Task", _task(obj.task)),
            ("Pod", _pod(obj.pod)),
            ("Path", code(obj.path)),
            ("Size", byte_words(obj.bytes)),
            ("State", self.state_badge(obj)),
            ("Why", obj.reason or DASH),
            ("Last used", ago(obj.last_used_at)),
            ("Reported", ago(obj.reported_at)),
        ]
