"""Into a freeze and out of it: level-triggered, and harmless if two do it at once.

The mark on the pool is set and taken away under its row's lock, after the schedule was read
again under that lock. What follows it, work and pods, is brought in line on every pass.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID

from django.db import transaction
from django.db.models import OuterRef, Subquery

from pods_app import leases, waiting
from pods_app.cluster.errors import ClusterError, Unreachable
from pods_app.cluster.overlap import overlap
from pods_app.freeze.cut import FREEZE, cut
from pods_app.freeze.state import Freeze
from pods_app.freeze.stored import Schedules, read, state_of
from pods_app.hosting.base import Hosting
from pods_app.leases import find_lease, unended
from pods_app.locking import lock_pool
from pods_app.models import FreezeTransition, Lease, ManagedPod, Pool
from pods_app.notify import notify_controller
from pods_app.reconcile import forget_pod, hosting_of
from pods_app.states import FreezeState, LeasePhase, LeaseState, PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.services import warmups
from tasks_app.states import Status, WarmupStatus
from tasks_app.transitions import lock_task, record

log = logging.getLogger(__name__)


def follow_schedules(pools: Iterable[Pool] | None = None) -> int:
    """Bring pools in line with their windows; returns how many edges were crossed.

    One pool that fails does not keep the others from it.
    """
    rows = list(Pool.objects.all() if pools is None else pools)
    schedules, noted = read([pool.pk for pool in rows]), _noted()
    crossed = 0
    for pool in rows:
        try:
            crossed += _follow(pool, schedules, noted.get(pool.pk, FreezeState.OPEN))
        except Exception:
            log.exception("pool %s could not be brought in line with its freezes", pool.name)
    return crossed


def _noted() -> dict[UUID, str]:
    """Return the state in which each pool's history ends."""
    newest = FreezeTransition.objects.filter(pool=OuterRef("pk")).order_by("-id")
    found = Pool.objects.annotate(noted=Subquery(newest.values("to_state")[:1]))
    return dict(found.exclude(noted=None).values_list("pk", "noted"))


def _follow(pool: Pool, schedules: Schedules, noted: str) -> bool:
    freeze = schedules.state(pool.pk)
    if freeze.problem:
        # Nothing starts, but nothing that runs is destroyed for a time zone that is missing.
        log.error("pool %s: %s", pool.name, freeze.problem)
        return False
    if freeze.state == FreezeState.FROZEN:
        entered = not pool.frozen and enter(pool.pk)
        clear(pool, freeze)
        return entered
    if pool.frozen:
        return leave(pool.pk)
    state = freeze.state
    if state == FreezeState.OPEN and noted == FreezeState.REOPENING and not _is_back(pool):
        state = FreezeState.REOPENING
    if freeze.interrupts_at and freeze.interrupts_at <= schedules.now:
        _interrupt_applies(pool, freeze)
    if state != noted:
        with transaction.atomic():
            lock_pool(pool.pk)
            note(pool, state, freeze, FREEZE)
    return False


def enter(pool_id: UUID, actor: Actor = FREEZE) -> bool:
    """Mark a pool frozen if its windows say so now; False if they do not, or it is already.

    Once this has returned, nothing that saw the pool open can still start or get a permit:
    both hold the pool's row until their commit.
    """
    return _mark(pool_id, actor, frozen=True)


def leave(pool_id: UUID, actor: Actor = FREEZE) -> bool:
    """Let a pool go on if its windows say so now; False if they do not, or it does already.

    Its pods are made again by the next reconciliation, and what waits is warmed oldest first.
    """
    return _mark(pool_id, actor, frozen=False)


def _mark(pool_id: UUID, actor: Actor, *, frozen: bool) -> bool:
    with transaction.atomic():
        pool = lock_pool(pool_id)
        freeze = state_of(pool_id)
        if pool.frozen == frozen or (freeze.state == FreezeState.FROZEN) != frozen:
            return False
        pool.frozen = frozen
        pool.save(update_fields=["frozen"])
        note(pool, FreezeState.FROZEN if frozen else FreezeState.REOPENING, freeze, actor)
        kind = "pool.frozen" if frozen else "pool.unfrozen"
        record(kind, actor=actor, cause=freeze.reason, data={"pool": pool.name})
        notify_controller()
    return True


def clear(pool: Pool, freeze: Freeze) -> None:
    """Delete a frozen pool's pods and take their work away, until nothing is left of either.

    Pods are deleted some at a time where that takes requests; what follows from it is done pod by
    pod. Two queries and one for the warm-ups when there is nothing to do.
    """
    sentence = waiting.frozen(pool, freeze).sentence
    work: dict[UUID, list[tuple[UUID, str]]] = defaultdict(list)
    for lease_id, state, pod_id in (
        unended().filter(slot__pod__pool=pool).values_list("pk", "state", "slot__pod")
    ):
        work[pod_id].append((lease_id, state))
    # In any order: should some pods keep failing, they do not keep the same others waiting.
    pods = pool.pods.exclude(phase=PodPhase.GONE).select_related("pool").order_by("?")
    for pod, gone in _kill(pods):
        try:
            for lease_id, state in work[pod.pk]:
                if gone or state == LeaseState.LIVE:
                    cut(lease_id, names=freeze.names, sentence=sentence, gone=gone)
            if gone:
                cause = f"deleted by the freeze {freeze.names}"[:500]
                forget_pod(pod, actor=FREEZE, cause=cause, on_purpose=True)
        except Exception:
            log.exception("the work of pod %s could not be taken away; tried again", pod.pod_name)
    _reset_warmups(pool, freeze)


def _kill(pods: Iterable[ManagedPod]) -> Iterator[tuple[ManagedPod, bool]]:
    """Force-delete pods; yields each, and whether it is known to be gone, as soon as that is so.

    Agents that somebody started by hand, and those that cannot be reached, are told with their
    leases.
    """
    hosted: dict[str, tuple[Hosting, list[ManagedPod]]] = {}
    for pod in pods:
        hosting = hosting_of(pod)
        if hosting is None:
            yield pod, False
        else:
            hosted.setdefault(pod.kind, (hosting, []))[1].append(pod)
    for hosting, rows in hosted.values():
        yield from _kill_hosted(hosting, rows)


def _kill_hosted(hosting: Hosting, pods: Iterable[ManagedPod]) -> Iterator[tuple[ManagedPod, bool]]:
    """Do the same with pods of one hosting.

    One that cannot be deleted is no reason to leave the others. A hosting that gives no answer to
    so many in a row as are asked at once is not asked again in this pass.
    """
    silent, in_a_row = False, 0

    def kill(pod: ManagedPod) -> bool:
        return not silent and hosting.kill(pod)

    for pod, killing in overlap(kill, pods, hosting.kills_at_once):
        gone = False
        try:
            gone, in_a_row = killing.result(), 0
        except ClusterError as error:
            log.warning("pod %s not deleted; tried again: %s", pod.pod_name, error.detail)
            in_a_row = in_a_row + 1 if isinstance(error, Unreachable) else 0
            silent = silent or in_a_row >= hosting.kills_at_once
        except Exception:
            log.exception("pod %s could not be deleted; tried again", pod.pod_name)
        yield pod, gone


def _is_back(pool: Pool) -> bool:
    """Whether the pods that a pool keeps are there again."""
    if pool.kind == PoolKind.STATIC:
        return True
    return pool.pods.filter(phase=PodPhase.ONLINE).count() >= pool.min_pods


def _interrupt_applies(pool: Pool, freeze: Freeze) -> None:
    """Ask what still applies to stop, once, so that Terraform can save its state."""
    applying = unended().filter(
        slot__pod__pool=pool,
        state=LeaseState.LIVE,
        phase=LeasePhase.APPLY,
        frozen_at=None,
        task__status=Status.APPLYING,
    )
    for lease_id, epoch in list(applying.values_list("pk", "epoch")):
        with transaction.atomic():
            pod = Lease.objects.select_related("slot__pod").get(pk=lease_id).slot.pod
            lease = find_lease(lease_id, epoch, pod, lock=True)
            if lease.state == LeaseState.LIVE and lease.task.status == Status.APPLYING:
                leases.freeze(lease, actor=FREEZE, reason=freeze.reason[:250])


def note(pool: Pool, state: str, freeze: Freeze, actor: Actor) -> None:
    """Add to a pool's history that it is in ``state`` now; the caller holds the pool's row."""
    before = pool.freeze_transitions.values_list("to_state", flat=True).first()
    before = before or FreezeState.OPEN
    if before == state:
        return
    FreezeTransition.objects.create(
        pool=pool,
        from_state=before,
        to_state=state,
        until=freeze.until,
        reason=freeze.reason[:1000],
        actor=actor.name,
    )


def _reset_warmups(pool: Pool, freeze: Freeze) -> None:
    """Forget what lies ready for plans that wait, and what failed: it was on pods that are gone."""
    warm = Task.objects.filter(placement__pool=pool, status=Status.APPLY_PENDING).exclude(
        warmup_status=WarmupStatus.NONE
    )
    cause = f"the freeze {freeze.names}"[:250]
    for task_id in list(warm.values_list("pk", flat=True)):
        with transaction.atomic():
            warmups.reset(lock_task(task_id), cause=cause, actor=FREEZE)
