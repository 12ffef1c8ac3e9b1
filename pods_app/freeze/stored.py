"""Windows and overrides as the database has them, for the pure function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connection

from pods_app.freeze.state import Freeze, Override, state_at
from pods_app.freeze.windows import Window
from pods_app.models import FreezeOverride, FreezeWindow, Pool

_ANY = """
SELECT clock_timestamp(),
       EXISTS (SELECT FROM pods_app_freezewindow WHERE enabled),
       EXISTS (SELECT FROM pods_app_freezeoverride WHERE expires_at > clock_timestamp())
"""
#: What a rule is made of, in the order of `_rule`.
_COLUMNS = (
    "id",
    "name",
    "reason",
    "ticket",
    "time_zone",
    "start_time",
    "end_time",
    "weekdays",
    "days_later",
    "first_day",
    "last_day",
    "until",
    "exceptions",
    "lead_minutes",
    "grace_seconds",
    "adjusted_start",
    "adjusted_end",
)
# In plain SQL: this is read before each start, and to put it together would cost more than to run
# it. A one-off that ended days ago says nothing of the present.
_WINDOWS = f"""
SELECT w.all_pools, p.pool_id, {", ".join(f"w.{name}" for name in _COLUMNS)}
FROM pods_app_freezewindow w
LEFT JOIN pods_app_freezewindow_pools p
       ON p.freezewindow_id = w.id AND NOT w.all_pools AND p.pool_id = ANY(%(pools)s)
WHERE w.enabled AND (w.all_pools OR p.pool_id IS NOT NULL)
  AND (%(past)s OR w.weekdays <> '{{}}' OR (
        COALESCE(w.adjusted_end < clock_timestamp() - interval '2 days', w.last_day IS NOT NULL)
        AND (w.last_day IS NULL OR w.last_day < (clock_timestamp() - interval '2 days')::date)
      ) IS NOT TRUE)
"""


@dataclass
class Schedules:
    """What is in force for some pools, read at ``now`` in database time."""

    now: datetime
    windows: dict[UUID, list[Window]] = field(default_factory=lambda: defaultdict(list))
    overrides: dict[UUID, list[Override]] = field(default_factory=lambda: defaultdict(list))

    def state(
        self,
        pool_id: UUID,
        at: datetime | None = None,
        *,
        look_ahead: timedelta = timedelta(),
    ) -> Freeze:
        """Return a pool's state, at ``at`` instead of now."""
        return state_at(
            at or self.now,
            self.windows.get(pool_id, ()),
            self.overrides.get(pool_id, ()),
            look_ahead=look_ahead,
        )


def read(pool_ids: Collection[UUID], *, past: bool = False) -> Schedules:
    """Read the schedules of some pools, with three queries at most and one where there are none.

    Args:
        past: also what is over for long.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ANY)
        now, any_window, any_override = cursor.fetchone()
    found = Schedules(now)
    if any_window:
        with connection.cursor() as cursor:
            cursor.execute(_WINDOWS, {"pools": list(pool_ids), "past": past})
            rows = cursor.fetchall()
        for everywhere, pool_id, *columns in rows:  # one for each window and pool
            rule = _rule(*(tuple(one) if isinstance(one, list) else one for one in columns))
            for of in pool_ids if everywhere else [pool_id]:
                found.windows[of].append(rule)
    if any_override or past:
        overrides = FreezeOverride.objects.filter(pool__in=pool_ids).select_related("created_by")
        if not past:
            overrides = overrides.filter(expires_at__gt=now)
        for override in overrides:
            by = override.created_by.get_username() if override.created_by else ""
            found.overrides[override.pool_id].append(
                Override(override.begins_at, override.expires_at, override.reason, by)
            )
    return found


@lru_cache(maxsize=1024)
def _rule(
    pk: UUID,
    name: str,
    reason: str,
    ticket: str,
    zone: str,
    start: time,
    end: time | None,
    weekdays: tuple[int, ...],
    days_later: int,
    first_day: date | None,
    last_day: date | None,
    until: date | None,
    exceptions: tuple[Any, ...],
    lead_minutes: int,
    grace_seconds: int,
    adjusted_start: datetime | None,
    adjusted_end: datetime | None,
) -> Window:
    lead, grace = timedelta(minutes=lead_minutes), timedelta(seconds=grace_seconds)
    return Window(
        id=pk,
        name=name,
        reason=reason,
        ticket=ticket,
        zone=zone,
        start=start,
        end=end,
        weekdays=frozenset(weekdays),
        days_later=days_later,
        first_day=first_day,
        last_day=last_day,
        until=until,
        exceptions=tuple((days.lower, days.upper - timedelta(days=1)) for days in exceptions),
        lead=max(lead, grace),
        grace=grace,
        adjusted_start=adjusted_start,
        adjusted_end=adjusted_end,
    )


def window_of(row: FreezeWindow) -> Window:
    """Return the rule that a row stores.

    Its lead time is no shorter than its grace: what started within would only be interrupted.
    """
    values = (getattr(row, name) for name in _COLUMNS)
    return _rule(*(tuple(one) if isinstance(one, list) else one for one in values))


def state_of(pool_id: UUID) -> Freeze:
    """Return a pool's state by the schedule now."""
    return read([pool_id]).state(pool_id)


def pools_of(rows: Iterable[FreezeWindow]) -> list[UUID]:
    """Return the ids of the pools that some windows are for, in order."""
    listed = list(rows)
    pools = Pool.objects.order_by("pk")
    if not any(row.all_pools for row in listed):
        pools = pools.filter(freeze_windows__in=listed).distinct()
    return list(pools.values_list("pk", flat=True))
