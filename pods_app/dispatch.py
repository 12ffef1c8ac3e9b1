"""Dispatch: which task starts where, and why the others wait.

The same functions run inside the transaction that creates or confirms a task, when a slot
becomes free, in the controller's tick and as a django-q2 job: each alone is sufficient, all at
once are harmless, because a claim locks task, pool, pod and slot in that order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from packaging.version import Version

from pods_app.leases import lease_of, promote, release, start, unended
from pods_app.locking import impatient, pod_accepts_work, pool_accepts_work, take_idle_slot
from pods_app.models import Lease, ManagedPod, PodSlot, Pool, WorkDirectory
from pods_app.notify import notify_controller
from pods_app.states import DirectoryState, LeasePhase, LeaseState, PodPhase, SlotStatus
from tasks_app.actors import Actor
from tasks_app.exceptions import IllegalTransition, NoCapacity
from tasks_app.models import Task
from tasks_app.selectors import blocked_by, startable_order
from tasks_app.states import Status
from tasks_app.transitions import transition

log = logging.getLogger(__name__)
DISPATCH = Actor.system("dispatch")


def dispatch_task(task: Task) -> str:
    """Place one task if it may start and there is room.

    Call it in a transaction that holds the task's row.

    Returns:
        "" when it has a lease now, else the reason why it waits, stored on the task.
    """
    try:
        with impatient():
            reason = _place(task)
    except DatabaseError as error:
        # A lock was not to be had in time; the next tick tries again.
        log.info("dispatch of task %s postponed: %s", task.pk, error)
        reason = "Waits for a slot; the pool is busy placing other work"
    if reason:
        set_waiting_reason(task, reason)
    return reason


def set_waiting_reason(task: Task, reason: str) -> None:
    """Store why a task waits, if that changed."""
    Task.objects.filter(pk=task.pk, status=task.status).exclude(waiting_reason=reason).update(
        waiting_reason=reason
    )
    task.waiting_reason = reason


def _place(task: Task) -> str:
    lease = lease_of(task)
    if task.status == Status.CONFIRMED and lease is not None:
        return _promote(task, lease)
    if lease is not None:
        return "Waits for its former agent to let go"
    if reason := blocked_by(task):
        return reason
    pool = task.placement.pool
    if not pool_accepts_work(pool.pk):
        return f"Pool {pool.name} is frozen"
    for pod in candidates(task, pool):
        if not pod_accepts_work(pod.pk):
            continue
        slot = take_idle_slot(pod.pk)
        if slot is not None:
            return _start(task, slot, pod)
    return _no_room(task, pool)


def _promote(task: Task, lease: Lease) -> str:
    if lease.phase == LeasePhase.APPLY:
        return ""
    if blocked := blocked_by(task):
        return blocked
    pod = lease.slot.pod
    if not pool_accepts_work(pod.pool_id):
        return f"Pool {pod.pool.name} is frozen"
    if pod.phase == PodPhase.ONLINE and promote(lease, actor=DISPATCH):
        set_waiting_reason(task, f"Starts on agent {pod.pod_name}")
        return ""
    return "Waits for its former agent to let go"


def _start(task: Task, slot: PodSlot, pod: ManagedPod) -> str:
    if task.status == Status.CONFIRMED:
        start(task, slot, LeasePhase.APPLY, actor=DISPATCH)
        set_waiting_reason(task, f"Starts on agent {pod.pod_name}")
        return ""
    try:
        with transaction.atomic():
            lease = start(task, slot, LeasePhase.PLAN, actor=DISPATCH)
            transition(
                task,
                Status.PLANNING,
                actor=DISPATCH,
                cause=f"placed on agent {pod.pod_name}",
                sources=[Status.PENDING],
                lease=lease,
                plan_attempts=task.plan_attempts + 1,
                engine_version=task.engine_version or _newest_version(pod, task.engine),
            )
    except IntegrityError:
        # The partial unique index: another plan_and_apply of the workspace was faster.
        return "Waits for an earlier task of this workspace"
    except NoCapacity as error:
        return error.detail
    return ""


def _newest_version(pod: ManagedPod, engine: str) -> str:
    versions = [e["version"] for e in pod.engines if e["engine"] == engine]
    return max(versions, key=Version)


def candidates(task: Task, pool: Pool) -> QuerySet[ManagedPod]:
    """Return the pods that could take ``task`` now, best first.

    The pod that keeps the task's directory, then the fullest, so that whole pods become empty.
    """
    engine = {"engine": task.engine}
    if task.engine_version:
        engine["version"] = task.engine_version
    keeps = WorkDirectory.objects.filter(pod=OuterRef("pk"), task=task, state=DirectoryState.KEPT)
    return (
        ManagedPod.objects.filter(
            pool=pool, phase=PodPhase.ONLINE, draining=False, engines__contains=[engine]
        )
        .annotate(
            keeps=Exists(keeps),
            busy=Count("slots", filter=~Q(slots__status=SlotStatus.IDLE)),
            idle=Count("slots", filter=Q(slots__status=SlotStatus.IDLE)),
        )
        .filter(idle__gt=0)
        .order_by("-keeps", "-busy", "pod_name")
    )


def _no_room(task: Task, pool: Pool) -> str:
    online = ManagedPod.objects.filter(pool=pool, phase=PodPhase.ONLINE, draining=False)
    if not online.exists():
        return f"Waits for an agent: none of pool {pool.name} is online"
    engine = {"engine": task.engine}
    if task.engine_version:
        engine["version"] = task.engine_version
    if not online.filter(engines__contains=[engine]).exists():
        wanted = f"{task.get_engine_display()} {task.engine_version}".strip()
        return f"Waits for an agent with {wanted}: none of pool {pool.name} has it"
    return f"Waits for a free slot in pool {pool.name}"


def dispatch_pass() -> int:
    """Try every waiting task, confirmed ones first, oldest first; then let reservations yield.

    Returns:
        How many tasks got a lease.
    """
    placed = 0
    waiting: dict[UUID, list[Task]] = {}
    for task_id in startable_order():
        with transaction.atomic():
            task = (
                Task.objects.select_for_update(of=("self",), skip_locked=True)
                .select_related("workspace", "placement__pool")
                .filter(pk=task_id, status__in=[Status.PENDING, Status.CONFIRMED])
                .first()
            )
            if task is None or _has_started(task):
                continue
            try:
                reason = dispatch_task(task)
            except IllegalTransition:
                continue
        if not reason:
            placed += 1
        elif reason.startswith("Waits for a free slot"):
            waiting.setdefault(task.placement.pool_id, []).append(task)
    for queue in waiting.values():
        _write_positions(queue)
        yield_reservations(queue)
    return placed


def _has_started(task: Task) -> bool:
    return Lease.objects.filter(task=task, phase=LeasePhase.APPLY, state=LeaseState.LIVE).exists()


def _write_positions(queue: list[Task]) -> None:
    if len(queue) < 2:
        return
    for position, task in enumerate(queue, start=1):
        base = f"Waits for a free slot in pool {task.placement.pool.name}"
        set_waiting_reason(task, f"{base} · {_ordinal(position)} of {len(queue)}")


def _ordinal(number: int) -> str:
    suffix = (
        "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    )
    return f"{number}{suffix}"


def yield_reservations(queue: Iterable[Task]) -> int:
    """Let the oldest reservations of a full pool go, so that they do not starve it.

    For an unplaced confirmed task at once, for other startable work after
    ``reservation_yield_seconds``. A directory stays on its agent: the later apply may still
    find it there.

    Returns:
        How many reservations were asked to go.
    """
    queue = list(queue)
    patience = timedelta(seconds=settings.SLIPWAY.reservation_yield_seconds)
    late = set(
        Task.objects.filter(
            pk__in=[t.pk for t in queue], created_at__lt=Now() - patience
        ).values_list("pk", flat=True)
    )
    urgent = [t for t in queue if t.status == Status.CONFIRMED or t.pk in late]
    if not urgent:
        return 0
    pool_id = urgent[0].placement.pool_id
    going = unended().filter(slot__pod__pool_id=pool_id, state=LeaseState.ENDING).count()
    needed = max(len(urgent) - going, 0)
    held = (
        Lease.objects.filter(
            slot__pod__pool_id=pool_id,
            state=LeaseState.LIVE,
            phase=LeasePhase.HOLD,
            task__status=Status.APPLY_PENDING,
        )
        .select_related("task", "slot__pod")
        .order_by("phase_at")
    )
    yielded = 0
    for lease in held[:needed]:
        with transaction.atomic():
            yielded += release(
                lease, actor=DISPATCH, reason="the reservation yielded to waiting work"
            )
    return yielded


def fill_slots() -> None:
    """A slot became free or a task startable: place what waits, without waiting for the tick."""
    dispatch_pass()
    notify_controller()
