"""How the health of agents looks: on lists and pages of pods and of agents."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter

from pods_app.health import Health, condition, doubt_seconds, judge
from pods_app.models import ManagedPod
from pods_app.states import PodPhase
from tasks_app.formats import ago, badge, seconds_words

_LOOKS = {
    Health.ONLINE: ("favorite", "good"),
    Health.UNKNOWN: ("question_mark", "ask"),
    Health.LOST: ("heart_broken", "bad"),
}
#: Phases of a pod without an agent that could be well.
_WITHOUT_AGENT = {
    PodPhase.GONE: badge("Gone", "quiet", "block"),
    PodPhase.STARTING: badge("Starting", "busy", "hourglass_top"),
}


def health_badge(pod: ManagedPod, silence: timedelta | None) -> SafeString:
    """Return the badge of a pod: how its agent is, or that it has none.

    Args:
        silence: as `with_load` annotates it.
    """
    if pod.deletion_reason and pod.phase != PodPhase.GONE:
        return badge("Being deleted", "bad", "delete")
    if pod.phase in _WITHOUT_AGENT:
        return _WITHOUT_AGENT[PodPhase(pod.phase)]
    health = judge(pod, silence)
    symbol, tone = _LOOKS[health]
    shown = badge(health.label, tone, symbol)
    if pod.draining or pod.ending:
        draining = badge("Draining", "ask", "water_drop")
        return draining if health == Health.ONLINE else format_html("{} {}", shown, draining)
    return shown


def heard(pod: ManagedPod, silence: timedelta | None) -> SafeString:
    """Return when an agent was heard, in a colour if that is too long ago."""
    health = Health.ONLINE if pod.phase in _WITHOUT_AGENT else judge(pod, silence)
    return ago(pod.last_heartbeat, "" if health == Health.ONLINE else _LOOKS[health][1])


def thresholds() -> str:
    """Say after how long a silent agent is in doubt, and lost."""
    lost = seconds_words(settings.SLIPWAY.agent_lost_seconds)
    return f"in doubt after {seconds_words(doubt_seconds())} of silence, lost after {lost}"


class HealthFilter(DropdownFilter):
    """How the agent of a row is; ``pod_path`` of the model's admin leads to its pod."""

    title, parameter_name = "health", "health"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        self.path = model_admin.pod_path
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        return [(health.value, str(health.label)) for health in Health]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in Health.values:
            return queryset
        return queryset.filter(condition(Health(self.value()), self.path))
