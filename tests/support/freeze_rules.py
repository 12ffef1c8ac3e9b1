"""Rules of freeze windows without a database, and moments as clocks show them."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from pods_app.freeze.windows import Window


def window(zone: str = "Europe/Berlin", **fields: Any) -> Window:
    """Return the rule of a window: every night, unless ``fields`` say otherwise."""
    usual: dict[str, Any] = {
        "id": 1,
        "name": "nightly",
        "reason": "quiet",
        "zone": zone,
        "weekdays": frozenset(range(7)),
        "start": time(22),
        "end": time(6),
        "days_later": 1,
    }
    return Window(**{**usual, **fields})


def moment(zone: str, text: str) -> datetime:
    """Return the moment of a wall clock time that exists once."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
