"""Leases: one stay of a task in a slot, and the slot's occupancy with it.

::

    plan ────► hold ──► apply        live ──► ending ──► ended
    warmup ──►   │        ▲           (an agent still has   (its process is gone,
       └─────────┴────────┤            something to stop)    the slot is idle)
    apply (elsewhere, normal path)

A warm-up is confirmed in any phase: its agent goes on to the apply from where it is. What lies
ready for a plan that waits belongs to its lease, and is over with it (`_warmup_over`).

Only this module writes `Lease` and `PodSlot`. Every change is a guarded UPDATE under the locks
of `locking.py`; the caller holds the task's row.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NoReturn
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Max, QuerySet
from django.dispatch import Signal

from pods_app.locking import lock_lease, lock_lease_alone
from pods_app.models import Lease, ManagedPod, PodSlot
from pods_app.notify import Confirmed, notify_agent
from pods_app.states import RESERVING, LeasePhase, LeaseState, SlotStatus
from tasks_app.actors import Actor
from tasks_app.exceptions import NoCapacity, NotFound, StaleLease
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import warmups
from tasks_app.states import Status
from tasks_app.transitions import lock_task, locked, record

#: Why a lease ended when the agent's own report ended it; a repeated report is then harmless.
FINISHED = "the agent finished"

#: A lease ended and its slot is free. Sent inside the transaction. Arguments: lease.
lease_ended = Signal()


def unended(queryset: QuerySet[Lease] | None = None) -> QuerySet[Lease]:
    """Return the leases that still occupy a slot."""
    return (Lease.objects.all() if queryset is None else queryset).exclude(state=LeaseState.ENDED)


def lease_of(task: Task) -> Lease | None:
    """Return the task's lease that still occupies a slot, if any."""
    lease = unended().select_related("slot__pod").filter(task=task).first()
    if lease is not None:
        lease.task = task
    return lease


def get_lease(lease_id: UUID, epoch: int, pod: ManagedPod, *, lock: bool = False) -> Lease:
    """Return an agent's lease, for a write the agent makes with it.

    Args:
        lock: lock task, slot and lease for the rest of the transaction.

    Raises:
        NotFound: there is no such lease on this pod.
        StaleLease: it is over, or the epoch is another.
    """
    lease = find_lease(lease_id, epoch, pod, lock=lock)
    if lease.state == LeaseState.ENDED:
        raise StaleLease()
    return lease


def find_lease(lease_id: UUID, epoch: int, pod: ManagedPod, *, lock: bool = False) -> Lease:
    """Return an agent's lease even if it is over.

    Raises:
        NotFound: there is no such lease on this pod.
        StaleLease: the epoch is another.
    """
    if lock:
        lock_task_of(lease_id, pod)
        lease = lock_lease(lease_id)
    else:
        found = Lease.objects.select_related("task__workspace__project", "slot__pod__pool")
        lease = found.filter(pk=lease_id, slot__pod=pod).first() or _no_lease(lease_id)
    if lease.epoch != epoch:
        raise StaleLease()
    return lease


def lock_task_of(lease_id: UUID, pod: ManagedPod) -> Task:
    """Return the task of an agent's lease, locked, as it is to be before the lease.

    Raises:
        NotFound: there is no such lease on this pod.
    """
    mine = Task.objects.filter(leases=lease_id, leases__slot__pod=pod)
    return locked(mine).first() or _no_lease(lease_id)


def _no_lease(lease_id: UUID) -> NoReturn:
    raise NotFound(f"This agent has no lease {lease_id}.")


def lock_lease_of(task: Task, lease_id: UUID, epoch: int) -> Lease:
    """Return a lease of a task that the caller has locked, with slot and lease locked too.

    Raises:
        StaleLease: it is over, or the epoch is another.
    """
    lease = lock_lease_alone(lease_id, task.pk)
    if lease.state == LeaseState.ENDED or lease.epoch != epoch:
        raise StaleLease()
    lease.task = task
    return lease


def start(task: Task, slot: PodSlot, phase: LeasePhase, *, actor: Actor) -> Lease:
    """Give ``task`` the idle ``slot`` under a new epoch and wake the agent.

    A warm-up reserves it, everything else runs in it.

    Raises:
        NoCapacity: the slot is not idle any more.
    """
    taken = PodSlot.objects.filter(pk=slot.pk, status=SlotStatus.IDLE).update(
        status=_slot_status(phase),
        task=task,
        task_type=task.type,
        updated_at=ClockTimestamp(),
    )
    if not taken:
        raise NoCapacity()
    last = Lease.objects.filter(task=task).aggregate(last=Max("epoch"))["last"] or 0
    lease = Lease.objects.create(task=task, slot=slot, epoch=last + 1, phase=phase)
    record(
        "lease.started",
        actor=actor,
        task=task,
        lease=lease,
        data={"phase": phase, "pod": slot.pod.pod_name, "slot": slot.slot_id},
    )
    notify_agent(slot.pod.agent_id)
    return lease


def _slot_status(phase: str) -> SlotStatus:
    return SlotStatus.RESERVED if phase in RESERVING else SlotStatus.RUNNING


def hold(lease: Lease) -> None:
    """After a plan with changes: the slot is reserved, so that the directory stays warm.

    The plan's job is not that of the apply: the agent gets another.
    """
    if _advance(lease, [LeasePhase.PLAN], LeasePhase.HOLD, digest=""):
        notify_agent(lease.slot.pod.agent_id)


def warmed(lease: Lease) -> bool:
    """The agent made a directory ready: from now on it keeps it. False if that is known."""
    return _advance(lease, [LeasePhase.WARMUP], LeasePhase.HOLD)


def promote(lease: Lease, *, actor: Actor) -> bool:
    """Turn a lease that holds or warms into the apply's. False if it is yielding or neither."""
    if not _advance(lease, RESERVING, LeasePhase.APPLY):
        return False
    record("lease.promoted", actor=actor, task=lease.task, lease=lease)
    notify_agent(lease.slot.pod.agent_id, Confirmed(lease.pk, lease.environment_digest))
    return True


_ADVANCE = """
WITH advanced AS (
    UPDATE pods_app_lease SET
        phase = %(phase)s, phase_at = clock_timestamp(), delivered_at = NULL,
        environment_digest = COALESCE(%(digest)s, environment_digest)
    WHERE id = %(lease)s AND state = 'live' AND phase = ANY(%(sources)s)
    RETURNING slot_id, task_id, phase_at, environment_digest
), occupied AS (
    UPDATE pods_app_podslot slot SET status = %(status)s, updated_at = clock_timestamp()
    FROM advanced WHERE slot.id = advanced.slot_id AND slot.task_id = advanced.task_id
)
SELECT phase_at, environment_digest FROM advanced
"""


def _advance(
    lease: Lease,
    sources: Collection[LeasePhase],
    target: LeasePhase,
    digest: str | None = None,
) -> bool:
    """Move lease and slot on together, in one statement: whoever confirms waits for it.

    Args:
        digest: of the environment from now on; None: as it was.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            _ADVANCE,
            {
                "lease": lease.pk,
                "sources": list(sources),
                "phase": target,
                "status": _slot_status(target),
                "digest": digest,
            },
        )
        advanced = cursor.fetchone()
    if advanced is None:
        return False
    lease.phase, lease.delivered_at = target, None
    lease.phase_at, lease.environment_digest = advanced
    return True


def release(lease: Lease, *, actor: Actor, reason: str, keep_directory: bool = True) -> bool:
    """Ask the agent to let go; the slot stays taken until it reports the process gone.

    Guarded against a promotion: an apply's lease is released only by name of its phase.
    """
    released = Lease.objects.filter(pk=lease.pk, state=LeaseState.LIVE, phase=lease.phase).update(
        state=LeaseState.ENDING, keep_directory=keep_directory, end_reason=reason
    )
    if released:
        record("lease.released", actor=actor, task=lease.task, lease=lease, cause=reason)
        _warmup_over(lease, actor=actor, reason=reason, unasked=False)
        notify_agent(lease.slot.pod.agent_id)
    return bool(released)


def release_hold(lease_id: UUID, *, actor: Actor, reason: str, keep_directory: bool = True) -> bool:
    """Release the reservation of a plan that waits; False if it is none any more, or in use now.

    Takes the task's row first, as everybody does; a task that somebody else has at this moment
    is being confirmed or discarded, which settles its reservation anyway.
    """
    with transaction.atomic():
        lease = (
            Lease.objects.select_related("task", "slot__pod")
            .filter(pk=lease_id, state=LeaseState.LIVE, phase__in=RESERVING)
            .first()
        )
        if lease is None:
            return False
        waits = (
            Task.objects.select_for_update(of=("self",), skip_locked=True)
            .filter(pk=lease.task_id, status=Status.APPLY_PENDING)
            .exists()
        )
        return waits and release(lease, actor=actor, reason=reason, keep_directory=keep_directory)


def end(lease: Lease, *, actor: Actor, reason: str) -> bool:
    """The process is gone, or fenced: free the slot, which others may take after the commit."""
    ended = unended(Lease.objects.filter(pk=lease.pk)).update(
        state=LeaseState.ENDED, ended_at=ClockTimestamp(), end_reason=reason
    )
    if ended:
        PodSlot.objects.filter(pk=lease.slot_id, task_id=lease.task_id).update(
            status=SlotStatus.IDLE, task=None, task_type="", updated_at=ClockTimestamp()
        )
        record("lease.ended", actor=actor, task=lease.task, lease=lease, cause=reason)
        # What was asked to end lost its warm-up when it was asked.
        if lease.state == LeaseState.LIVE:
            _warmup_over(lease, actor=actor, reason=reason, unasked=True)
        notify_agent(lease.slot.pod.agent_id)
        lease_ended.send(sender=Lease, lease=lease)
    return bool(ended)


def _warmup_over(lease: Lease, *, actor: Actor, reason: str, unasked: bool) -> None:
    """The one place where a warm-up ends with its lease, whoever ends that and why."""
    if lease.phase != LeasePhase.PLAN:
        warmups.lease_over(lease.task, lease=lease, cause=reason, actor=actor, unasked=unasked)


_BROKEN = """
SELECT slot.id, lease.id FROM pods_app_podslot slot
LEFT JOIN pods_app_lease lease ON lease.slot_id = slot.id AND lease.state <> 'ended'
LEFT JOIN workspace_tasks task ON task.id = lease.task_id
WHERE lease.task_id IS DISTINCT FROM slot.task_id
   OR COALESCE(task.type, '') <> slot.task_type
   OR slot.status <> CASE WHEN lease.id IS NULL THEN 'idle'
                          WHEN lease.phase = ANY(%s) THEN 'reserved' ELSE 'running' END
"""


def repair_slots() -> int:
    """Make slots agree with their leases again, should they ever differ; returns how many.

    One statement sees one moment, and both are written in one transaction: a difference is an
    accident, such as a row changed by hand, and would block or doubly use the slot for ever. A
    lease that is ending keeps its slot as its phase had it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_BROKEN, [list(RESERVING)])
        broken = cursor.fetchall()
    return sum(_repair(slot_id, lease_id) for slot_id, lease_id in broken)


def _repair(slot_id: int, lease_id: UUID | None) -> bool:
    with transaction.atomic():
        if lease_id is not None:
            lock_task(Lease.objects.values_list("task_id", flat=True).get(pk=lease_id))
        slot = PodSlot.objects.select_for_update(of=("self",)).select_related("pod").get(pk=slot_id)
        lease = unended(slot.leases.select_related("task")).first()
        if getattr(lease, "pk", None) != lease_id:
            return False  # it changed meanwhile
        if lease:  # A task is in one slot only; the other is broken too, and repaired by itself.
            others = PodSlot.objects.filter(task=lease.task).exclude(pk=slot.pk)
            others.update(status=SlotStatus.IDLE, task=None, task_type="")
        slot.status = _slot_status(lease.phase) if lease else SlotStatus.IDLE
        slot.task = lease.task if lease else None
        slot.task_type = lease.task.type if lease else ""
        slot.save(update_fields=["status", "task", "task_type"])
        record(
            "slot.repaired",
            actor=Actor.system("reconcile"),
            task=slot.task,
            lease=lease,
            data={"pod": slot.pod.pod_name, "slot": slot.slot_id, "status": slot.status},
        )
    return True


def freeze(lease: Lease, *, actor: Actor, reason: str) -> bool:
    """A freeze stops this lease's apply: note since when, and wake its agent.

    Before the freeze, Terraform is interrupted once; in it, what still runs is killed.
    """
    noted = unended(Lease.objects.filter(pk=lease.pk, frozen_at=None)).update(
        frozen_at=ClockTimestamp()
    )
    if noted:
        lease.refresh_from_db(fields=["frozen_at"])
        record("lease.frozen", actor=actor, task=lease.task, lease=lease, cause=reason)
        notify_agent(lease.slot.pod.agent_id)
    return bool(noted)


def outdate(lease: Lease, environment_digest: str) -> bool:
    """What the agent was given for its hold is not what it would be given now: wake it.

    Returns:
        False if the lease went on meanwhile, or the agent was given something else.
    """
    with transaction.atomic():
        outdated = Lease.objects.filter(
            pk=lease.pk,
            state=LeaseState.LIVE,
            phase=lease.phase,
            environment_digest=lease.environment_digest,
        ).update(environment_digest=environment_digest)
        if outdated:
            notify_agent(lease.slot.pod.agent_id)
    return bool(outdated)


_DELIVERED = """
UPDATE pods_app_lease lease SET
    delivered_at = COALESCE(lease.delivered_at, clock_timestamp()),
    environment_digest = COALESCE(new.digest, lease.environment_digest)
FROM unnest(%s::uuid[], %s::text[], %s::text[]) AS new(id, phase, digest)
WHERE lease.id = new.id AND lease.phase = new.phase
"""


def mark_delivered(digests: Mapping[Lease, str | None]) -> None:
    """Note in database time that the agent was handed the present phase of these leases.

    Args:
        digests: of the jobs that it was handed; None: without a job.
    """
    rows = [(lease.pk, lease.phase, digest) for lease, digest in digests.items()]
    with connection.cursor() as cursor:
        cursor.execute(_DELIVERED, [list(column) for column in zip(*rows, strict=True)])
