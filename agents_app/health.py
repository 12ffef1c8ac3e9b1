"""Which agents are lost: judged by the age of their heartbeats, in database time.

An agent's silence counts only while somebody listened. Web processes note every few seconds
that they do (`Listening`); a gap in these notes, as an outage of the server or the database
leaves, or a jump of the database's clock, starts the count anew for every agent. So after an
outage no agent is declared lost before ``agent_lost_seconds`` have passed since its end.
"""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Exists, F
from django.db.models.functions import Now

from agents_app.models import Listening
from pods_app.models import ManagedPod
from pods_app.services import lose_pod
from pods_app.states import PodPhase
from tasks_app.actors import Actor
from tasks_app.models.base import ClockTimestamp

HEALTH = Actor.system("health")
#: Notes of listening further apart than this are a gap, in seconds.
GAP_SECONDS = 10.0

_NOTE = """
INSERT INTO agents_app_listening AS row (singleton, since, seen_at)
VALUES (true, clock_timestamp(), clock_timestamp())
ON CONFLICT (singleton) DO UPDATE SET
    since = CASE WHEN abs(extract(epoch FROM clock_timestamp() - row.seen_at)) > %(gap)s
                 THEN clock_timestamp() ELSE row.since END,
    seen_at = clock_timestamp()
"""


def note_listening() -> None:
    """Note that this process could hear agents until now."""
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, {"gap": GAP_SECONDS})


def silent_pods() -> list[tuple[ManagedPod, timedelta]]:
    """Return the online pods whose agents are lost, with the age of the last heartbeat."""
    now = ClockTimestamp()
    limit = now - timedelta(seconds=settings.SLIPWAY.agent_lost_seconds)
    listened = Listening.objects.filter(
        since__lt=limit, seen_at__gt=now - timedelta(seconds=GAP_SECONDS)
    )
    pods = (
        ManagedPod.objects.filter(Exists(listened), phase=PodPhase.ONLINE, last_heartbeat__lt=limit)
        .annotate(age=Now() - F("last_heartbeat"))
        .order_by("pod_name")
    )
    return [(pod, pod.age) for pod in pods]


def check_agents(actor: Actor = HEALTH, *, dry_run: bool = False) -> list[ManagedPod]:
    """Declare silent agents lost and return their work, lease by lease.

    Returns:
        The pods that were declared lost, or would be.
    """
    lost = []
    for pod, age in silent_pods():
        cause = f"no heartbeat for {int(age.total_seconds())} s"
        if dry_run or lose_pod(
            pod.pk, actor=actor, cause=cause, silent_seconds=settings.SLIPWAY.agent_lost_seconds
        ):
            lost.append(pod)
    return lost
