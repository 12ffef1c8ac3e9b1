"""What people do with freeze windows: make, change, delete, end early, extend.

Every change takes the rows of the pools it is about ``FOR UPDATE``: whatever is permitted or
placed at this moment commits first, and all else sees the change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import DateRange

from pods_app.freeze.checks import Days, check_not_over, check_reason, check_ticket, check_times
from pods_app.freeze.state import moment_words
from pods_app.freeze.stored import pools_of, window_of
from pods_app.freeze.windows import Interval, Window, upcoming
from pods_app.models import FreezeWindow, Pool
from pods_app.notify import notify_controller
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput, NotFound
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

#: A window that begins so soon, or within its lead time, is confirmed by typing its name.
SOON = timedelta(minutes=15)
_EXTENSION_MAX = timedelta(days=31)
NAME_MAX = 100
_COLUMNS = (
    "name",
    "reason",
    "ticket",
    "all_pools",
    "enabled",
    "time_zone",
    "weekdays",
    "start_time",
    "end_time",
    "days_later",
    "first_day",
    "last_day",
    "until",
    "exceptions",
    "lead_minutes",
    "grace_seconds",
)
_DEFAULTS: dict[str, Any] = {
    "ticket": "",
    "all_pools": False,
    "enabled": True,
    "weekdays": [],
    "end_time": None,
    "days_later": 0,
    "first_day": None,
    "last_day": None,
    "until": None,
    "exceptions": [],
    "lead_minutes": 15,
    "grace_seconds": 120,
}


def database_now() -> datetime:
    """Return the time of the database, which alone counts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def drafted(values: dict[str, Any], pools: Collection[Pool]) -> tuple[FreezeWindow, Window]:
    """Return a window that is not stored yet, checked: the row and its rule.

    Raises:
        InvalidInput.
    """
    values = {**_DEFAULTS, **values}
    values["name"], values["reason"] = values["name"].strip(), check_reason(values["reason"])
    values["ticket"] = check_ticket(values["ticket"])
    if not values["name"] or len(values["name"]) > NAME_MAX:
        raise InvalidInput(f"Give it a name of at most {NAME_MAX} characters.", field="name")
    if values["all_pools"] == bool(pools):
        raise InvalidInput("Choose either some pools or all of them.", field="pools")
    check_times(values)
    values["weekdays"] = sorted(values["weekdays"])
    values["exceptions"] = [
        DateRange(days.first, days.last + timedelta(days=1))
        for days in sorted(values["exceptions"], key=lambda days: days.first)
    ]
    row = FreezeWindow(**values)
    return row, window_of(row)


def begins_soon(rule: Window, now: datetime) -> bool:
    """Return whether a window is in force, or will be within its lead time."""
    coming = upcoming(rule, now, 1)
    return bool(coming) and coming[0].start - max(rule.lead, SOON) <= now


def create_window(
    *, actor: Actor, pools: Collection[Pool] = (), confirm: str = "", **values: Any
) -> FreezeWindow:
    """Store a window.

    Args:
        confirm: its name, if it is in force at once or soon.
        values: columns of the window; ``exceptions`` as a list of `Days`.

    Raises:
        NotPermitted, InvalidInput.
    """
    require(actor, Action.OPERATE, None)
    row, rule = drafted(values, pools)
    row.created_by = actor.user
    return _saved(row, rule, actor, pools, confirm, set(), "freeze_window.created")


def change_window(
    *,
    actor: Actor,
    window: FreezeWindow,
    pools: Collection[Pool] | None = None,
    confirm: str = "",
    **values: Any,
) -> FreezeWindow:
    """Change a window that is not in force.

    Raises:
        NotFound, NotPermitted, InvalidInput; Conflict: it is in force.
    """
    require(actor, Action.OPERATE, None)
    with transaction.atomic():
        stored = _locked(window.pk)
        _refuse_in_force(stored, "end it early or extend it, with a reason")
        before = {name: getattr(stored, name) for name in _COLUMNS}
        before["exceptions"] = exceptions_of(stored)
        chosen = list(stored.pools.all()) if pools is None else list(pools)
        row, rule = drafted({**before, **values}, chosen)
        row.pk, row.created_at, row.created_by = stored.pk, stored.created_at, stored.created_by
        for name in ("adjusted_start", "adjusted_end", "adjusted_reason"):
            setattr(row, name, getattr(stored, name))  # what was ended early stays ended
        row._state.adding = False
        formerly = set(pools_of([stored]))
        return _saved(row, rule, actor, chosen, confirm, formerly, "freeze_window.changed")


def exceptions_of(row: FreezeWindow) -> list[Days]:
    """Return the days on which a stored window does not start."""
    return [Days(days.lower, days.upper - timedelta(days=1)) for days in row.exceptions]


def _saved(
    row: FreezeWindow,
    rule: Window,
    actor: Actor,
    pools: Collection[Pool],
    confirm: str,
    formerly: set[UUID],
    kind: str,
) -> FreezeWindow:
    with transaction.atomic():
        now = database_now()
        check_not_over(rule, now)
        if row.enabled and begins_soon(rule, now) and confirm != row.name:
            raise InvalidInput(
                "It begins within its lead time, and ends what runs then. If that is meant, "
                f"type its name: {row.name}",
                field="confirm",
            )
        everywhere = Pool.objects.values_list("pk", flat=True) if row.all_pools else []
        lock_pools(formerly | {pool.pk for pool in pools} | set(everywhere))
        row.save()
        row.pools.set(pools)
        names = "every pool" if row.all_pools else sorted(pool.name for pool in pools)
        data = {"name": row.name, "pools": names, "ticket": row.ticket}
        record(kind, actor=actor, cause=row.reason, data=data)
        notify_controller()
    row.refresh_from_db()
    return row


def delete_window(*, actor: Actor, window: FreezeWindow) -> None:
    """Remove a window that is not in force; the history of its freezes stays.

    Raises:
        NotFound, NotPermitted; Conflict: it is in force.
    """
    require(actor, Action.OPERATE, None)
    with transaction.atomic():
        row = _locked(window.pk)
        _refuse_in_force(row, "end it early, with a reason, then delete it")
        lock_pools(pools_of([row]))
        record("freeze_window.deleted", actor=actor, data={"name": row.name})
        row.delete()
        notify_controller()


def end_early(*, actor: Actor, window: FreezeWindow, reason: str) -> FreezeWindow:
    """End the present occurrence of a window now; its next ones are as ever.

    Raises:
        NotFound, NotPermitted, InvalidInput; Conflict: it is not in force.
    """
    return _adjust(actor, window, None, reason, "freeze_window.ended_early")


def extend(*, actor: Actor, window: FreezeWindow, until: datetime, reason: str) -> FreezeWindow:
    """Let the present occurrence of a window last until ``until``.

    Raises:
        NotFound, NotPermitted, InvalidInput; Conflict: it is not in force.
    """
    return _adjust(actor, window, until, reason, "freeze_window.extended")


def _adjust(
    actor: Actor, window: FreezeWindow, until: datetime | None, reason: str, kind: str
) -> FreezeWindow:
    require(actor, Action.OPERATE, None)
    reason = check_reason(reason)
    with transaction.atomic():
        row = _locked(window.pk)
        lock_pools(pools_of([row]))
        now = database_now()
        present = in_force(row, now)
        if present is None:
            raise Conflict(f"“{row.name}” is not in force now; change the window instead.")
        if until is not None:
            _check_extension(present, until.astimezone(UTC), now)
        row.adjusted_start, row.adjusted_end = present.start, until or now
        row.adjusted_reason = reason
        row.save(update_fields=["adjusted_start", "adjusted_end", "adjusted_reason"])
        data = {"name": row.name, "until": row.adjusted_end.isoformat()}
        record(kind, actor=actor, cause=reason, data=data)
        notify_controller()
    return row


def _check_extension(present: Interval, until: datetime, now: datetime) -> None:
    if present.end is None:
        raise InvalidInput("It lasts until somebody ends it; it needs no more.", field="until")
    if until <= present.end:
        words = moment_words(present.end, present.window.zone)
        raise InvalidInput(f"It lasts until {words} already; use a later time.", field="until")
    if until - now > _EXTENSION_MAX:
        raise InvalidInput(
            f"At most {_EXTENSION_MAX.days} days from now; make a window for more.", field="until"
        )


def in_force(row: FreezeWindow, now: datetime) -> Interval | None:
    """Return the occurrence of a window that is in force."""
    if not row.enabled:
        return None
    coming = upcoming(window_of(row), now, 1)
    return coming[0] if coming and now in coming[0] else None


def _refuse_in_force(row: FreezeWindow, remedy: str) -> None:
    if in_force(row, database_now()) is not None:
        raise Conflict(f"“{row.name}” is in force; {remedy}.")


def _locked(window_id: UUID) -> FreezeWindow:
    try:
        return FreezeWindow.objects.select_for_update().get(pk=window_id)
    except FreezeWindow.DoesNotExist:
        raise NotFound("There is no such freeze window any more.") from None


def lock_pools(pool_ids: Iterable[UUID]) -> None:
    """Wait for what is being placed or permitted in these pools, and let nothing by."""
    pools = Pool.objects.select_for_update().filter(pk__in=set(pool_ids)).order_by("pk")
    list(pools.values_list("pk", flat=True))
