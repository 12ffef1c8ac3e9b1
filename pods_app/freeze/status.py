"""How pools stand to freezes, as pages, the API and commands show it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, Subquery

from pods_app.freeze.state import Freeze
from pods_app.freeze.stored import read
from pods_app.leases import unended
from pods_app.models import FreezeTransition, FreezeWindow, ManagedPod, Pool
from pods_app.states import FreezeState, LeasePhase, PodPhase, PoolKind
from tasks_app.models import Task
from tasks_app.states import Status as TaskStatus

_LOOK_AHEAD = timedelta(days=14)


@dataclass(frozen=True)
class Standing:
    """A pool and its state.

    Args:
        unconfirmed: as `unconfirmed`; None for another time than now.
    """

    pool: Pool
    at: datetime
    freeze: Freeze
    unconfirmed: int | None

    @property
    def confirmed_stopped(self) -> bool | None:
        """Whether everything is known to have stopped; None if the pool is not frozen now."""
        if self.unconfirmed is None or self.freeze.state != FreezeState.FROZEN:
            return None
        return self.pool.frozen and not self.unconfirmed


def standing(pool: Pool, at: datetime | None = None) -> Standing:
    """Return a pool's state now, or what its present windows say of another time."""
    if at is None:
        return standings([pool])[0]
    schedules = read([pool.pk], past=True)
    return Standing(pool, at, schedules.state(pool.pk, at, look_ahead=_LOOK_AHEAD), None)


def standings(pools: Collection[Pool]) -> list[Standing]:
    """Return the states of many pools now, with a constant number of queries."""
    ids = [pool.pk for pool in pools]
    schedules = read(ids)
    newest = FreezeTransition.objects.filter(pool=OuterRef("pk")).order_by("-id")
    noted = dict(
        Pool.objects.filter(pk__in=ids)
        .annotate(noted=Subquery(newest.values("to_state")[:1]))
        .values_list("pk", "noted")
    )
    left = _unconfirmed([pool.pk for pool in pools if pool.frozen])
    found = []
    for pool in pools:
        freeze = schedules.state(pool.pk, look_ahead=_LOOK_AHEAD)
        back = freeze.state != FreezeState.OPEN or noted.get(pool.pk) != FreezeState.REOPENING
        if freeze.state != FreezeState.FROZEN and (pool.frozen or not back):
            freeze = replace(freeze, state=FreezeState.REOPENING)
        found.append(Standing(pool, schedules.now, freeze, left.get(pool.pk, 0)))
    return found


def unconfirmed(pool: Pool) -> int:
    """Return what of a frozen pool may still live: runs, and pods that are not known to be gone.

    An agent that somebody started by hand may live: only what runs in it must have stopped.
    """
    return _unconfirmed([pool.pk]).get(pool.pk, 0) if pool.frozen else 0


def _unconfirmed(pool_ids: Collection[UUID]) -> Counter[UUID]:
    found: Counter[UUID] = Counter()
    if pool_ids:
        runs = unended().filter(slot__pod__pool__in=pool_ids).order_by()
        found.update(dict(runs.values_list("slot__pod__pool").annotate(Count("pk"))))
        pods = ManagedPod.objects.filter(pool__in=pool_ids).order_by()
        ours = pods.exclude(Q(phase=PodPhase.GONE) | Q(kind=PoolKind.STATIC))
        idle = ours.exclude(pk__in=runs.values("slot__pod"))
        found.update(dict(idle.values_list("pool").annotate(Count("pk"))))
    return found


def any_schedule() -> bool:
    """Return whether anything could be frozen, closing or coming back: one cheap query."""
    windows = Exists(FreezeWindow.objects.filter(enabled=True))
    return Pool.objects.filter(Q(windows) | Q(frozen=True)).exists()


@dataclass(frozen=True)
class Impact:
    """What a freeze of some pools would hit now."""

    pools: int
    pods: int
    planning: int
    applying: int
    confirmed: int
    waiting: int

    @property
    def sentence(self) -> str:
        """The counts in words; what is zero is left out."""
        parts = [
            f"delete {_many(self.pods, 'pod')}" * bool(self.pods),
            f"interrupt {_many(self.applying, 'running apply', 'running applies')}"
            * bool(self.applying),
            f"send {_many(self.planning, 'running plan')} back to the queue" * bool(self.planning),
            f"hold back {_many(self.confirmed, 'confirmed apply', 'confirmed applies')}"
            * bool(self.confirmed),
            f"let {_many(self.waiting, 'plan')} wait on for a person, not kept ready"
            * bool(self.waiting),
        ]
        told = list(filter(None, parts))
        if not told:
            return "It would hit nothing: no pod is there and nothing runs or waits."
        last = f" and {told[-1]}" if len(told) > 1 else told[0]
        return f"It would {', '.join(told[:-1])}{last}."


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def impact(pools: Collection[Pool]) -> Impact:
    """Count what a freeze of ``pools`` would hit if it began now."""
    ids = [pool.pk for pool in pools]
    leases = unended().filter(slot__pod__pool__in=ids)
    running = leases.aggregate(
        planning=Count("pk", filter=Q(phase=LeasePhase.PLAN)),
        applying=Count("pk", filter=Q(task__status=TaskStatus.APPLYING)),
    )
    waiting = Task.objects.filter(placement__pool__in=ids).aggregate(
        confirmed=Count("pk", filter=Q(status=TaskStatus.CONFIRMED)),
        waiting=Count("pk", filter=Q(status=TaskStatus.APPLY_PENDING)),
    )
    pods = ManagedPod.objects.filter(pool__in=ids).exclude(phase=PodPhase.GONE).count()
    return Impact(len(ids), pods, **running, **waiting)


def pools_hit(window: FreezeWindow, pools: Collection[Pool]) -> list[Pool]:
    """Return the pools that a window, stored or not, is for."""
    return list(Pool.objects.all()) if window.all_pools else list(pools)
