"""Which look-aheads are due at a moment: a pure function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from pods_app.freeze.windows import Interval, UnreadableWindow, Window, occurrences
from pods_app.states import NoticeKind

#: How long before the start, longest first.
OFFSETS = {
    NoticeKind.DAY_AHEAD: timedelta(hours=24),
    NoticeKind.HOUR_AHEAD: timedelta(hours=1),
    NoticeKind.QUARTER_AHEAD: timedelta(minutes=15),
}
_FARTHEST = max(OFFSETS.values())


def due(windows: Iterable[Window], now: datetime) -> Iterator[tuple[NoticeKind, Interval]]:
    """Yield every occurrence that is near, and how near it is.

    Each is due as one kind at a time: the next kind takes the place of the last, and the start
    that of all. Whoever looks late thus tells what is true now and nothing that has passed.
    A window that cannot be read has no start that could be told.
    """
    for window in windows:
        try:
            near = list(occurrences(window, now, now + _FARTHEST + timedelta(seconds=1)))
        except UnreadableWindow:
            continue
        for interval in near:
            kinds = [kind for kind, offset in OFFSETS.items() if interval.start - offset <= now]
            if kinds and now < interval.start:
                yield kinds[-1], interval


def key(kind: NoticeKind, interval: Interval) -> str:
    """Return what makes a look-ahead the same: an occurrence that is moved is another."""
    end = interval.end.isoformat() if interval.end else "open"
    return f"{kind}:{interval.window.id}:{interval.start.isoformat()}:{end}"
