"""The queue: one pass over everything that waits, with a constant number of queries.

The pass reads the queue and the free room once, decides in memory who cannot start and why, and
opens a transaction only for tasks that have room: at most one for each free slot or held lease,
however long the queue is.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.expressions import Expression, ExpressionWrapper
from django.db.models.fields import BooleanField

from pods_app import free_disk, waiting
from pods_app.dispatch import DISPATCH, dispatch_task, takes_work
from pods_app.freeze.gate import Start, judge
from pods_app.freeze.state import Freeze
from pods_app.freeze.stored import read
from pods_app.incarnation import installation
from pods_app.leases import release_hold, unended
from pods_app.locking import usable_slot
from pods_app.models import Lease, ManagedPod, PodSlot, Pool
from pods_app.notify import notify_controller
from pods_app.states import (
    RESERVING,
    LeasePhase,
    LeaseState,
    PodPhase,
    PoolKind,
    SlotStatus,
)
from pods_app.waiting import Waiting
from tasks_app.blocking import Blocking
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.selectors import startable_order
from tasks_app.states import FINAL, Status, TaskType

log = logging.getLogger(__name__)
#: How many tasks are tried at once when a slot becomes free; the tick tries the rest.
_NEXT = 3


@dataclass
class Entry:
    """A task of the queue, as the pass read it."""

    id: UUID
    status: str
    type: str
    workspace_id: UUID
    engine: str
    engine_version: str
    waiting_reason: str
    pool_id: UUID
    late: bool
    bound: bool  # its plan lies only in its directory
    lease: tuple[str, str, str] | None = None  # phase, state, phase of the pod

    @classmethod
    def read(cls, tasks: QuerySet[Task], late: Expression) -> list[Entry]:
        """Return tasks in their order, whose ``late`` is that expression, without their leases."""
        bound = ExpressionWrapper(
            Q(status=Status.CONFIRMED, plan__bundle=None), output_field=BooleanField()
        )
        rows = tasks.annotate(late=late, bound=bound).values_list(
            "pk",
            "status",
            "type",
            "workspace_id",
            "engine",
            "engine_version",
            "waiting_reason",
            "placement__pool_id",
            "late",
            "bound",
        )
        return [cls(*row) for row in rows]


@dataclass
class Room:
    """What a pool's pods have free, and the reservations that could yield."""

    pool: Pool
    freeze: Freeze
    pods: list[ManagedPod] = field(default_factory=list)
    free: dict[UUID, int] = field(default_factory=dict)
    kept: set[tuple[UUID, UUID]] = field(default_factory=set)  # task, pod with its directory

    def suitable(self, entry: Entry) -> list[ManagedPod]:
        return [
            pod
            for pod in self.pods
            if _has_engine(pod, entry)
            and ((entry.id, pod.pk) in self.kept or not (entry.bound or free_disk.low(pod)))
        ]

    def judge(self, entry: Entry) -> Waiting | None:
        """Return why ``entry`` finds no room now; None: try it."""
        if not self.pods:
            return waiting.no_agent(self.pool)
        if not any(_has_engine(pod, entry) for pod in self.pods):
            label = Task(engine=entry.engine).get_engine_display()
            return waiting.no_engine(self.pool, label, entry.engine_version)
        suitable = self.suitable(entry)
        if not suitable:
            none = waiting.no_directory if entry.bound else waiting.no_disk
            return none(self.pool)
        if not any(self.free[pod.pk] for pod in suitable):
            return waiting.no_slot(self.pool)
        return None

    def take(self, entry: Entry, pod_id: UUID | None) -> None:
        """Count a slot as taken: that of ``pod_id``, else one the entry could have had."""
        if pod_id is None or not self.free.get(pod_id):
            pod_id = next((pod.pk for pod in self.suitable(entry) if self.free[pod.pk]), None)
        if pod_id is not None:
            self.free[pod_id] -= 1


def _has_engine(pod: ManagedPod, entry: Entry) -> bool:
    return any(
        e["engine"] == entry.engine and entry.engine_version in ("", e["version"])
        for e in pod.engines
    )


def dispatch_pass() -> int:
    """Try every waiting task that has room, confirmed ones first, oldest first.

    The others get the reason why they wait, and reservations yield to those that only lack a
    slot.

    Returns:
        How many tasks got a lease.
    """
    entries = _entries()
    if not entries:
        return 0
    rooms, doubt = _rooms({entry.pool_id for entry in entries}), installation().doubt
    blocking = Blocking.of({entry.workspace_id for entry in entries})
    reasons: dict[UUID, str] = {}
    queues: dict[UUID, list[Entry]] = defaultdict(list)
    placed = 0
    for entry in entries:
        room = rooms[entry.pool_id]
        reason = _judge(entry, room, doubt, blocking)
        if reason is None and not _has_started(entry):
            lease, reason = _try(entry.id)
            placed += lease is not None
            if entry.lease is None:  # else it stays in the slot that was reserved for it
                room.take(entry, lease.slot.pod_id if lease else None)
            if reason is not None and reason.code != waiting.Code.NO_SLOT:
                continue  # stored by the try
        if reason is None:
            continue
        if reason.code == waiting.Code.NO_SLOT:
            queues[entry.pool_id].append(entry)
        else:
            reasons[entry.id] = reason.sentence
    for pool_id, queue in queues.items():
        for position, entry in enumerate(queue, start=1):
            reason = waiting.no_slot(rooms[pool_id].pool, position, len(queue))
            reasons[entry.id] = reason.sentence
        yield_reservations(queue, rooms[pool_id])
    waiting.write_reasons(
        [
            (entry.id, entry.status, entry.waiting_reason, reasons[entry.id])
            for entry in entries
            if reasons.get(entry.id, entry.waiting_reason) != entry.waiting_reason
        ]
    )
    return placed


def look(pool_ids: set[UUID]) -> tuple[dict[UUID, Room], set[UUID]]:
    """Look at pools for what must take no slot that a task waits for.

    Returns:
        The pools by id with their room, less what tasks that could start now will take; and the
        ids of those in which tasks wait for a slot.
    """
    rooms, entries = _rooms(pool_ids), _entries(pool_ids)
    blocking = Blocking.of({entry.workspace_id for entry in entries})
    crowded = set()
    for entry in entries:
        reason = _judge(entry, rooms[entry.pool_id], "", blocking)
        if reason is not None and reason.code == waiting.Code.NO_SLOT:
            crowded.add(entry.pool_id)
        elif reason is None and entry.lease is None:
            rooms[entry.pool_id].take(entry, None)
    return rooms, crowded


def _entries(pool_ids: set[UUID] | None = None) -> list[Entry]:
    patience = timedelta(seconds=settings.SLIPWAY.reservation_yield_seconds)
    late = ExpressionWrapper(
        Q(created_at__lt=ClockTimestamp() - patience), output_field=BooleanField()
    )
    chosen = Q() if pool_ids is None else Q(placement__pool__in=pool_ids)
    entries = Entry.read(startable_order().filter(chosen), late)
    # Of every task, at most one a slot: one of these may have begun to apply since they were read.
    leases = {
        task_id: (phase, state, pod_phase)
        for task_id, phase, state, pod_phase in unended().values_list(
            "task_id", "phase", "state", "slot__pod__phase"
        )
    }
    for entry in entries:
        entry.lease = leases.get(entry.id)
    return entries


def _rooms(pool_ids: set[UUID]) -> dict[UUID, Room]:
    schedules = read(pool_ids)
    rooms = {
        pool.pk: Room(pool, schedules.state(pool.pk))
        for pool in Pool.objects.filter(pk__in=pool_ids)
    }
    idle = Q(usable_slot("slots__"), slots__status=SlotStatus.IDLE)
    for pod in (
        ManagedPod.objects.filter(takes_work(), pool__in=pool_ids)
        .annotate(idle=Count("slots", filter=idle))
        .order_by("pod_name")
    ):
        rooms[pod.pool_id].pods.append(pod)
        rooms[pod.pool_id].free[pod.pk] = pod.idle
    pods = [pod for room in rooms.values() for pod in room.pods]
    kept = free_disk.keepers([pod.pk for pod in pods])
    for room in rooms.values():
        room.kept = kept
    return rooms


def _judge(entry: Entry, room: Room, doubt: str, blocking: Blocking) -> Waiting | None:
    """Return why ``entry`` cannot start now; None: it has started, or is worth a try."""
    confirmed = entry.status == Status.CONFIRMED
    if _has_started(entry):
        return None
    if entry.lease is not None:
        phase, state, pod_phase = entry.lease
        here = (state, pod_phase) == (LeaseState.LIVE, PodPhase.ONLINE)
        if not (confirmed and here and phase in RESERVING):
            return waiting.FORMER_AGENT
    if sentence := blocking.reason(entry.id, entry.workspace_id, entry.type, entry.status):
        return waiting.blocked(sentence)
    start = Start.APPLY if confirmed else Start.PLAN
    if closed := judge(room.freeze, room.pool.frozen, start):
        return waiting.frozen(room.pool, closed)
    if confirmed and doubt:
        return waiting.doubt(doubt)
    return None if entry.lease else room.judge(entry)


def _has_started(entry: Entry) -> bool:
    return entry.lease is not None and entry.lease[:2] == (LeasePhase.APPLY, LeaseState.LIVE)


def _try(task_id: UUID) -> tuple[Lease | None, Waiting | None]:
    """Try to place one task, unless somebody is at it; a failure does not stop the others."""
    try:
        with transaction.atomic():
            task = (
                Task.objects.select_for_update(of=("self",), skip_locked=True)
                .select_related("workspace", "placement__pool")
                .filter(pk=task_id, status__in=[Status.PENDING, Status.CONFIRMED])
                .first()
            )
            if task is None or _apply_lease(task_id):
                return None, None
            if reason := dispatch_task(task):
                return None, reason
            return unended().select_related("slot").get(task=task), None
    except Exception:
        log.exception("dispatch of task %s failed; the others go on", task_id)
        return None, None


def _apply_lease(task_id: UUID) -> bool:
    return Lease.objects.filter(
        task_id=task_id, phase=LeasePhase.APPLY, state=LeaseState.LIVE
    ).exists()


def yield_reservations(queue: Sequence[Entry], room: Room) -> int:
    """Let the oldest reservations of a full pool go, so that they do not starve it.

    For an unplaced confirmed task at once; for other startable work after
    ``reservation_yield_seconds``, and only where the pool cannot grow for it. On pods that could
    run that work. A directory stays on its agent: the later apply may still find it there.

    Returns:
        How many reservations were asked to go.
    """
    urgent = [entry for entry in queue if entry.status == Status.CONFIRMED]
    late = [entry for entry in queue if entry.late and entry.status != Status.CONFIRMED]
    if late and not _may_grow(room.pool):
        urgent += late
    urgent = _still_unplaced(urgent)
    if not urgent:
        return 0
    leases = unended().filter(slot__pod__in=[pod.pk for pod in room.pods])
    going = list(leases.filter(state=LeaseState.ENDING).values_list("slot__pod_id", flat=True))
    held: list[tuple[Any, Any]] = list(
        leases.filter(state=LeaseState.LIVE, phase__in=RESERVING, task__status=Status.APPLY_PENDING)
        .order_by("phase_at")
        .values_list("pk", "slot__pod_id")
    )
    yielded = 0
    for entry in urgent:
        if not held:
            break
        pods = {pod.pk for pod in room.suitable(entry)}
        coming = next((pod_id for pod_id in going if pod_id in pods), None)
        if coming is not None:
            going.remove(coming)  # this slot becomes free for it anyway
            continue
        choice = next((row for row in held if row[1] in pods), None)
        if choice is not None:
            held.remove(choice)
            yielded += release_hold(
                choice[0], actor=DISPATCH, reason="the reservation yielded to waiting work"
            )
    return yielded


def _still_unplaced(entries: Sequence[Entry]) -> list[Entry]:
    """Return those that wait for a slot even now: they were read one by one, a while ago."""
    waiting_ids = set(
        Task.objects.filter(
            pk__in=[entry.id for entry in entries], status__in=[Status.PENDING, Status.CONFIRMED]
        )
        .exclude(Exists(unended().filter(task=OuterRef("pk"))))
        .values_list("pk", flat=True)
    )
    return [entry for entry in entries if entry.id in waiting_ids]


def _may_grow(pool: Pool) -> bool:
    """Whether another pod may come; not to a pool that something hinders."""
    if pool.kind == PoolKind.STATIC or pool.trouble:
        return False
    return pool.pods.exclude(phase=PodPhase.GONE).count() < pool.max_pods


def fill_slots(pool_id: UUID) -> None:
    """A slot of the pool may be free: place what comes next, without waiting for the tick.

    Runs inside requests of agents and people, so it tries only the first few; the controller
    is woken for the rest.
    """
    idle = PodSlot.objects.filter(
        usable_slot(),
        pod__pool_id=pool_id,
        pod__phase=PodPhase.ONLINE,
        pod__draining=False,
        pod__ending=False,
        status=SlotStatus.IDLE,
    )
    if idle.exists():
        for task_id in _next_tasks(pool_id):
            _, reason = _try(task_id)
            if reason is not None and reason.code == waiting.Code.NO_SLOT:
                break
    notify_controller()


def _next_tasks(pool_id: UUID) -> list[UUID]:
    ahead = Task.objects.filter(
        workspace=OuterRef("workspace"), type=TaskType.PLAN_AND_APPLY, pk__lt=OuterRef("pk")
    ).exclude(status__in=FINAL)
    has_lease = unended(Lease.objects.filter(task=OuterRef("pk")))
    return list(
        startable_order()
        .filter(
            Q(status=Status.CONFIRMED) | ~Q(type=TaskType.PLAN_AND_APPLY) | ~Exists(ahead),
            ~Exists(has_lease),
            placement__pool_id=pool_id,
            workspace__locked_at=None,
        )
        .values_list("pk", flat=True)[:_NEXT]
    )
