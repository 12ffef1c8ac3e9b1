"""What people do at once: freeze a pool, end its freeze, override it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import Permission
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
from pods_app.freeze.state import moment_words
from pods_app.models import FreezeOverride, FreezeWindow, Pool
from pods_app.notify import notify_controller
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput, NotPermitted
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


def in_minutes(minutes: int) -> datetime:
    """Return when an override expires that is granted for ``minutes`` now.

    Raises:
        InvalidInput: too short or too long.
    """
    if not 1 <= minutes <= OVERRIDE_MINUTES_MAX:
        raise InvalidInput(f"Between 1 and {OVERRIDE_MINUTES_MAX} minutes.", field="minutes")
    return database_now() + timedelta(minutes=minutes)


def require_override_by_token(actor: Actor) -> None:
    """Raise unless a person's API tokens may override freezes.

    Tokens lie in scripts and pipelines, which a freeze is to stop as well. So no role brings this
    right, nor does being a superuser: it is given to a person, or to a group, by name. The role
    is needed as well, which granting and ending ask for.

    Raises:
        NotPermitted.
    """
    given = Permission.objects.filter(
        Q(user=actor.user) | Q(group__user=actor.user),
        content_type__app_label="pods_app",
        codename="override_by_token",
    )
    if not given.exists():
        raise NotPermitted(
            "An API token does not override freezes unless that was given to you by name: let a "
            "superuser add the permission “May override freezes with an API token” to you or your "
            "group, or use the admin."
        )


def grant_override(
    *, actor: Actor, pool: Pool, reason: str, expires_at: datetime
) -> FreezeOverride:
    """Let a pool work in spite of its windows from now until ``expires_at``.

    Raises:
        NotPermitted, InvalidInput.
    """
    require(actor, Action.OVERRIDE_FREEZE, None)
    reason = check_reason(reason)
    with transaction.atomic():
        lock_pools([pool.pk])
        now = database_now()
        _check_expiry(expires_at, now)
        row = FreezeOverride.objects.create(
            pool=pool,
            reason=reason,
            begins_at=now,
            expires_at=expires_at,
            created_by=actor.user,
        )
        until = row.expires_at.isoformat()
        data = {"pool": pool.name, "override": str(row.pk), "until": until}
        record("freeze_override.granted", actor=actor, cause=reason, data=data)
        notify_controller()
    return row


def _check_expiry(expires_at: datetime, now: datetime) -> None:
    latest = now + timedelta(minutes=OVERRIDE_MINUTES_MAX)
    if expires_at <= now:
        raise InvalidInput("It is over already; use a later time.", field="expires_at")
    if expires_at > latest:
        raise InvalidInput(
            f"At most {OVERRIDE_MINUTES_MAX // 60} hours from now, which is "
            f"{moment_words(latest, 'UTC')}; use an earlier time.",
            field="expires_at",
        )


def live_overrides(pool: Pool) -> list[FreezeOverride]:
    """Return the overrides of a pool that are in force, newest first."""
    rows = pool.freeze_overrides.filter(expires_at__gt=database_now())
    return list(rows.select_related("pool", "created_by"))


def end_override(*, actor: Actor, override: FreezeOverride, reason: str = "") -> None:
    """Take an override back: the windows count again at once.

    Raises:
        NotPermitted, InvalidInput; Conflict: it expired already.
    """
    require(actor, Action.OVERRIDE_FREEZE, None)
    reason = reason and check_reason(reason)
    with transaction.atomic():
        lock_pools([override.pool_id])
        now = database_now()
        live = FreezeOverride.objects.filter(pk=override.pk, expires_at__gt=now)
        if not live.update(expires_at=now):
            raise Conflict("The override has expired already.")
        data = {"pool": override.pool.name, "override": str(override.pk)}
        record("freeze_override.ended", actor=actor, cause=reason, data=data)
        notify_controller()
