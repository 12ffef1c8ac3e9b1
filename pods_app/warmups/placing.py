"""Where a waiting plan is made ready.

Whatever may let a warm-up start (a slot that became free, an agent that registered or was lost,
a person) calls :func:`warm_pass` for that pool once it is committed; the controller and a
django-q2 job call it for all. Each is enough.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import (
    Case,
    Count,
    Exists,
    F,
    IntegerField,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
    Window,
)
from django.db.models.functions import RowNumber

from pods_app import free_disk
from pods_app.dispatch import takes_work
from pods_app.freeze.gate import Start, judge, refusal
from pods_app.health import doubt_seconds
from pods_app.incarnation import installation
from pods_app.leases import lease_of, start, unended
from pods_app.locking import impatient, pod_accepts_work, take_idle_slot, usable_slot
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.queue import Entry, look
from pods_app.selectors import can_have_plan, has_directory
from pods_app.states import DirectoryState, LeasePhase, SlotStatus
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import warmups
from tasks_app.states import Status, WarmupStatus

log = logging.getLogger(__name__)
WARM = Actor.system("warm-up")
#: Of each pool's plans so many are looked at in one pass, the oldest first.
_LOOKED_AT = 50


def warm_pass(pool_ids: set[UUID] | None = None) -> int:
    """Have waiting plans made ready that are not, oldest first, where nobody waits for the slot.

    One query when there is nothing to do, a constant number to find out what there is room for.

    Args:
        pool_ids: only of these pools.

    Returns:
        How many warm-ups began.
    """
    due = _due(pool_ids)
    if not due or installation().doubt:
        return 0
    rooms, crowded = look({entry.pool_id for entry in due})
    begun: dict[UUID, int] = dict.fromkeys(rooms, 0)
    most = settings.SLIPWAY.warmups_per_pass  # a pool that comes back starts gently
    for entry in due:
        room = rooms[entry.pool_id]
        if entry.pool_id in crowded or begun[entry.pool_id] >= most:
            continue
        if judge(room.freeze, room.pool.frozen, Start.WARMUP) or room.judge(entry):
            continue
        lease = _begin(entry.id)
        room.take(entry, lease.slot.pod_id if lease else None)
        begun[entry.pool_id] += lease is not None
    return sum(begun.values())


def due_for_warmup(pool_ids: Collection[UUID] | None) -> QuerySet[Task]:
    """Return the waiting plans that have no slot and are to be made ready now.

    Args:
        pool_ids: only of these pools.
    """
    now = ClockTimestamp()
    kept = WorkDirectory.objects.filter(
        takes_work("pod__"), task=OuterRef("pk"), state=DirectoryState.KEPT
    )
    return Task.objects.filter(
        Q(warmup_status__in=[WarmupStatus.NONE, WarmupStatus.EXPIRED])
        & (Q(warmup_retry_at=None) | Q(warmup_retry_at__lte=now))
        | Q(warmup_status=WarmupStatus.FAILED, warmup_retry_at__lte=now),
        # A plan that is too large for the server lies ready where it was made, or nowhere.
        Q(plan__bundle__isnull=False) | Exists(kept),
        ~Exists(unended(Lease.objects.filter(task=OuterRef("pk")))),
        Q() if pool_ids is None else Q(placement__pool__in=pool_ids),
        status=Status.APPLY_PENDING,
        keep_warm_until__gt=now,
    )


def _due(pool_ids: set[UUID] | None) -> list[Entry]:
    place = Window(RowNumber(), partition_by=F("placement__pool"), order_by="id")
    oldest = due_for_warmup(pool_ids).annotate(place=place).filter(place__lte=_LOOKED_AT)
    return Entry.read(oldest.order_by("id"), Value(False))


def _begin(task_id: UUID) -> Lease | None:
    """Give one warm-up to an agent, unless somebody is at the task; the others go on."""
    try:
        with transaction.atomic(), impatient():
            return _place(task_id)
    except (OperationalError, IntegrityError) as error:
        log.info("the warm-up of task %s is postponed: %s", task_id, error)
    except Exception:
        log.exception("the warm-up of task %s failed to begin; the others go on", task_id)
    return None


def _place(task_id: UUID) -> Lease | None:
    """Take a slot for the task, in the lock order: task, pool, pod, slot, lease."""
    task = (
        Task.objects.select_for_update(of=("self",), skip_locked=True, no_key=True)
        .select_related("placement__pool", "plan")
        .filter(pk=task_id, status=Status.APPLY_PENDING)
        .exclude(warmup_status__in=[WarmupStatus.WARMING, WarmupStatus.READY])
        .first()
    )
    if task is None or lease_of(task) or refusal(task.placement.pool_id, Start.WARMUP):
        return None
    for pod in _candidates(task):
        slot = take_idle_slot(pod.pk) if pod_accepts_work(pod.pk) else None
        if slot is not None:
            lease = start(task, slot, LeasePhase.WARMUP, actor=WARM)
            warmups.begin(task, agent_id=pod.agent_id, actor=WARM, lease=lease)
            return lease
    return None


def _candidates(task: Task) -> QuerySet[ManagedPod]:
    """Return the pods that could make a task's apply ready, best first.

    Those whose agents are heard; of them the pod that keeps its directory, then those that have
    the plan's providers, then the emptiest, so that what waits is spread. Never one that is
    deleting the task's directory.
    """
    silent = ClockTimestamp() - timedelta(seconds=doubt_seconds())
    idle = Q(usable_slot("slots__"), slots__status=SlotStatus.IDLE)
    return (
        ManagedPod.objects.filter(
            takes_work(),
            free_disk.takes(task),
            can_have_plan(task),
            ~has_directory(task, DirectoryState.DELETING),
            pool=task.placement.pool_id,
            engines__contains=[{"engine": task.engine, "version": task.engine_version}],
        )
        .annotate(
            in_doubt=Case(When(last_heartbeat__lt=silent, then=Value(True)), default=Value(False)),
            rank=Case(
                When(has_directory(task), then=Value(0)),
                When(providers__contains=task.plan.providers, then=Value(1)),
                default=Value(2),
                output_field=IntegerField(),
            ),
            idle=Count("slots", filter=idle),
        )
        .filter(idle__gt=0)
        .order_by("in_doubt", "rank", "-idle", "pod_name")
    )
