"""What a freeze window may be; every refusal names the field and says what to do."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import available_timezones

from pods_app.freeze.windows import Window, is_zone, occurrences, upcoming
from tasks_app.exceptions import InvalidInput

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LEAD_MINUTES_MAX, GRACE_SECONDS_MAX, DAYS_LATER_MAX = 1440, 3600, 6
TICKET_MAX = 100
_EXCEPTIONS_MAX = 200
#: Days beyond are typing errors, and cannot be converted everywhere.
_FIRST_DAY, _LAST_DAY = date(2000, 1, 1), date(2199, 12, 31)


@dataclass(frozen=True)
class Days:
    """A range of days, both included."""

    first: date
    last: date

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"


def check_times(values: Mapping[str, Any]) -> None:
    """Check a window's times as a whole.

    Args:
        values: all columns of the window, ``exceptions`` as a list of `Days`.

    Raises:
        InvalidInput.
    """
    _check_zone(values["time_zone"])
    if bool(values["weekdays"]) == (values["first_day"] is not None):
        raise InvalidInput(
            "Give either the weekdays on which it starts, or the first day of a one-off.",
            field="weekdays" if values["weekdays"] else "first_day",
        )
    if any(day not in range(7) for day in values["weekdays"]):
        raise InvalidInput("Use 0 (Monday) to 6 (Sunday).", field="weekdays")
    if len(set(values["weekdays"])) != len(values["weekdays"]):
        raise InvalidInput("Name each day once.", field="weekdays")
    for name in ("first_day", "last_day", "until"):
        _check_day(values[name], name)
    if values["weekdays"]:
        _check_weekly(values)
    else:
        _check_once(values)
    if not 0 <= values["lead_minutes"] <= LEAD_MINUTES_MAX:
        raise InvalidInput(f"Between 0 and {LEAD_MINUTES_MAX} minutes.", field="lead_minutes")
    if not 0 <= values["grace_seconds"] <= GRACE_SECONDS_MAX:
        raise InvalidInput(f"Between 0 and {GRACE_SECONDS_MAX} seconds.", field="grace_seconds")


def _check_zone(name: str) -> None:
    if is_zone(name):
        return
    near = difflib.get_close_matches(name, available_timezones(), n=1)
    hint = f"Do you mean {near[0]}?" if near else "Use an IANA name such as Europe/Berlin or UTC."
    raise InvalidInput(f"There is no time zone “{name}”. {hint}", field="time_zone")


def _check_day(day: date | None, name: str) -> None:
    if day is not None and not _FIRST_DAY <= day <= _LAST_DAY:
        raise InvalidInput(f"Use a day from {_FIRST_DAY} to {_LAST_DAY}.", field=name)


def _check_weekly(values: Mapping[str, Any]) -> None:
    start, end, later = values["start_time"], values["end_time"], values["days_later"]
    if values["last_day"] is not None:
        raise InvalidInput(
            "Only a one-off has a last day; say until which day a weekly one starts.",
            field="last_day",
        )
    if end is None:
        raise InvalidInput("Say when it ends.", field="end_time")
    if not 0 <= later <= DAYS_LATER_MAX:
        raise InvalidInput(f"Between 0 and {DAYS_LATER_MAX} days.", field="days_later")
    if later == 0:
        _check_order(
            start, end, "set days_later to 1 if it ends on the next day, also for a whole day"
        )
    check_exceptions(values["exceptions"])


def _check_once(values: Mapping[str, Any]) -> None:
    if values["days_later"]:
        raise InvalidInput("A one-off has a last day instead.", field="days_later")
    if values["until"] is not None:
        raise InvalidInput("A one-off does not repeat; give its last day instead.", field="until")
    if values["exceptions"]:
        raise InvalidInput("Only weekly windows have exceptions.", field="exceptions")
    first, last, end = values["first_day"], values["last_day"], values["end_time"]
    if (last is None) != (end is None):
        raise InvalidInput(
            "Give both the last day and the time it ends, or neither if a person ends it.",
            field="end_time" if end is None else "last_day",
        )
    if last is None:
        return
    if last < first:
        raise InvalidInput(
            f"It ends on {last}, before it starts on {first}; use a later day.", field="last_day"
        )
    if last == first:
        _check_order(values["start_time"], end, "use a later time, or a later last day")


def _check_order(start: time, end: time, remedy: str) -> None:
    if end == start:
        raise InvalidInput(
            f"It starts and ends at {start:%H:%M}, so it has no length; {remedy}.", field="end_time"
        )
    if end < start:
        raise InvalidInput(
            f"It ends at {end:%H:%M}, before it starts at {start:%H:%M}; {remedy}.",
            field="end_time",
        )


def check_exceptions(exceptions: Sequence[Days]) -> None:
    """Check days on which a window does not start.

    Raises:
        InvalidInput: reversed, too many, or two have a day in common.
    """
    if len(exceptions) > _EXCEPTIONS_MAX:
        raise InvalidInput(f"At most {_EXCEPTIONS_MAX} exceptions.", field="exceptions")
    for days in exceptions:
        for day in (days.first, days.last):
            _check_day(day, "exceptions")
        if days.last < days.first:
            raise InvalidInput(
                f"The exception {days} ends before it starts; swap the two.", field="exceptions"
            )
    ordered = sorted(exceptions, key=lambda days: days.first)
    for days, after in pairwise(ordered):
        if after.first <= days.last:
            raise InvalidInput(
                f"The exceptions {days} and {after} overlap; join them or remove one.",
                field="exceptions",
            )


def check_reason(reason: str, field: str = "reason") -> str:
    """Return a reason without surrounding spaces.

    Raises:
        InvalidInput: it is empty or too long.
    """
    reason = reason.strip()
    if not reason:
        raise InvalidInput("Say why; others will read it.", field=field)
    if len(reason) > 500:
        raise InvalidInput("At most 500 characters.", field=field)
    return reason


def check_ticket(ticket: str) -> str:
    """Return a ticket without surrounding spaces; it may be empty.

    Raises:
        InvalidInput: it is too long, or no single line.
    """
    ticket = ticket.strip()
    if len(ticket) > TICKET_MAX or not ticket.isprintable():
        raise InvalidInput(f"Use one line of at most {TICKET_MAX} characters.", field="ticket")
    return ticket


def check_not_over(rule: Window, now: datetime) -> None:
    """Refuse a window that is not in force, and will not be, because of its last day.

    Raises:
        InvalidInput.
    """
    if not rule.weekdays:
        if not upcoming(rule, now, 1):
            raise InvalidInput("It is over already; use a later end.", field="last_day")
    elif rule.until is not None:
        beyond = datetime.combine(rule.until, time(), UTC) + timedelta(days=2)
        if next(occurrences(rule, now, beyond), None) is None:
            raise InvalidInput(
                f"It does not start again until {rule.until}; use a later day, or none.",
                field="until",
            )
