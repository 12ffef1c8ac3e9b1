"""What people do at once: freeze a pool, end its freeze, override it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import transaction
from django.db.models import Q

from pods_app.freeze.checks import check_reason
from pods_app.freeze.services import (
    NAME_MAX,
    create_window,
    database_now,
    end_early,
    in_force,
    lock_pools,
)
from pods_app.models import FreezeOverride, FreezeWindow, Pool
from pods_app.notify import notify_controller
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

OVERRIDE_MINUTES_MAX = 240


def freeze_now(
    *,
    actor: Actor,
    pool: Pool,
    reason: str,
    ticket: str = "",
    until: datetime | None = None,
) -> FreezeWindow:
    """Freeze one pool from now on, until ``until`` or until somebody ends it.

    Raises:
        NotPermitted, InvalidInput.
    """
    now = database_now()
    end = until and until.astimezone(UTC)
    name = f"{pool.name} by hand {now:%Y-%m-%d %H:%M:%S}"[:NAME_MAX]
    return create_window(
        actor=actor,
        pools=[pool],
        confirm=name,
        name=name,
        reason=reason,
        ticket=ticket,
        time_zone="UTC",
        first_day=now.date(),
        start_time=now.time(),
        last_day=end and end.date(),
        end_time=end and end.time(),
        lead_minutes=0,
        grace_seconds=0,
    )


def ends_with(pool: Pool) -> list[FreezeWindow]:
    """Return the windows in force that ending a pool's freeze would end: those of it alone.

    Raises:
        Conflict: it is not frozen, or by a window of other pools as well.
    """
    now = database_now()
    rows = FreezeWindow.objects.filter(Q(all_pools=True) | Q(pools=pool), enabled=True)
    present = [row for row in rows.distinct() if in_force(row, now) is not None]
    if not present:
        raise Conflict(f"No window is in force for {pool.name}.")
    for row in present:
        if row.all_pools or row.pools.count() > 1:
            raise Conflict(
                f"“{row.name}” freezes other pools as well. End that window early, or override "
                f"the freeze of {pool.name} for a while."
            )
    return present


def unfreeze(*, actor: Actor, pool: Pool, reason: str) -> list[FreezeWindow]:
    """End every window in force that freezes this pool alone.

    Raises:
        NotPermitted, InvalidInput; Conflict: as `ends_with`.
    """
    require(actor, Action.OPERATE, None)
    with transaction.atomic():
        rows = ends_with(pool)
        return [end_early(actor=actor, window=row, reason=reason) for row in rows]


def grant_override(*, actor: Actor, pool: Pool, reason: str, minutes: int) -> FreezeOverride:
    """Let a pool work in spite of its windows, for ``minutes`` from now.

    Raises:
        NotPermitted, InvalidInput.
    """
    require(actor, Action.OVERRIDE_FREEZE, None)
    reason = check_reason(reason)
    if not 1 <= minutes <= OVERRIDE_MINUTES_MAX:
        raise InvalidInput(f"Between 1 and {OVERRIDE_MINUTES_MAX} minutes.", field="minutes")
    with transaction.atomic():
        lock_pools([pool.pk])
        row = FreezeOverride.objects.create(
            pool=pool,
            reason=reason,
            begins_at=(now := database_now()),
            expires_at=now + timedelta(minutes=minutes),
            created_by=actor.user,
        )
        data = {"pool": pool.name, "until": row.expires_at.isoformat()}
        record("freeze_override.granted", actor=actor, cause=reason, data=data)
        notify_controller()
    return row


def end_override(*, actor: Actor, override: FreezeOverride) -> None:
    """Take an override back: the windows count again at once.

    Raises:
        NotPermitted; Conflict: it expired already.
    """
    require(actor, Action.OVERRIDE_FREEZE, None)
    with transaction.atomic():
        lock_pools([override.pool_id])
        now = database_now()
        live = FreezeOverride.objects.filter(pk=override.pk, expires_at__gt=now)
        if not live.update(expires_at=now):
            raise Conflict("The override has expired already.")
        record("freeze_override.ended", actor=actor, data={"pool": override.pool.name})
        notify_controller()
