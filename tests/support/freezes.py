"""Freeze windows around the present moment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection

from pods_app.freeze.edges import enter, leave
from pods_app.freeze.windows import is_zone
from pods_app.models import FreezeOverride, FreezeWindow, Pool


def now() -> Any:
    """The database's clock, which the windows are compared with."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def window_row(
    *pools: Pool,
    begins: timedelta = timedelta(hours=-1),
    ends: timedelta | None = timedelta(hours=1),
    **fields: Any,
) -> FreezeWindow:
    """A one-off; for all pools if none is named.

    Args:
        begins, ends: from now; without an end a person ends it.
    """
    name = fields.get("time_zone", "UTC")
    zone = ZoneInfo(name if is_zone(name) else "UTC")
    start = (now() + begins).astimezone(zone)
    end = None if ends is None else (now() + ends).astimezone(zone)
    row = FreezeWindow.objects.create(
        **{
            "name": "quarter end",
            "reason": "the books are closed",
            "all_pools": not pools,
            "time_zone": "UTC",
            "first_day": start.date(),
            "start_time": start.time(),
            "last_day": end and end.date(),
            "end_time": end and end.time(),
            "lead_minutes": 0,
            "grace_seconds": 0,
            **fields,
        }
    )
    row.pools.set(pools)
    return row


def soon(*pools: Pool, minutes: float = 10, lead: int = 15, **fields: Any) -> FreezeWindow:
    """A window that begins soon: its pools are closing for it."""
    return window_row(
        *pools,
        begins=timedelta(minutes=minutes),
        ends=timedelta(minutes=minutes + 60),
        lead_minutes=lead,
        **fields,
    )


def overridden(pool: Pool, minutes: int = 60) -> FreezeOverride:
    """An override in force, which nobody's rights were asked for."""
    return FreezeOverride.objects.create(
        pool=pool, reason="the fix must go out", expires_at=now() + timedelta(minutes=minutes)
    )


def set_frozen(pool: Pool, frozen: bool) -> None:
    """Mark a pool frozen by a window of its own, or open; work and pods are left alone."""
    FreezeWindow.objects.filter(pools=pool).delete()
    if frozen:
        window_row(pool)
        enter(pool.pk)
    else:
        leave(pool.pk)
