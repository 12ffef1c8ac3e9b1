"""`reconcile_pods(pool)`: the pods a pool has against those it should have, level-triggered."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import transaction

from pods_app.hosting.base import Hosting
from pods_app.hosting.local import LocalHosting
from pods_app.models import ManagedPod, Pool
from pods_app.registration import add_slots, create_pool_token
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.models.base import ClockTimestamp
from tasks_app.transitions import record

RECONCILE = Actor.system("reconcile")
#: An agent that died is started again after so many seconds at the earliest.
RESTART_SECONDS = 2.0

_HOSTINGS: dict[str, Hosting] = {PoolKind.LOCAL: LocalHosting()}


@dataclass(frozen=True)
class Change:
    """One difference between what is and what should be."""

    pool: str
    pod: str
    action: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return vars(self).copy()


def reconcile_pods(pool: Pool, *, dry_run: bool = False) -> list[Change]:
    """Create missing pods and start dead agents again, so that they re-adopt their work.

    Two callers at once do no harm: the pool's row is locked, the pods' names are fixed.

    Returns:
        What was changed, or would be.
    """
    hosting = _HOSTINGS.get(pool.kind)
    if hosting is None:
        return []
    changes: list[Change] = []
    with transaction.atomic():
        pool = Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
        pods = list(
            ManagedPod.objects.filter(pool=pool, kind=pool.kind).exclude(phase=PodPhase.GONE)
        )
        names = {pod.pod_name for pod in pods}
        for pod in pods:
            if not hosting.alive(pod) and not _started_just_now(pod):
                changes.append(Change(pool.name, pod.pod_name, "start", "its agent is not running"))
                if not dry_run:
                    _launch(hosting, pool, pod)
        for number in range(pool.min_pods):
            name = f"{pool.name}-{number}"
            if pool.frozen or name in names:
                continue
            changes.append(Change(pool.name, name, "create", f"pool wants {pool.min_pods} pods"))
            if not dry_run:
                pod = ManagedPod.objects.create(
                    pool=pool, pod_name=name, pod_uid=str(uuid.uuid4()), kind=pool.kind
                )
                add_slots(pod, pool.slots_per_pod)
                _launch(hosting, pool, pod)
    return changes


def _started_just_now(pod: ManagedPod) -> bool:
    return (
        pod.process_id is not None
        and ManagedPod.objects.filter(
            pk=pod.pk, last_launch_at__gt=ClockTimestamp() - timedelta(seconds=RESTART_SECONDS)
        ).exists()
    )


def _launch(hosting: Hosting, pool: Pool, pod: ManagedPod) -> None:
    _, token = create_pool_token(
        actor=RECONCILE, pool=pool, name=f"pod {pod.pod_name}", lifetime=timedelta(hours=1)
    )
    ManagedPod.objects.filter(pk=pod.pk).update(last_launch_at=ClockTimestamp())
    hosting.create(pool, pod, token)
    record("pod.started", actor=RECONCILE, data={"pod": pod.pod_name, "pool": pool.name})


def stop_pods(pool: Pool) -> int:
    """Ask every pod of a pool to drain and end; returns how many."""
    hosting = _HOSTINGS.get(pool.kind)
    if hosting is None:
        return 0
    pods = ManagedPod.objects.filter(pool=pool, kind=pool.kind).exclude(phase=PodPhase.GONE)
    for pod in pods:
        hosting.delete(pod)
    return len(pods)
