"""When a freeze window is in force: wall clock times in an IANA zone, turned into moments.

An interval is ``[start, end)``. Clock changes make it as wide as it can be: a start that the
clock skips is the moment of the change, one that it shows twice the earlier; an end that the
clock skips is the moment of the change, one that it shows twice the later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

_DAY = timedelta(days=1)
#: The first moments of the calendar have no day before them.
_FIRST_DAY, _LAST_DAY = date(1, 1, 8), date(9999, 12, 20)


class UnreadableWindow(ValueError):
    """A window whose times this machine cannot work out, for example an unknown zone."""


@dataclass(frozen=True)
class Window:
    """A window's rule.

    Args:
        weekdays: 0 is Monday; on these days of its zone it starts. Empty: it is a one-off that
            starts on ``first_day`` and ends on ``last_day`` (None: when a person ends it).
        days_later: how many days after its start a weekly one ends.
        until: the last day of its zone on which a weekly one starts; None: it goes on.
        exceptions: days, first and last, on which it does not start.
        adjusted_start: the start of the one occurrence that a person ended early or extended;
            ``adjusted_end`` is its end.
    """

    id: Any
    name: str
    reason: str
    zone: str
    start: time
    end: time | None
    weekdays: frozenset[int] = frozenset()
    days_later: int = 0
    first_day: date | None = None
    last_day: date | None = None
    until: date | None = None
    exceptions: tuple[tuple[date, date], ...] = ()
    lead: timedelta = timedelta()
    grace: timedelta = timedelta()
    adjusted_start: datetime | None = None
    adjusted_end: datetime | None = None
    ticket: str = ""

    def __hash__(self) -> int:
        """By what differs mostly; all fields would cost more than they tell apart."""
        return hash((self.id, self.start, self.adjusted_end))


@dataclass(frozen=True, order=True)
class Interval:
    """One occurrence of a window, in UTC; without an end it lasts until a person ends it."""

    start: datetime
    end: datetime | None = field(compare=False)
    window: Window = field(compare=False)

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment and (self.end is None or moment < self.end)


def is_zone(name: str) -> bool:
    """Return whether ``name`` is an IANA time zone."""
    return name in zones()


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """Return the names of all time zones."""
    return frozenset(available_timezones()) - {"localtime", "Factory"}


def zone_of(name: str) -> ZoneInfo:
    """Return the zone.

    Raises:
        UnreadableWindow: this machine does not know it.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UnreadableWindow(f"the time zone “{name}” is unknown here") from None


def earliest(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the first moment at which clocks of ``zone`` show ``wall`` or have passed it.

    Args:
        wall: without a zone.
    """
    one, other = _both(zone, wall)
    return min(one, other) if _shows(zone, one, wall) else _change(zone, other, one)


def latest(zone: ZoneInfo, wall: datetime) -> datetime:
    """Return the last moment at which clocks of ``zone`` show ``wall``.

    Where the clock skips it, the moment of the change.
    """
    one, other = _both(zone, wall)
    return max(one, other) if _shows(zone, one, wall) else _change(zone, other, one)


def _both(zone: ZoneInfo, wall: datetime) -> tuple[datetime, datetime]:
    """Read ``wall`` with the offset before and after a change."""
    readings = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    before, after = readings
    return before, after


def _shows(zone: ZoneInfo, moment: datetime, wall: datetime) -> bool:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0) == wall


def _change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the moment between the two, in whole seconds, at which the offset changes."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before).total_seconds() // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after.replace(microsecond=0)


def occurrences(window: Window, since: datetime, until: datetime) -> Iterator[Interval]:
    """Yield the occurrences that overlap ``[since, until)``, in order of their start.

    Raises:
        UnreadableWindow.
    """
    zone = zone_of(window.zone)
    if not window.weekdays:
        interval = _once(window, zone)
        if interval is not None and _overlaps(interval, since, until):
            yield interval
        return
    # One occurrence may have been extended far beyond its own end.
    reach = window.days_later + 1
    day = _clamped(since.astimezone(zone).date() - reach * _DAY)
    last = _clamped(until.astimezone(zone).date() + _DAY)
    if window.until is not None:
        last = min(last, window.until)
    for extended in _adjusted_before(window, zone, day):
        if _overlaps(extended, since, until):
            yield extended
    while day <= last:
        interval = _weekly(window, zone, day)
        if interval is not None and _overlaps(interval, since, until):
            yield interval
        day += _DAY


def _once(window: Window, zone: ZoneInfo) -> Interval | None:
    assert window.first_day is not None
    start = earliest(zone, datetime.combine(window.first_day, window.start))
    end = None
    if window.last_day is not None and window.end is not None:
        end = latest(zone, datetime.combine(window.last_day, window.end))
    return _adjusted(window, start, end)


@lru_cache(maxsize=16_384)  # the same few days are asked for again and again
def _weekly(window: Window, zone: ZoneInfo, day: date) -> Interval | None:
    if day.weekday() not in window.weekdays:
        return None
    if any(first <= day <= last for first, last in window.exceptions):
        return None
    assert window.end is not None
    start = earliest(zone, datetime.combine(day, window.start))
    end = latest(zone, datetime.combine(day + window.days_later * _DAY, window.end))
    return _adjusted(window, start, end)


def _adjusted_before(window: Window, zone: ZoneInfo, day: date) -> Iterator[Interval]:
    """Yield the one occurrence that a person adjusted, if it is one of a day before ``day``."""
    if window.adjusted_start is None:
        return
    shown = window.adjusted_start.astimezone(zone).date()
    for of in (shown - _DAY, shown):  # what a clock skips up to midnight starts on the next day
        interval = _weekly(window, zone, of) if of < day else None
        if interval is not None and interval.start == window.adjusted_start:
            yield interval


def _adjusted(window: Window, start: datetime, end: datetime | None) -> Interval | None:
    if window.adjusted_start == start:
        end = window.adjusted_end
    if end is not None and end <= start:
        return None  # both in the hour that the clock skips, or ended before it began
    return Interval(start, end, window)


def _overlaps(interval: Interval, since: datetime, until: datetime) -> bool:
    return interval.start < until and (interval.end is None or interval.end > since)


def _clamped(day: date) -> date:
    return min(max(day, _FIRST_DAY), _LAST_DAY)


def upcoming(window: Window, now: datetime, count: int) -> list[Interval]:
    """Return the next occurrences, the present one included.

    Raises:
        UnreadableWindow.
    """
    if not window.weekdays:
        interval = _once(window, zone_of(window.zone))
        return [interval] if interval and (interval.end is None or interval.end > now) else []
    found: list[Interval] = []
    horizon = now
    for _ in range(8):  # eight half years: exceptions may be long
        since, horizon = horizon, horizon + 183 * _DAY
        for interval in occurrences(window, since, horizon):
            if interval not in found:
                found.append(interval)
        if len(found) >= count:
            break
    return found[:count]
