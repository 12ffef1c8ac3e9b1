"""What windows and overrides say of a pool at a moment: a pure function.

Windows that overlap, or that leave less than `MERGE` between them, are one freeze. Before it the
pool is closing for the lead time of the windows. An override opens the pool until it expires.
What cannot be read counts as frozen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pods_app.freeze.windows import Interval, UnreadableWindow, Window, occurrences, zone_of
from pods_app.states import FreezeState as State

#: An opening shorter than this between two windows stays closed: pods would come and go for it.
MERGE = timedelta(minutes=10)
#: A freeze is followed so far, so often; one that goes on has no known end.
_STEP, _STEPS = timedelta(days=7), 12
#: The longest lead time and grace a window may have.
LEAD_MAX = timedelta(hours=24)


@dataclass(frozen=True)
class Override:
    """A person's permission to work in spite of the windows, ``[begins, expires)``."""

    begins: datetime
    expires: datetime
    reason: str
    by: str = ""


@dataclass(frozen=True)
class Freeze:
    """A pool's state by the schedule.

    Args:
        since: when it began; None: before anything that is known, or open.
        until: when it ends; None: not known, or open with nothing ahead that was looked for.
        frozen_until: the end of the freeze that is there or comes, None if not known.
        interrupts_at: when a freeze that comes asks running applies to stop.
        intervals: the windows that are in force, or that the pool closes for.
        override: the one that opens it.
        problem: why the schedule cannot be read.
    """

    state: State
    since: datetime | None = None
    until: datetime | None = None
    frozen_until: datetime | None = None
    interrupts_at: datetime | None = None
    intervals: tuple[Interval, ...] = field(default=())
    override: Override | None = None
    problem: str = ""

    @property
    def names(self) -> str:
        """The windows' names with their tickets; empty if it is none of a window."""
        windows = (one.window for one in self.intervals)
        return ", ".join(dict.fromkeys(with_ticket(one.name, one.ticket) for one in windows))

    @property
    def zone(self) -> str:
        """The zone people think of it in: that of its first window."""
        return self.intervals[0].window.zone if self.intervals else "UTC"

    @property
    def reason(self) -> str:
        """One sentence about why."""
        if self.problem:
            return self.problem
        if self.state == State.REOPENING:
            return "The freeze is over; its pods come back"
        if self.override is not None:
            return f"Open by an override until {moment_words(self.until, 'UTC')}: " + (
                self.override.reason
            )
        if self.state == State.FROZEN:
            return f"Frozen {self.end_words()} ({self.names})"
        if self.state == State.CLOSING:
            return (
                f"Freezes at {moment_words(self.until, self.zone)}, then frozen "
                f"{self.end_words()} ({self.names})"
            )
        return f"Open until {moment_words(self.until, self.zone)}" if self.until else "Open"

    def end_words(self) -> str:
        """Return ``until 06:00 CET on Mon 3 Mar 2025``, or that nobody knows."""
        if self.frozen_until is None:
            return "until somebody ends it"
        return f"until {moment_words(self.frozen_until, self.zone)}"


def with_ticket(words: str, ticket: str) -> str:
    """Return words about a window with its ticket, if it has one: ``quarter end [CHG-4711]``."""
    return f"{words} [{ticket}]" if ticket else words


def moment_words(moment: datetime | None, zone: str) -> str:
    """Return a moment as people of a zone write it, with the zone."""
    if moment is None:
        return "an unknown time"
    local = _local(moment, zone)
    return f"{local:%H:%M} {_zone_word(local)} on {local:%a} {local.day} {local:%b %Y}"


def span_words(interval: Interval, zone: str) -> str:
    """Return an interval in a zone: ``Mon 3 Mar 2025, 22:00 – Tue 4 Mar, 06:00 CET``."""
    start = _local(interval.start, zone)
    day = f"{start:%a} {start.day} {start:%b %Y}"
    if interval.end is None:
        return f"{day}, {start:%H:%M} {_zone_word(start)} until somebody ends it"
    end = _local(interval.end, zone)
    begins = f"{day}, {start:%H:%M}"
    if start.utcoffset() != end.utcoffset():
        begins += f" {_zone_word(start)}"
    until = "" if start.date() == end.date() else f"{end:%a} {end.day} {end:%b}, "
    return f"{begins} – {until}{end:%H:%M} {_zone_word(end)}"


def _local(moment: datetime, zone: str) -> datetime:
    try:
        return moment.astimezone(zone_of(zone))
    except UnreadableWindow:
        return moment.astimezone(UTC)


def _zone_word(local: datetime) -> str:
    """Return ``CET``; where people use no letters the offset, as in ``UTC+05:45``."""
    name = local.tzname() or "UTC"
    return name if name[0].isalpha() else f"UTC{name[:3]}" + (f":{name[3:5]}" if name[3:] else "")


def state_at(
    now: datetime,
    windows: Iterable[Window],
    overrides: Iterable[Override] = (),
    *,
    look_ahead: timedelta = timedelta(),
) -> Freeze:
    """Return a pool's state.

    Args:
        now: with a zone.
        windows: the enabled ones of the pool.
        look_ahead: how far to look for the next freeze of an open pool, for its ``until``.
    """
    now = now.astimezone(UTC)
    live = [override for override in overrides if override.begins <= now < override.expires]
    if live:
        last = max(live, key=lambda override: override.expires)
        return Freeze(State.OPEN, last.begins, last.expires, override=last)
    try:
        return _scheduled(now, list(windows), look_ahead)
    except UnreadableWindow as error:
        return Freeze(State.FROZEN, problem=f"Frozen, because the schedule is unreadable: {error}")


def _scheduled(now: datetime, windows: Sequence[Window], look_ahead: timedelta) -> Freeze:
    ahead = max([look_ahead, MERGE, *(window.lead for window in windows)]) + timedelta(seconds=1)
    near = _intervals(windows, now - MERGE, now + ahead)
    present = _freeze_of(now, near)
    if present:
        return _frozen(windows, present)
    coming = [one for one in near if one.start > now]
    closing = [one for one in coming if now >= one.start - one.window.lead]
    if closing:
        return _closing(windows, closing)
    begins = (one.start - one.window.lead for one in coming)
    return Freeze(State.OPEN, until=min(begins, default=None))


def _intervals(windows: Iterable[Window], since: datetime, until: datetime) -> list[Interval]:
    return sorted(interval for window in windows for interval in occurrences(window, since, until))


def _freeze_of(now: datetime, intervals: Sequence[Interval]) -> list[Interval]:
    """Return what freezes a pool now: the intervals with it, or those around a short opening."""
    within = [interval for interval in intervals if now in interval]
    if within:
        return within
    past = [one for one in intervals if one.end is not None and one.end <= now]
    coming = [one for one in intervals if one.start > now]
    if not past or not coming:
        return []
    last = max(past, key=lambda one: one.end or now)
    first = min(coming)
    assert last.end is not None
    return [last, first] if first.start - last.end < MERGE else []


def _frozen(windows: Sequence[Window], present: list[Interval]) -> Freeze:
    ends = [one.end for one in present]
    end = None
    if None not in ends:
        end = _end(windows, max(moment for moment in ends if moment is not None))
    start = _since(windows, min(one.start for one in present))
    return Freeze(State.FROZEN, start, end, end, intervals=tuple(present))


def _closing(windows: Sequence[Window], closing: list[Interval]) -> Freeze:
    first = min(closing)
    return Freeze(
        State.CLOSING,
        since=min(one.start - one.window.lead for one in closing),
        until=first.start,
        frozen_until=None if first.end is None else _end(windows, first.end),
        interrupts_at=min(one.start - one.window.grace for one in closing),
        intervals=tuple(one for one in closing if one.start == first.start),
    )


def _end(windows: Sequence[Window], end: datetime) -> datetime | None:
    """Return where a freeze ends that lasts until ``end`` at least; None if nobody knows."""
    for _ in range(_STEPS):
        reach = end + _STEP
        for interval in _intervals(windows, end, reach):
            if interval.start - end >= MERGE:
                return end
            if interval.end is None:
                return None
            end = max(end, interval.end)
        if end + MERGE <= reach:
            return end
    return None


def _since(windows: Sequence[Window], start: datetime) -> datetime:
    """Return where a freeze begins that has begun at ``start`` at the latest."""
    for _ in range(_STEPS):
        reach = start - _STEP
        for interval in sorted(_intervals(windows, reach, start), key=_ends, reverse=True):
            if start - _ends(interval) >= MERGE:
                return start
            start = min(start, interval.start)
        if start - reach >= MERGE:
            return start
    return start


def _ends(interval: Interval) -> datetime:
    return interval.end or datetime.max.replace(tzinfo=UTC)
