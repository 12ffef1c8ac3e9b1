"""Freeze windows and states in words and badges."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from pods_app.freeze.checks import DAYS
from pods_app.freeze.windows import Interval
from pods_app.models import FreezeWindow
from pods_app.states import FreezeState

#: Icon and tone of every state of a pool.
STATE_LOOKS = {
    FreezeState.OPEN: ("lock_open", "good"),
    FreezeState.CLOSING: ("hourglass_bottom", "ask"),
    FreezeState.FROZEN: ("ac_unit", "busy"),
    FreezeState.REOPENING: ("hourglass_top", "quiet"),
}
_WORKDAYS, _WEEKEND = [0, 1, 2, 3, 4], [5, 6]


def days_words(row: FreezeWindow) -> str:
    """Return on which days a window starts."""
    if row.first_day is not None:
        return f"once on {row.first_day}"
    words = _weekdays_words(sorted(row.weekdays))
    return words if row.until is None else f"{words} until {row.until}"


def _weekdays_words(days: list[int]) -> str:
    if len(days) == 7:
        return "every day"
    if days == _WORKDAYS:
        return "Monday to Friday"
    if days == _WEEKEND:
        return "Saturday and Sunday"
    return ", ".join(DAYS[day] for day in days)


def never_words(row: FreezeWindow) -> str:
    """Return why a window has no next time."""
    if not row.enabled:
        return "It is not in use, so it does not begin."
    if row.first_day is None and row.until is None:
        return "It does not begin in the next four years."
    return "It does not begin any more."


def time_words(row: FreezeWindow) -> str:
    """Return from when until when it lasts."""
    if row.end_time is None:
        return f"{row.start_time:%H:%M} until somebody ends it"
    words = f"{row.start_time:%H:%M} – {row.end_time:%H:%M}"
    if row.last_day is not None:
        return words if row.last_day == row.first_day else f"{words} on {row.last_day}"
    later = {0: "", 1: " on the next day"}
    return words + later.get(row.days_later, f", {row.days_later} days later")


def pool_words(row: FreezeWindow, visible: Collection[Any]) -> str:
    """Return the pools of a window; those that may not be seen are only counted."""
    if row.all_pools:
        return "every pool"
    names = sorted(pool.name for pool in row.pools.all() if pool.pk in visible)
    hidden = len(row.pools.all()) - len(names)
    return ", ".join([*names, *([f"{hidden} more"] if hidden else [])])


def looks(row: FreezeWindow, coming: Sequence[Interval], now: datetime) -> tuple[str, str, str]:
    """Return how a window stands now: a word, its tone and its icon."""
    if not row.enabled:
        return "Off", "quiet", "event_busy"
    if not coming:
        return "Over", "quiet", "event_available"
    if now in coming[0]:
        return "In force", "busy", "ac_unit"
    if now >= coming[0].start - coming[0].window.lead:
        return "Closing", "ask", "hourglass_bottom"
    return "Planned", "quiet", "event"
