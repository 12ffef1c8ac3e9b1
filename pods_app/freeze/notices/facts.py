"""What there is to tell, from windows, histories of pools, overrides and tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, Subquery
from django.urls import reverse

from pods_app.freeze.gate import Start, judge
from pods_app.freeze.notices import ahead
from pods_app.freeze.state import Freeze
from pods_app.freeze.status import impact
from pods_app.freeze.stored import Schedules, read
from pods_app.freeze.windows import Interval
from pods_app.models import FreezeOverride, FreezeTransition, Lease, Pool
from pods_app.states import FreezeState, NoticeKind
from tasks_app.models import Task
from tasks_app.states import Status

_MOMENT = timedelta(seconds=1)


@dataclass(frozen=True)
class Fact:
    """Something that operators are told once.

    Args:
        key: unique among all facts.
        topic: facts of one kind and topic are told together.
        at: the moment it is about.
        pools: names.
        freeze: what the schedule or the history says of it, a sentence.
        window: the name of the window.
        since, until: of the freeze or the override.
        why: a person's reason.
        by: who.
        task: its workspace and number.
        zone: the zone people think of it in.
        lasts: how long which pools are frozen, sentences.
        impact: what the freeze would hit, a sentence.
        url: the page about it.
    """

    kind: NoticeKind
    key: str
    topic: str
    at: datetime
    pools: tuple[str, ...] = ()
    freeze: str = ""
    window: str = ""
    since: datetime | None = None
    until: datetime | None = None
    why: str = ""
    by: str = ""
    task: str = ""
    zone: str = "UTC"
    lasts: tuple[str, ...] = ()
    impact: str = ""
    url: str = ""


@dataclass(frozen=True)
class Later:
    """A fact that costs more to work out: asked for only if it was not told yet."""

    key: str
    fact: Callable[[], Fact | None]


def find(since: datetime) -> list[Fact | Later]:
    """Return what there is to tell, told or not: what lies ahead, what is, what happened.

    Args:
        since: nothing that happened before it.
    """
    pools = {pool.pk: pool for pool in Pool.objects.all()}
    schedules = read(pools)
    return [
        *_ahead(pools, schedules),
        *_began(schedules, since),
        *_ended(schedules, since),
        *_overrides(pools, schedules, since),
        *_interrupted(since),
        *_delayed(pools, schedules),
    ]


def page(name: str, *args: object) -> str:
    """Return the full address of a page of the admin."""
    return settings.SLIPWAY.url.rstrip("/") + reverse(f"admin:{name}", args=args)


def _agenda() -> str:
    return page("pods_app_freezewindow_agenda")


def _ahead(pools: dict[UUID, Pool], schedules: Schedules) -> Iterator[Later]:
    windows = {window for listed in schedules.windows.values() for window in listed}
    for kind, interval in ahead.due(windows, schedules.now):

        def fact(kind: NoticeKind = kind, interval: Interval = interval) -> Fact | None:
            return _look_ahead(kind, interval, pools, schedules)

        yield Later(ahead.key(kind, interval), fact)


def _look_ahead(
    kind: NoticeKind, interval: Interval, pools: dict[UUID, Pool], schedules: Schedules
) -> Fact | None:
    """Return what an occurrence begins, for the pools that are not frozen before it anyway.

    A pool that an override keeps open then is told of when the override ends.
    """
    window, begins = interval.window, {}
    for pool in pools.values():
        if window in schedules.windows.get(pool.pk, ()):
            freeze = schedules.state(pool.pk, interval.start)
            before = schedules.state(pool.pk, interval.start - _MOMENT)
            if FreezeState.FROZEN == freeze.state != before.state:
                begins[pool.pk] = freeze
    if not begins:
        return None
    hit = [pools[pk] for pk in begins]
    key = ahead.key(kind, interval)
    return Fact(
        kind,
        key,
        topic=key,
        at=interval.start,
        pools=tuple(sorted(pool.name for pool in hit)),
        window=window.name,
        since=interval.start,
        until=interval.end,
        why=window.reason,
        zone=window.zone,
        lasts=tuple(_lasts(begins, pools)),
        impact=impact(hit).sentence,
        url=page("pods_app_freezewindow_change", window.id),
    )


def _lasts(begins: dict[UUID, Freeze], pools: dict[UUID, Pool]) -> list[str]:
    """Say how long which pools are frozen; other windows may make it longer for some."""
    names: dict[str, list[str]] = {}
    for pk, freeze in begins.items():
        names.setdefault(freeze.reason, []).append(pools[pk].name)
    return [f"{', '.join(sorted(found))}: {reason}." for reason, found in sorted(names.items())]


def _began(schedules: Schedules, since: datetime) -> Iterator[Fact]:
    """Yield the pools that were frozen and still are; what is over is told with its end."""
    later = FreezeTransition.objects.filter(pool=OuterRef("pool"), pk__gt=OuterRef("pk"))
    rows = FreezeTransition.objects.filter(~Exists(later), to_state=FreezeState.FROZEN)
    for row in rows.filter(at__gte=since).select_related("pool"):
        freeze = schedules.state(row.pool_id, row.at)
        yield Fact(
            NoticeKind.BEGAN,
            f"{NoticeKind.BEGAN}:{row.pk}",
            topic=row.reason,
            at=row.at,
            pools=(row.pool.name,),
            freeze=row.reason,
            since=row.at,
            until=row.until,
            why="; ".join(dict.fromkeys(one.window.reason for one in freeze.intervals)),
            zone=freeze.zone,
            url=_agenda(),
        )


def _ended(schedules: Schedules, since: datetime) -> Iterator[Fact]:
    """Yield the pools that are frozen no more; one that an override opened is still in it."""
    began = FreezeTransition.objects.filter(
        pool=OuterRef("pool"), pk__lt=OuterRef("pk"), to_state=FreezeState.FROZEN
    ).order_by("-id")
    override = FreezeOverride.objects.filter(
        pool=OuterRef("pool"), begins_at__lte=OuterRef("at"), expires_at__gt=OuterRef("at")
    )
    rows = FreezeTransition.objects.filter(
        ~Exists(override), from_state=FreezeState.FROZEN, at__gte=since
    ).annotate(began=Subquery(began.values("at")[:1]), freeze=Subquery(began.values("reason")[:1]))
    for row in rows.select_related("pool"):
        yield Fact(
            NoticeKind.ENDED,
            f"{NoticeKind.ENDED}:{row.pk}",
            topic=row.freeze or "",
            at=row.at,
            pools=(row.pool.name,),
            freeze=row.freeze or "",
            since=row.began,
            until=row.at,
            zone=schedules.state(row.pool_id, row.at - _MOMENT).zone,
            url=_agenda(),
        )


def _overrides(pools: dict[UUID, Pool], schedules: Schedules, since: datetime) -> Iterator[Fact]:
    now = schedules.now
    rows = FreezeOverride.objects.filter(expires_at__gte=since).select_related("created_by")
    for row in rows.filter(pool__in=pools, begins_at__lte=now):
        over = row.expires_at <= now
        if not over and row.begins_at < since:
            continue
        kind = NoticeKind.OVERRIDE_ENDED if over else NoticeKind.OVERRIDE_BEGAN
        key = f"{kind}:{row.pk}"
        yield Fact(
            kind,
            key,
            topic=key,
            at=row.expires_at if over else row.begins_at,
            pools=(pools[row.pool_id].name,),
            freeze=schedules.state(row.pool_id).reason if over else "",
            since=row.begins_at,
            until=row.expires_at,
            why=row.reason,
            by=row.created_by.get_username() if row.created_by else "",
            url=page("pods_app_pool_change", row.pool_id),
        )


def _interrupted(since: datetime) -> Iterator[Fact]:
    rows = Lease.objects.filter(
        frozen_at__isnull=False,
        task__status=Status.INTERRUPTED,
        task__finished_at__gte=since,
    )
    for task_id, workspace, number, at, pool in rows.values_list(
        "task",
        "task__workspace__name",
        "task__number",
        "task__finished_at",
        "slot__pod__pool__name",
    ):
        assert at is not None  # a task that is over has an end
        yield Fact(
            NoticeKind.INTERRUPTED,
            f"{NoticeKind.INTERRUPTED}:{task_id}",
            topic="",
            at=at,
            pools=(pool,),
            task=f"{workspace} #{number}",
            url=page("tasks_app_task_change", task_id),
        )


def _delayed(pools: dict[UUID, Pool], schedules: Schedules) -> Iterator[Fact]:
    """Yield the confirmed applies that a freeze holds back now, once for each freeze."""
    stopped: dict[UUID, Freeze] = {}
    for pool in pools.values():
        freeze = judge(schedules.state(pool.pk), pool.frozen, Start.APPLY)
        if freeze and freeze.state != FreezeState.REOPENING:
            stopped[pool.pk] = freeze
    if not stopped:
        return
    rows = Task.objects.filter(status=Status.CONFIRMED, placement__pool__in=stopped)
    for task_id, workspace, number, pool_id in rows.values_list(
        "pk", "workspace__name", "number", "placement__pool"
    ):
        freeze = stopped[pool_id]
        start = freeze.since if freeze.state == FreezeState.FROZEN else freeze.until
        yield Fact(
            NoticeKind.DELAYED,
            f"{NoticeKind.DELAYED}:{task_id}:{start.isoformat() if start else 'unreadable'}",
            topic=f"{freeze.end_words()} ({freeze.names})",
            at=schedules.now,
            pools=(pools[pool_id].name,),
            freeze=freeze.reason,
            until=freeze.frozen_until,
            task=f"{workspace} #{number}",
            url=page("tasks_app_task_change", task_id),
        )
