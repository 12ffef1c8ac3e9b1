"""How an agent is, as people and programs see it: online, in doubt, or lost.

Lost is what was declared lost (`agents_app/health.py`), because only then its work was
returned. An agent that is silent, but not lost, is in doubt: it may have missed a few
heartbeats, or nobody listened.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db.models import DurationField, ExpressionWrapper, F, Q, TextChoices
from django.db.models.functions import Now

from pods_app.models import ManagedPod
from pods_app.states import PodPhase

#: An agent is in doubt after missing so many heartbeats.
MISSED_HEARTBEATS = 3


class Health(TextChoices):
    ONLINE = "online", "Online"
    UNKNOWN = "unknown", "In doubt"
    LOST = "lost", "Lost"


def doubt_seconds() -> float:
    """Return after how many seconds of silence an agent is in doubt."""
    return float(MISSED_HEARTBEATS * settings.SLIPWAY.heartbeat_seconds)


def age(prefix: str = "") -> ExpressionWrapper:
    """Return the annotation how long ago an agent was heard, in database time.

    Args:
        prefix: from the queried model to the pod, for example ``pod__``.
    """
    return ExpressionWrapper(Now() - F(f"{prefix}last_heartbeat"), output_field=DurationField())


def judge(pod: ManagedPod, silence: timedelta | None) -> Health:
    """Judge the agent of a pod by what was declared, else by its silence.

    Args:
        silence: since its last heartbeat, as :func:`age` counts; None: it never sent one.
    """
    if pod.phase in (PodPhase.LOST, PodPhase.GONE):
        return Health.LOST
    heard = silence is not None and silence.total_seconds() <= doubt_seconds()
    return Health.ONLINE if heard and pod.phase == PodPhase.ONLINE else Health.UNKNOWN


def condition(health: Health, prefix: str = "") -> Q:
    """Return the condition on a pod that is not gone that :func:`judge` says ``health`` of it.

    Args:
        prefix: from the queried model to the pod, for example ``pod__``.
    """
    online, heard = Q(**{f"{prefix}phase": PodPhase.ONLINE}), f"{prefix}last_heartbeat"
    limit = Now() - timedelta(seconds=doubt_seconds())
    if health == Health.ONLINE:
        return online & Q(**{f"{heard}__gte": limit})
    if health == Health.LOST:
        return Q(**{f"{prefix}phase": PodPhase.LOST})
    silent = Q(**{heard: None}) | Q(**{f"{heard}__lt": limit})
    return Q(**{f"{prefix}phase": PodPhase.STARTING}) | online & silent
