"""What pods add to pages of tasks and workspaces, to lists and to the start page."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from pods_app.admin.slots import tally
from pods_app.api.visibility import visible_pools
from pods_app.models import (
    ApplyPermit,
    Installation,
    Lease,
    ManagedPod,
    PodSlot,
    Pool,
    PoolAssignment,
    TaskPlacement,
)
from pods_app.services import assign_pool
from pods_app.states import DirectoryState, PodPhase
from tasks_app.actors import Actor
from tasks_app.admin.base import list_url, object_url
from tasks_app.admin.filters import uuid_or_none
from tasks_app.admin.hooks import Attention, add_attention, add_list_filter, add_operation
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.models import Event, Task, Workspace
from tasks_app.permissions import Action, may
from tasks_app.registry import Panel, add_panel


def _task(task: Task) -> dict[str, Any]:
    placement = TaskPlacement.objects.select_related("pool").filter(task=task).first()
    return {
        "pool": placement.pool if placement else None,
        "lease": Lease.objects.select_related("slot__pod").filter(task=task).first(),
        "permit": ApplyPermit.objects.filter(task=task).first(),
        "directories": list(
            task.work_directories.exclude(state=DirectoryState.DELETED).select_related("pod")
        ),
    }


def _workspace(workspace: Workspace) -> dict[str, Any]:
    assignment = PoolAssignment.objects.select_related("pool").filter(workspace=workspace).first()
    pool = assignment.pool if assignment else Pool.objects.filter(is_default=True).first()
    return {"pool": pool, "assigned": assignment is not None}


def pool_gauges(user: Any) -> dict[str, Any]:
    """Return every visible pool with its slots counted, in a constant number of queries."""
    pools = list(visible_pools(user).order_by("name"))
    pods = ManagedPod.objects.filter(pool__in=pools).exclude(phase=PodPhase.GONE)
    phases: dict[Any, list[str]] = {}
    for pool_id, phase in pods.values_list("pool", "phase"):
        phases.setdefault(pool_id, []).append(phase)
    slots: dict[Any, list[PodSlot]] = {}
    online = PodSlot.objects.filter(pod__pool__in=pools, pod__phase=PodPhase.ONLINE)
    for slot in online.select_related("pod").only("status", "pod__pool"):
        slots.setdefault(slot.pod.pool_id, []).append(slot)
    return {
        "pools": [
            {
                "pool": pool,
                "url": object_url(pool),
                "slots_url": list_url(PodSlot, f"pool={pool.pk}"),
                "pods_url": list_url(ManagedPod, f"pool={pool.pk}"),
                "pods": len(phases.get(pool.pk, [])),
                "online": phases.get(pool.pk, []).count(PodPhase.ONLINE),
                "other": len(phases.get(pool.pk, [])) - phases.get(pool.pk, []).count("online"),
                **tally(slots.get(pool.pk, [])),
            }
            for pool in pools
        ]
    }


def _attentions(user: Any) -> Iterable[Attention]:
    """Doubt about the database, and pods whose agents are lost."""
    if may(user, Action.OPERATE):
        doubt = Installation.objects.exclude(doubt="").values_list("doubt", flat=True).first()
        yield Attention(
            "bad",
            "gpp_bad",
            int(bool(doubt)),
            "reason to doubt this database",
            list_url(Event, "q=installation."),
            doubt or "",
        )
    lost = ManagedPod.objects.filter(pool__in=visible_pools(user), phase=PodPhase.LOST).count()
    yield Attention(
        "bad",
        "heart_broken",
        lost,
        "pod with a lost agent" if lost == 1 else "pods with lost agents",
        list_url(ManagedPod, f"phase__exact={PodPhase.LOST}"),
        "No heartbeat; its work was returned.",
    )


class PoolFilter(DropdownFilter):
    """The pool a task was created for."""

    title, parameter_name = "pool", "pool"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(str(pool.pk), pool.name) for pool in visible_pools(request.user)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = uuid_or_none(self.value())
        return queryset.filter(placement__pool=chosen) if chosen else queryset


class AssignPoolForm(OperationForm):
    pool = forms.ModelChoiceField(
        queryset=Pool.objects.none(), required=False, empty_label="The default pool"
    )

    def prepare(self) -> None:
        field: Any = self.fields["pool"]
        field.queryset = visible_pools(self.actor and self.actor.user)


class AssignPool(Operation):
    name, label, icon = "assign_pool", "Pool", "hub"
    title, submit = "Where shall this workspace's tasks run?", "Assign pool"
    text = "Tasks that exist stay in the pool they were created for."
    form_class = AssignPoolForm

    def availability(self, actor: Actor, obj: Workspace) -> Availability:
        return Availability(may(actor, Action.CHANGE_WORKSPACE, obj))

    def initial(self, obj: Workspace) -> dict[str, Any]:
        assignment = PoolAssignment.objects.filter(workspace=obj).first()
        return {"pool": assignment.pool_id if assignment else None}

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        assign_pool(actor=actor, workspace=obj, pool=data["pool"])
        return Done(f"New tasks run in {data['pool'] or 'the default pool'}.")


add_panel("task", Panel("Placement", "admin/slipway/pods/task.html", _task))
add_panel("workspace", Panel("Pool", "admin/slipway/pods/workspace.html", _workspace))
add_panel("index", Panel("Pools and slots", "admin/slipway/pods/pools.html", pool_gauges))
add_attention(_attentions)
add_list_filter("task", PoolFilter)
add_operation("workspace", AssignPool())
