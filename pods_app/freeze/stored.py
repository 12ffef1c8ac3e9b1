"""Windows and overrides as the database has them, for the pure function."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import F, Q

from pods_app.freeze.state import Freeze, Override, state_at
from pods_app.freeze.windows import Window
from pods_app.models import FreezeOverride, FreezeWindow, Pool

_ANY = """
SELECT clock_timestamp(),
       EXISTS (SELECT FROM pods_app_freezewindow WHERE enabled),
       EXISTS (SELECT FROM pods_app_freezeoverride WHERE expires_at > clock_timestamp())
"""
#: A window that ended so long ago says nothing of the present.
_OVER = timedelta(days=2)


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
        rows = FreezeWindow.objects.filter(enabled=True)
        if not past:
            rows = rows.exclude(_over(now))
        for row in rows.filter(Q(all_pools=True) | Q(pools__in=pool_ids)).annotate(
            for_pool=F("pools__id")
        ):
            # An annotated relation gives a row for each pool.
            for pool_id in pool_ids if row.all_pools else [row.for_pool]:
                found.windows[pool_id].append(window_of(row))
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


def _over(now: datetime) -> Q:
    """Return the condition that a one-off ended long ago."""
    long_ago = now - _OVER
    by_itself = Q(last_day__lt=long_ago.astimezone(UTC).date()) & (
        Q(adjusted_end=None) | Q(adjusted_end__lt=long_ago)
    )
    return Q(weekdays=[]) & (by_itself | Q(last_day=None, adjusted_end__lt=long_ago))


def window_of(row: FreezeWindow) -> Window:
    """Return the rule that a row stores.

    Its lead time is no shorter than its grace: what started within would only be interrupted.
    """
    lead, grace = timedelta(minutes=row.lead_minutes), timedelta(seconds=row.grace_seconds)
    return Window(
        id=row.pk,
        name=row.name,
        reason=row.reason,
        zone=row.time_zone,
        start=row.start_time,
        end=row.end_time,
        weekdays=frozenset(row.weekdays),
        days_later=row.days_later,
        first_day=row.first_day,
        last_day=row.last_day,
        exceptions=tuple((days.lower, days.upper - timedelta(days=1)) for days in row.exceptions),
        lead=max(lead, grace),
        grace=grace,
        adjusted_start=row.adjusted_start,
        adjusted_end=row.adjusted_end,
    )


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
