"""What a reconciliation knows: the pool's rows in database time, and the cluster's objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pods_app.cluster import names
from pods_app.cluster.client import Cluster
from pods_app.cluster.decisions import Object, Pause, Row
from pods_app.cluster.diagnosis import Diagnosis, ObjectPhase, diagnose
from pods_app.cluster.errors import Forbidden
from pods_app.models import ManagedPod, Pool
from pods_app.selectors import with_occupancy
from pods_app.states import PodPhase, PoolKind
from tasks_app.models.base import ClockTimestamp

#: A pod that served for less long was started in vain, in seconds.
_SERVED_SECONDS = 60
_PAUSE_SECONDS_MAX = 300
#: So many pods are asked for their events in one pass, once they wait for so many seconds.
_EVENTS_MAX, _EVENTS_AFTER_SECONDS = 5, 10


def rows_of(pool: Pool) -> list[Row]:
    """Return the pool's pods in the cluster that are not gone, oldest first. One query."""
    pods = ManagedPod.objects.filter(pool=pool, kind=PoolKind.KUBERNETES).exclude(
        phase=PodPhase.GONE
    )
    return [_row(pod) for pod in with_occupancy(pods).order_by("created_at", "id")]


def _row(pod: Any) -> Row:  # a ManagedPod with its occupancy
    launched = _seconds(pod.now, pod.last_launch_at or pod.created_at)
    pause = min(2**pod.failed_launches, _PAUSE_SECONDS_MAX) if pod.failed_launches else 0
    return Row(
        id=pod.pk,
        name=pod.pod_name,
        uid=pod.pod_uid,
        phase=pod.phase,
        reason=pod.phase_reason,
        draining=pod.draining,
        deletion=pod.deletion_reason,
        occupied=pod.running + pod.reserved,
        idle_seconds=_seconds(pod.now, pod.changed_at),
        template=pod.template_digest,
        node=pod.host,
        age_seconds=launched,
        silent_seconds=_seconds(pod.now, pod.last_heartbeat) if pod.last_heartbeat else launched,
        pause_seconds=max(pause - launched, 0) if pod.last_launch_at else 0,
    )


def _seconds(now: datetime, then: datetime) -> float:
    return (now - then).total_seconds()


def pause_of(pool: Pool) -> Pause | None:
    """Return what to wait for before another pod is made, the longer the more have failed.

    None when nothing is to be waited for.
    """
    newest = (
        ManagedPod.objects.filter(pool=pool, kind=PoolKind.KUBERNETES, last_launch_at__isnull=False)
        .annotate(now=ClockTimestamp())
        .order_by("-created_at", "-id")[:10]
    )
    failed = 0
    pods: list[Any] = list(newest)
    for pod in pods:
        served = pod.last_heartbeat and pod.last_heartbeat - pod.last_launch_at
        ended_well = pod.phase == PodPhase.GONE and not pod.failed_launches
        if pod.phase != PodPhase.GONE or ended_well:
            break
        if served and served > timedelta(seconds=_SERVED_SECONDS):
            break
        failed += 1
    if not failed:
        return None
    last, seconds = pods[0], min(2**failed, _PAUSE_SECONDS_MAX)
    until = last.last_launch_at + timedelta(seconds=seconds)
    return Pause(failed, seconds, until, last.phase_reason) if until > last.now else None


def over(rows: Iterable[Row], objects: Iterable[Object]) -> list[UUID]:
    """Return which of the rows that objects name, and that are not among ``rows``, are gone."""
    known = {str(row.id) for row in rows}
    ids = {one.row_id for one in objects if one.row_id not in known}
    asked = [UUID(text) for text in ids if _is_uuid(text)]
    if not asked:
        return []
    return list(
        ManagedPod.objects.filter(pk__in=asked, phase=PodPhase.GONE).values_list("pk", flat=True)
    )


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", text) is not None


def objects_of(
    pool: Pool, pods: Sequence[dict[str, Any]], owner: str, api: Cluster
) -> list[Object]:
    """Return the objects that concern a pool: its own, and whatever has a name like theirs.

    Args:
        pods: every pod of the namespace.
        owner: the installation's mark.
    """
    alike = re.compile(rf"{re.escape(pool.name)}-[0-9]+")
    asked, found = 0, []
    for pod in pods:
        metadata = pod["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        ours = labels.get(names.OWNER) == owner and labels.get(names.POOL) == str(pool.pk)
        if not ours and not alike.fullmatch(metadata["name"]):
            continue
        seen = diagnose(pod, datetime.now(UTC))
        if ours and asked < _EVENTS_MAX and _wants_events(pod, seen):
            asked += 1
            seen = diagnose(pod, datetime.now(UTC), _events(api, metadata["uid"]))
        found.append(
            Object(
                name=metadata["name"],
                uid=metadata["uid"],
                diagnosis=seen,
                version=metadata["resourceVersion"],
                row_id=annotations.get(names.ROW, "") if ours else "",
                ours=ours,
                busy=labels.get(names.BUSY) == "true",
                template=annotations.get(names.TEMPLATE, ""),
            )
        )
    return found


def _wants_events(pod: dict[str, Any], seen: Diagnosis) -> bool:
    if seen.deleting or seen.phase not in {ObjectPhase.PENDING, ObjectPhase.STARTING}:
        return False
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return datetime.now(UTC) - created > timedelta(seconds=_EVENTS_AFTER_SECONDS)


def _events(api: Cluster, uid: str) -> list[dict[str, Any]]:
    try:
        return api.events(uid)
    except Forbidden:
        return []  # the object's own words must do
