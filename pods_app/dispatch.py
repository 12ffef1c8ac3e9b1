"""Dispatch of one task: where it starts, or why it waits.

The same function runs inside the transaction that creates or confirms a task, when a slot
becomes free, in the controller's tick and as a django-q2 job (`pods_app.queue`): each alone is
sufficient, all at once are harmless, because a claim locks task, pool, pod and slot in that
order.
"""

from __future__ import annotations

import logging

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import (
    Case,
    Count,
    F,
    IntegerField,
    Q,
    QuerySet,
    Value,
    When,
)
from packaging.version import InvalidVersion, Version

from pods_app import free_disk, waiting
from pods_app.freeze.gate import Start, refusal
from pods_app.incarnation import installation
from pods_app.leases import lease_of, promote, start
from pods_app.locking import (
    impatient,
    pod_accepts_work,
    take_idle_slot,
    usable_slot,
)
from pods_app.models import Lease, ManagedPod, PodSlot, Pool, TaskPlacement
from pods_app.selectors import can_have_plan, has_directory
from pods_app.states import DirectoryState, LeasePhase, LeaseState, PodPhase, SlotStatus
from pods_app.waiting import Waiting
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.selectors import blocked_by
from tasks_app.services.state import open_lock
from tasks_app.states import Status
from tasks_app.transitions import transition

log = logging.getLogger(__name__)
DISPATCH = Actor.system("dispatch")


def dispatch_task(task: Task) -> Waiting | None:
    """Place one task if it may start and there is room.

    Call it in a transaction that holds the task's row.

    Returns:
        None when it has a lease now, else why it waits, which is stored on the task.
    """
    try:
        with impatient():
            reason = _place(task)
    except (OperationalError, IntegrityError) as error:
        # A lock was not to be had in time, or somebody was faster; the next tick tries again.
        log.info("dispatch of task %s postponed: %s", task.pk, error)
        task.refresh_from_db()  # what the savepoint took back
        reason = waiting.BUSY
    if reason:
        waiting.set_reason(task, reason.sentence)
    return reason


def _place(task: Task) -> Waiting | None:
    lease = lease_of(task)
    if lease is not None and task.status != Status.CONFIRMED:
        return waiting.FORMER_AGENT
    if lease is not None and lease.phase == LeasePhase.APPLY:
        return None if lease.state == LeaseState.LIVE else waiting.FORMER_AGENT
    if reason := blocked_by(task):
        return waiting.blocked(reason)
    where: TaskPlacement | ManagedPod = task.placement if lease is None else lease.slot.pod
    start = Start.APPLY if task.status == Status.CONFIRMED else Start.PLAN
    if closed := refusal(where.pool_id, start):
        return waiting.frozen(where.pool, closed)
    # Its permit would be refused, and each refusal would cost the apply one of its placements.
    if task.status == Status.CONFIRMED and (doubt := installation().doubt):
        return waiting.doubt(doubt)
    if task.status == Status.CONFIRMED and task.has_own_state and open_lock(task.workspace):
        return waiting.blocked("Waits until whoever holds the lock of the state releases it")
    if lease is not None:
        return _promote(task, lease)
    pool = where.pool
    for pod in candidates(task, pool):
        if not pod_accepts_work(pod.pk):
            continue
        slot = take_idle_slot(pod.pk)
        if slot is not None:
            return _start(task, slot, pod)
    return why_no_room(task, pool)


def _promote(task: Task, lease: Lease) -> Waiting | None:
    pod = lease.slot.pod
    if pod.phase == PodPhase.ONLINE and promote(lease, actor=DISPATCH):
        waiting.set_reason(task, f"Starts on agent {pod.pod_name}")
        return None
    return waiting.FORMER_AGENT


def _start(task: Task, slot: PodSlot, pod: ManagedPod) -> Waiting | None:
    if task.status == Status.CONFIRMED:
        start(task, slot, LeasePhase.APPLY, actor=DISPATCH)
        waiting.set_reason(task, f"Starts on agent {pod.pod_name}")
        return None
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
                engine_version=task.engine_version or newest_version(pod, task.engine),
            )
    except IntegrityError:
        # The partial unique index: another plan_and_apply of the workspace was faster.
        return waiting.blocked("Waits for an earlier task of this workspace")
    return None


def newest_version(pod: ManagedPod, engine: str) -> str:
    """Return the newest version of ``engine`` a pod has; releases before pre-releases."""
    versions: list[str] = [e["version"] for e in pod.engines if e["engine"] == engine]
    return max(versions, key=_age)


def _age(version: str) -> tuple[bool, bool, Version]:
    try:
        parsed = Version(version)
    except InvalidVersion:  # an agent's own build; still a version that it has
        return False, False, Version("0")
    return True, not parsed.is_prerelease, parsed


def takes_work(prefix: str = "") -> Q:
    """Return the condition that a pod may be given work.

    Args:
        prefix: from the queried model to the pod, for example ``pod__``.
    """
    facts = {"phase": PodPhase.ONLINE, "draining": False, "ending": False}
    return Q(**{f"{prefix}{name}": value for name, value in facts.items()})


def candidates(task: Task, pool: Pool) -> QuerySet[ManagedPod]:
    """Return the pods that could take ``task`` now, best first.

    The pod that keeps the task's directory, then the fullest, so that whole pods become empty.
    A pod that is deleting the task's directory comes last: the new one would lie at its place.
    The apply of a plan that was too large to be stored has only the pod that keeps it.
    """
    engine = {"engine": task.engine}
    if task.engine_version:
        engine["version"] = task.engine_version
    idle = Q(usable_slot("slots__"), slots__status=SlotStatus.IDLE)
    return (
        ManagedPod.objects.filter(takes_work(), pool=pool, engines__contains=[engine])
        .filter(free_disk.takes(task), _has_its_plan(task))
        .annotate(
            rank=Case(
                When(has_directory(task), then=Value(0)),
                When(has_directory(task, DirectoryState.DELETING), then=Value(2)),
                default=Value(1),
                output_field=IntegerField(),
            ),
            all=Count("slots"),
            idle=Count("slots", filter=idle),
        )
        .filter(idle__gt=0)
        .order_by("rank", F("idle") - F("all"), "pod_name")
    )


def _has_its_plan(task: Task) -> Q:
    """Return the condition that a pod can have the plan of a confirmed task."""
    return can_have_plan(task) if task.status == Status.CONFIRMED else Q()


def why_no_room(task: Task, pool: Pool) -> Waiting:
    """Return why none of the :func:`candidates` takes a task."""
    online = ManagedPod.objects.filter(takes_work(), pool=pool)
    if not online.exists():
        return waiting.no_agent(pool)
    engine = {"engine": task.engine}
    if task.engine_version:
        engine["version"] = task.engine_version
    suitable = online.filter(engines__contains=[engine])
    if not suitable.exists():
        return waiting.no_engine(pool, task.get_engine_display(), task.engine_version)
    if not suitable.filter(_has_its_plan(task)).exists():
        return waiting.no_directory(pool)
    if not suitable.filter(free_disk.takes(task)).exists():
        return waiting.no_disk(pool)
    return waiting.no_slot(pool)
