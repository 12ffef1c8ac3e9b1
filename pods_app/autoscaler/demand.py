"""What pools need and have, for all of them at once: a constant number of queries."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Exists, OuterRef

from pods_app import waiting
from pods_app.autoscaler.desired import Demand, Limits, Pod, Scaling, scale
from pods_app.cluster.decisions import is_late
from pods_app.freeze.gate import Start, judge
from pods_app.freeze.state import Freeze
from pods_app.freeze.stored import read
from pods_app.leases import unended
from pods_app.models import Lease, ManagedPod, Pool
from pods_app.selectors import with_occupancy
from pods_app.states import PodPhase, PoolKind
from pods_app.warmups.placing import due_for_warmup
from tasks_app.blocking import Blocking
from tasks_app.selectors import startable_order
from tasks_app.states import Status


def scalings(pools: Iterable[Pool]) -> dict[UUID, Scaling]:
    """Return what each of the pools wants now, by id; static pools are left out."""
    scaled = [pool for pool in pools if pool.kind != PoolKind.STATIC]
    if not scaled:
        return {}
    ids = {pool.pk for pool in scaled}
    pods, waits = _pods(ids), _waiting(ids)
    warm = dict(
        due_for_warmup(ids).values_list("placement__pool").annotate(number=Count("pk")).order_by()
    )
    schedules = read(ids)
    return {
        pool.pk: scale(
            Demand(
                running=sum(pod.running for pod in pods[pool.pk]),
                confirmed=waits[pool.pk, Status.CONFIRMED],
                kept_warm=sum(pod.reserved for pod in pods[pool.pk]) + warm.get(pool.pk, 0),
                startable=waits[pool.pk, Status.PENDING],
            ),
            limits_of(pool),
            pods[pool.pk],
            _frozen(pool, schedules.state(pool.pk)),
        )
        for pool in scaled
    }


def limits_of(pool: Pool) -> Limits:
    """Return what operators set about a pool's size."""
    return Limits(
        slots_per_pod=pool.slots_per_pod,
        min_pods=pool.min_pods,
        max_pods=pool.max_pods,
        spare_slots=pool.spare_slots,
        delay_seconds=pool.scale_down_delay_seconds,
    )


def _pods(pool_ids: Collection[UUID]) -> dict[UUID, list[Pod]]:
    """Return the pods that are neither lost nor gone: what a lost one has needs no slot there."""
    found: dict[UUID, list[Pod]] = defaultdict(list)
    rows = ManagedPod.objects.filter(
        pool__in=pool_ids, phase__in=[PodPhase.STARTING, PodPhase.ONLINE]
    )
    for row in with_occupancy(rows).order_by("created_at", "id"):
        found[row.pool_id].append(_pod(row))
    return found


def _pod(row: Any) -> Pod:  # a ManagedPod with its occupancy
    since: datetime = row.last_launch_at or row.created_at
    age = (row.now - since).total_seconds()
    return Pod(
        name=row.pod_name,
        running=row.running,
        reserved=row.reserved,
        idle_seconds=(row.now - row.changed_at).total_seconds(),
        online=row.phase == PodPhase.ONLINE,
        late=is_late(row.phase, row.host, age, row.running + row.reserved),
        draining=row.draining or row.ending,
    )


def _waiting(pool_ids: Collection[UUID]) -> Counter[tuple[UUID, str]]:
    """Count, by pool and status, confirmed tasks without a slot and pending ones not blocked."""
    tasks = list(
        startable_order()
        .filter(
            ~Exists(unended(Lease.objects.filter(task=OuterRef("pk")))),
            placement__pool__in=pool_ids,
        )
        .values_list("pk", "workspace_id", "type", "status", "placement__pool_id")
    )
    blocking = Blocking.of({task[1] for task in tasks if task[3] == Status.PENDING})
    return Counter(
        (pool_id, status)
        for task_id, workspace_id, kind, status, pool_id in tasks
        if status == Status.CONFIRMED or not blocking.reason(task_id, workspace_id, kind, status)
    )


def _frozen(pool: Pool, freeze: Freeze) -> str:
    """Return why the pool must have no pods; "" when it may, and when nobody can tell."""
    closed = None if freeze.problem else judge(freeze, pool.frozen, Start.PLAN)
    return waiting.frozen(pool, closed).sentence if closed else ""
