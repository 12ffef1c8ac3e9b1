"""Pods with their slot grids; draining and deleting them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter

from pods_app import deletion, services
from pods_app.admin.health import HealthFilter, health_badge, heard, thresholds
from pods_app.admin.pod_grid import grid_context
from pods_app.admin.pool import Operates
from pods_app.admin.slots import squares, with_slots
from pods_app.api.visibility import visible_pools, visible_project_ids
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.selectors import with_load
from pods_app.stakes import stakes_of
from pods_app.states import RESERVING, DirectoryState, LeaseState, PodPhase
from tasks_app.actors import Actor
from tasks_app.admin.base import (
    PARTS_HEADER,
    SlipwayAdmin,
    list_url,
    may_cached,
    operation_url,
)
from tasks_app.admin.filters import uuid_or_none
from tasks_app.admin.operations import Availability, Button, Done, OperationForm
from tasks_app.formats import DASH, byte_words
from tasks_app.permissions import Action, may


class PoolOfPodFilter(DropdownFilter):
    """The pool of a row; ``pool_path`` of the model's admin leads to it."""

    title, parameter_name = "pool", "pool"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        self.path = model_admin.pool_path
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(str(pool.pk), pool.name) for pool in visible_pools(request.user)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = uuid_or_none(self.value())
        return queryset.filter(**{self.path: chosen}) if chosen else queryset


class InPools(SlipwayAdmin):
    """Rows that belong to a pool: seen with it."""

    pool_path: ClassVar[str] = "pool"
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        pools = visible_pools(request.user).values("pk")
        return super().get_queryset(request).filter(**{f"{self.pool_path}__in": pools})


class DrainForm(OperationForm):
    reason = forms.CharField(max_length=250, help_text="For the others.")


def reserved_for(pod: ManagedPod, visible: set[Any]) -> dict[str, Any]:
    """Return what waits on a pod for a person, and how much of it may not be named."""
    leases = Lease.objects.filter(slot__pod=pod, state=LeaseState.LIVE, phase__in=RESERVING)
    found = list(leases.select_related("task__workspace", "slot").order_by("slot__slot_id"))
    named = [lease for lease in found if lease.task.workspace.project_id in visible]
    return {"reserved": named, "hidden": len(found) - len(named)}


class OfPod(Operates):
    """An operation on a pod; it may stand on the page of what belongs to one."""

    form_class: ClassVar[type[OperationForm]] = DrainForm
    action: ClassVar[Action] = Action.DRAIN_POD

    def availability(self, actor: Actor, obj: Any) -> Availability:
        state = self.state(self.pod(obj))
        return Availability(state.shown and may(actor, self.action), state.reason)

    def state(self, pod: ManagedPod) -> Availability:
        """Return whether the pod's state allows it, whoever asks."""
        raise NotImplementedError

    def heading(self, obj: Any) -> str:
        return self.title.format(pod=self.pod(obj).pod_name)

    def pod(self, obj: Any) -> ManagedPod:
        """Return the pod of the page's object."""
        return cast(ManagedPod, obj)

    def at_stake(self, actor: Actor, obj: Any) -> dict[str, Any]:
        """Return what the dialog shows of what is in the pod."""
        return {"stakes": stakes_of(self.pod(obj)), "visible": visible_project_ids(actor.user)}


class Drain(OfPod):
    name, label, icon = "drain", "Drain", "water_drop"
    title, submit = "Give {pod} no new work?", "Drain"
    text = "What runs or waits in it stays; nothing new is placed here."
    template = "admin/slipway/pods/stake.html"

    def state(self, pod: ManagedPod) -> Availability:
        reason = "The pod is gone." if pod.phase == PodPhase.GONE else ""
        return Availability(not pod.draining, reason)

    def context(self, actor: Actor, obj: Any) -> dict[str, Any]:
        return self.at_stake(actor, obj)

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        pod = services.drain_pod(actor=actor, pod_id=self.pod(obj).pk, reason=data["reason"])
        return Done(f"{pod.pod_name} takes no new work.")


class Undrain(OfPod):
    name, label, icon, tone = "undrain", "Undrain", "play_arrow", "primary"
    title, submit = "Let {pod} take work again?", "Undrain"

    def state(self, pod: ManagedPod) -> Availability:
        reason = "It is being deleted." if pod.deletion_reason else ""
        if services.is_ended_by_slipway(pod):
            reason = "Slipway is ending it: work would be lost with it."
        return Availability(pod.draining, reason)

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        pod = services.undrain_pod(actor=actor, pod_id=self.pod(obj).pk, reason=data["reason"])
        return Done(f"{pod.pod_name} takes work again.")


class DeleteForm(OperationForm):
    reason = forms.CharField(max_length=200, help_text="For those whose work it interrupts.")
    confirm = forms.CharField(label="Type the pod's name", help_text="It cuts off an apply.")

    def prepare(self) -> None:
        """The name is typed only when an apply could be cut off."""
        if not any(stake.cut for stake in stakes_of(self.obj)):
            del self.fields["confirm"]


class Delete(OfPod):
    name, label, icon, tone = "delete", "Delete", "delete", "danger"
    title, submit = "Delete {pod}?", "Delete pod"
    text = (
        "It ends at once, with all that runs in it. Its pool makes another one if it wants it. To "
        "let its work finish, drain it first."
    )
    template = "admin/slipway/pods/stake.html"
    form_class = DeleteForm
    action = Action.DELETE_POD

    def state(self, pod: ManagedPod) -> Availability:
        return Availability(True, deletion.obstacle(pod))

    def context(self, actor: Actor, obj: Any) -> dict[str, Any]:
        return {**self.at_stake(actor, obj), "deletes": True}

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        pod = deletion.delete_pod(actor=actor, pod_id=self.pod(obj).pk, **data)
        return Done(f"{pod.pod_name} is being deleted.")


@admin.register(ManagedPod)
class ManagedPodAdmin(InPools):
    """Pods and what is in them."""

    page_template = "admin/slipway/pods/pod.html"
    pod_path = ""
    operations: ClassVar[tuple[OfPod, ...]] = (Drain(), Undrain(), Delete())
    empty_text = "No agent has registered yet. Make a token on a pool's page and start run_agent."
    list_display = (
        "pod_name",
        "pool",
        "health",
        "grid",
        "heard",
        "held",
        "directories",
        "disk",
        "engines_word",
    )
    list_filter: ClassVar[Any] = (
        PoolOfPodFilter,
        ("phase", ChoicesDropdownFilter),
        HealthFilter,
        "draining",
    )
    search_fields = ("pod_name", "agent_id")
    list_select_related = ("pool",)
    ordering = ("pod_name", "id")
    refresh_ms = 3000

    def get_queryset(self, request: HttpRequest) -> QuerySet[ManagedPod]:
        return with_load(super().get_queryset(request)).prefetch_related(with_slots())

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Ask once per list which tasks may be named."""
        changelist = super().get_changelist_instance(request)
        visible = visible_project_ids(request.user)
        for pod in changelist.result_list:
            pod.squares = squares(pod, pod.slots.all(), visible)
        return changelist

    @admin.display(description="Health")
    def health(self, obj: Any) -> Any:
        return health_badge(obj, obj.silence)

    @admin.display(description="Slots")
    def grid(self, obj: Any) -> Any:
        return render_to_string("admin/slipway/pods/grid.html", {"squares": obj.squares})

    @admin.display(description="Heard")
    def heard(self, obj: Any) -> Any:
        return heard(obj, obj.silence)

    @admin.display(description="Held")
    def held(self, obj: Any) -> Any:
        return obj.held_applies or DASH

    @admin.display(description="Directories")
    def directories(self, obj: Any) -> str:
        return f"{obj.directories} ({byte_words(obj.directory_bytes)})"

    @admin.display(description="Free disk")
    def disk(self, obj: ManagedPod) -> str:
        return byte_words(obj.disk_free_bytes)

    @admin.display(description="Engines")
    def engines_word(self, obj: ManagedPod) -> Any:
        return ", ".join(f"{e['engine']} {e['version']}" for e in obj.engines) or DASH

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.grid_view)
        return [path("grid/", view, name="pods_app_managedpod_grid"), *super().get_urls()]

    def grid_view(self, request: HttpRequest) -> HttpResponse:
        """Every slot of the pools a person sees; nothing is changed here."""
        if not self.has_view_permission(request):
            raise Http404
        in_parts = PARTS_HEADER in request.headers
        context = {
            **({} if in_parts else self.admin_site.each_context(request)),
            "layout": "admin/slipway/fragment.html" if in_parts else "admin/base_site.html",
            "opts": self.opts,
            "title": "Slot grid",
            "every_ms": self.refresh_ms,
            **grid_context(request.user, request.GET.get("pool"), self.pod_buttons(request)),
        }
        return TemplateResponse(request, "admin/slipway/pods/grid_page.html", context)

    def pod_buttons(self, request: HttpRequest) -> Callable[[ManagedPod], list[Button]]:
        """Return what gives a pod's buttons; what the role allows is asked once for all pods."""
        allowed = [one for one in self.operations if may_cached(request, one.action)]

        def buttons(pod: ManagedPod) -> list[Button]:
            states = [(one, one.state(pod)) for one in allowed]
            return [
                Button(one, operation_url(pod, one.name), state.reason)
                for one, state in states
                if state.shown
            ]

        return buttons

    def subtitle(self, obj: ManagedPod) -> str:
        return f"in {obj.pool.name}"

    def page_queryset(self, request: HttpRequest) -> QuerySet[ManagedPod]:
        return self.get_queryset(request).select_related("pool")

    def page_context(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        visible = visible_project_ids(request.user)
        leases = Lease.objects.filter(slot__pod=obj, task__workspace__project__in=visible)
        directories = WorkDirectory.objects.filter(pod=obj, task__workspace__project__in=visible)
        kept = directories.exclude(state=DirectoryState.DELETED)
        used = None
        if obj.disk_total_bytes and obj.disk_free_bytes is not None:
            used = 100 * (obj.disk_total_bytes - obj.disk_free_bytes) / obj.disk_total_bytes
        return {
            "pod": obj,
            "badge": health_badge(obj, obj.silence),
            "heard": heard(obj, obj.silence),
            "thresholds": thresholds(),
            "squares": squares(obj, obj.slots.all(), visible),
            "slots": [
                {"slot": slot, "named": slot.task and slot.task.workspace.project_id in visible}
                for slot in obj.slots.all()
            ],
            "leases": list(leases.select_related("task__workspace", "slot")[:15]),
            "directories": list(kept.select_related("task__workspace")[:30]),
            "directories_url": list_url(WorkDirectory, f"pool={obj.pool_id}"),
            "disk_used": used,
            **reserved_for(obj, visible),
        }
