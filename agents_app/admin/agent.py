"""Agent programs: how they are and what they have; draining, and locking one out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string

from agents_app.models import Agent, AgentToken
from agents_app.tokens import revoke_agent
from pods_app.admin.health import HealthFilter, health_badge, heard, thresholds
from pods_app.admin.pod import Drain, InPools, PoolOfPodFilter, Undrain, reserved_for
from pods_app.admin.slots import squares, with_slots
from pods_app.api.visibility import visible_pools, visible_project_ids
from pods_app.health import Health, condition
from pods_app.models import ManagedPod
from pods_app.selectors import with_load
from tasks_app.actors import Actor
from tasks_app.admin.base import list_url, object_url
from tasks_app.admin.hooks import Attention, add_attention
from tasks_app.admin.operations import Availability, Done, Operation
from tasks_app.formats import DASH, ago, byte_words, code, lines, link
from tasks_app.permissions import Action, may
from tasks_app.registry import Panel, add_panel


class DrainAgent(Drain):
    title = "Give the agent of {pod} no new work?"

    def pod(self, obj: Agent) -> ManagedPod:
        return obj.pod


class UndrainAgent(Undrain):
    title = "Let the agent of {pod} take work again?"

    def pod(self, obj: Agent) -> ManagedPod:
        return obj.pod


class Revoke(Operation):
    name, label, icon, tone = "revoke", "Revoke", "key_off", "danger"
    title, submit = "Lock this agent out?", "Revoke its tokens"
    text = (
        "Its next request is refused. What runs in it goes on, but it cannot report: after a while "
        "it counts as lost. With a pool token it can register again."
    )

    def availability(self, actor: Actor, obj: Agent) -> Availability:
        if not may(actor, Action.OPERATE):
            return Availability(False)
        live = AgentToken.objects.filter(agent=obj, revoked_at=None).exists()
        return Availability(True, "" if live else "It has no valid token.")

    def run(self, actor: Actor, obj: Agent, data: dict[str, Any]) -> Done:
        count = revoke_agent(actor=actor, agent=obj)
        return Done(f"{obj} is locked out: {count} token{'' if count == 1 else 's'} revoked.")


@admin.register(Agent)
class AgentAdmin(InPools):
    """Agents of the pools the person sees."""

    pool_path = "pod__pool"
    pod_path = "pod__"
    page_template = "admin/slipway/pods/agent_page.html"
    operations = (DrainAgent(), UndrainAgent(), Revoke())
    empty_text = "No agent has registered yet. Make a token on a pool's page and start run_agent."
    list_display = (
        "name",
        "pool",
        "health",
        "heard",
        "grid",
        "held",
        "engines",
        "directories",
        "version",
    )
    list_filter: ClassVar[Any] = (PoolOfPodFilter, HealthFilter, "pod__draining")
    search_fields = ("hostname", "pod__pod_name")
    list_select_related = ("pod__pool",)
    ordering = ("-id",)
    refresh_ms = 3000

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        rows = with_load(super().get_queryset(request), "pod")
        return rows.prefetch_related(with_slots("pod__"))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Ask once per list which tasks may be named."""
        changelist = super().get_changelist_instance(request)
        visible = visible_project_ids(request.user)
        for agent in changelist.result_list:
            agent.squares = squares(agent.pod, agent.pod.slots.all(), visible)
        return changelist

    @admin.display(description="Agent")
    def name(self, obj: Agent) -> str:
        return f"{obj.pod.pod_name} on {obj.hostname}"

    @admin.display(description="Pool")
    def pool(self, obj: Agent) -> str:
        return obj.pod.pool.name

    @admin.display(description="Health")
    def health(self, obj: Any) -> Any:
        return health_badge(obj.pod, obj.silence)

    @admin.display(description="Heard")
    def heard(self, obj: Any) -> Any:
        return heard(obj.pod, obj.silence)

    @admin.display(description="Slots")
    def grid(self, obj: Any) -> Any:
        return render_to_string("admin/slipway/pods/grid.html", {"squares": obj.squares})

    @admin.display(description="Held")
    def held(self, obj: Any) -> Any:
        return obj.held_applies or DASH

    @admin.display(description="Engines")
    def engines(self, obj: Agent) -> Any:
        return lines(f"{e['engine']} {e['version']}" for e in obj.pod.engines) or DASH

    @admin.display(description="Directories")
    def directories(self, obj: Any) -> str:
        return f"{obj.directories} ({byte_words(obj.directory_bytes)})"

    @admin.display(description="Program")
    def version(self, obj: Agent) -> str:
        return obj.program_version

    def subtitle(self, obj: Agent) -> str:
        return f"{thresholds().capitalize()}."

    def page_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return self.get_queryset(request).select_related("pod__pool")

    def page_context(self, request: HttpRequest, obj: Agent) -> dict[str, Any]:
        visible = visible_project_ids(request.user)
        return {
            "squares": squares(obj.pod, obj.pod.slots.all(), visible),
            **reserved_for(obj.pod, visible),
        }

    def facts(self, request: HttpRequest, obj: Any) -> list[tuple[str, Any]]:
        pod = obj.pod
        return [
            ("Health", self.health(obj)),
            ("Heard", self.heard(obj)),
            ("Pod", link(object_url(pod), pod.pod_name)),
            ("Pool", link(object_url(pod.pool), pod.pool.name)),
            ("Host", obj.hostname),
            ("Program", obj.program_version),
            ("Engines", self.engines(obj)),
            ("Providers", lines(code(one) for one in pod.providers) or DASH),
            ("Directories", self.directories(obj)),
            ("Free disk", byte_words(pod.disk_free_bytes)),
            ("Registered", ago(obj.registered_at)),
            ("Id", code(obj.pk)),
        ]


def _in_doubt(user: Any) -> Iterable[Attention]:
    """Agents that missed heartbeats and are not lost yet."""
    agents = Agent.objects.filter(
        condition(Health.UNKNOWN, "pod__"), pod__pool__in=visible_pools(user)
    )
    count = agents.count()
    yield Attention(
        "ask",
        "question_mark",
        count,
        "agent in doubt" if count == 1 else "agents in doubt",
        list_url(Agent, f"health={Health.UNKNOWN}"),
        "Missed heartbeats; not lost yet.",
    )


def _pod_panel(pod: ManagedPod) -> dict[str, Any]:
    agent = Agent.objects.filter(pod=pod).first()
    return {"agent": agent, "agent_url": object_url(agent) if agent else ""}


add_attention(_in_doubt)
add_panel("managedpod", Panel("Agent", "admin/slipway/pods/agent.html", _pod_panel))
