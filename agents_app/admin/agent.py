"""Agent programs: health by the age of their heartbeat, engines, providers, directories."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from agents_app.health import Health, status
from agents_app.models import Agent, AgentToken
from agents_app.tokens import revoke_agent
from pods_app.admin.pod import InPools, PoolOfPodFilter
from pods_app.api.visibility import visible_pools
from pods_app.models import ManagedPod
from pods_app.states import DirectoryState, PodPhase
from tasks_app.actors import Actor
from tasks_app.admin.base import list_url, object_url
from tasks_app.admin.hooks import Attention, add_attention
from tasks_app.admin.operations import Availability, Done, Operation
from tasks_app.formats import DASH, ago, badge, byte_words, code, link
from tasks_app.permissions import Action, may
from tasks_app.registry import Panel, add_panel

_AGE = ExpressionWrapper(Now() - F("pod__last_heartbeat"), output_field=DurationField())
_KEPT = ~Q(pod__work_directories__state=DirectoryState.DELETED)
_LOOKS = {
    Health.ONLINE: ("favorite", "good", "Online"),
    Health.UNKNOWN: ("question_mark", "ask", "In doubt"),
    Health.LOST: ("heart_broken", "bad", "Lost"),
}
#: After so many missed heartbeats an agent is in doubt, as in `agents_app/health.py`.
_MISSED = 3


#: What a pod's phase alone says, before any heartbeat's age.
_BY_PHASE = {
    PodPhase.GONE: ("block", "quiet", "Gone"),
    PodPhase.STARTING: ("hourglass_top", "busy", "Starting"),
    PodPhase.LOST: _LOOKS[Health.LOST],
}


def health_badge(age: timedelta | None, phase: str) -> Any:
    """Return the badge of an agent's health: its pod's phase, or the age of its heartbeat."""
    by_age = _LOOKS[status(age, settings.SLIPWAY)]
    symbol, tone, word = _BY_PHASE.get(PodPhase(phase), by_age)
    return badge(word, tone, symbol)


class HealthFilter(DropdownFilter):
    """By the age of the heartbeat."""

    title, parameter_name = "health", "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(key.value, word) for key, (_, _, word) in _LOOKS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in {key.value for key in Health}:
            return queryset
        return queryset.filter(health_condition(Health(self.value())))


def health_condition(health: Health) -> Q:
    """Return the condition on an agent whose badge says ``health``."""
    slipway = settings.SLIPWAY
    online, heard = Q(pod__phase=PodPhase.ONLINE), "pod__last_heartbeat"
    doubt = Now() - timedelta(seconds=_MISSED * slipway.heartbeat_seconds)
    lost = Now() - timedelta(seconds=slipway.agent_lost_seconds)
    if health == Health.ONLINE:
        return online & Q(**{f"{heard}__gte": doubt})
    if health == Health.LOST:
        return Q(pod__phase=PodPhase.LOST) | online & Q(**{f"{heard}__lt": lost})
    silent = Q(**{heard: None}) | Q(**{f"{heard}__lt": doubt, f"{heard}__gte": lost})
    return online & silent


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
    operations = (Revoke(),)
    empty_text = "No agent has registered yet. Make a token on a pool's page and start run_agent."
    list_display = ("name", "pool", "health", "heard", "engines", "directories", "version")
    list_filter: ClassVar[Any] = (PoolOfPodFilter, HealthFilter)
    search_fields = ("hostname", "pod__pod_name")
    list_select_related = ("pod__pool",)
    ordering = ("-id",)
    refresh_ms = 3000

    def get_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                age=_AGE,
                directory_count=Count("pod__work_directories", filter=_KEPT),
                directory_bytes=Coalesce(Sum("pod__work_directories__bytes", filter=_KEPT), 0),
            )
        )

    @admin.display(description="Agent")
    def name(self, obj: Agent) -> str:
        return f"{obj.pod.pod_name} on {obj.hostname}"

    @admin.display(description="Pool")
    def pool(self, obj: Agent) -> str:
        return obj.pod.pool.name

    @admin.display(description="Health")
    def health(self, obj: Any) -> Any:
        return health_badge(obj.age, obj.pod.phase)

    @admin.display(description="Heard")
    def heard(self, obj: Agent) -> Any:
        return ago(obj.pod.last_heartbeat)

    @admin.display(description="Engines")
    def engines(self, obj: Agent) -> Any:
        return ", ".join(f"{e['engine']} {e['version']}" for e in obj.pod.engines) or DASH

    @admin.display(description="Directories")
    def directories(self, obj: Any) -> str:
        return f"{obj.directory_count} ({byte_words(obj.directory_bytes)})"

    @admin.display(description="Program")
    def version(self, obj: Agent) -> str:
        return obj.program_version

    def page_queryset(self, request: HttpRequest) -> QuerySet[Agent]:
        return self.get_queryset(request).select_related("pod__pool")

    def facts(self, request: HttpRequest, obj: Any) -> list[tuple[str, Any]]:
        return [
            ("Health", self.health(obj)),
            ("Heard", self.heard(obj)),
            ("Pod", link(object_url(obj.pod), obj.pod.pod_name)),
            ("Pool", link(object_url(obj.pod.pool), obj.pod.pool.name)),
            ("Host", obj.hostname),
            ("Program", obj.program_version),
            ("Engines", self.engines(obj)),
            ("Providers", ", ".join(map(str, obj.pod.providers)) or DASH),
            ("Directories", self.directories(obj)),
            ("Registered", ago(obj.registered_at)),
            ("Id", code(obj.pk)),
        ]


def _in_doubt(user: Any) -> Iterable[Attention]:
    """Agents that missed heartbeats and are not lost yet."""
    agents = Agent.objects.filter(
        health_condition(Health.UNKNOWN), pod__pool__in=visible_pools(user)
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
    agent = Agent.objects.filter(pod=pod).annotate(age=_AGE).first()
    return {
        "agent": agent,
        "badge": health_badge(agent.age, pod.phase) if agent else "",
        "agent_url": object_url(agent) if agent else "",
    }


add_attention(_in_doubt)
add_panel("managedpod", Panel("Agent", "admin/slipway/pods/agent.html", _pod_panel))
