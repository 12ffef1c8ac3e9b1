"""What freezes add to pools: what an operator does at once, a panel, and what needs attention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pods_app.admin.freeze_forms import FreezeNowForm, OverrideForm
from pods_app.admin.pool import Operates
from pods_app.api.visibility import visible_pools
from pods_app.freeze import by_hand
from pods_app.freeze.by_hand import live_overrides
from pods_app.freeze.state import moment_words, with_ticket
from pods_app.freeze.status import any_schedule, impact, standing, standings
from pods_app.freeze.words import STATE_LOOKS
from pods_app.models import FreezeWindow, Pool
from pods_app.states import FreezeState
from tasks_app.actors import Actor
from tasks_app.admin.base import list_url, object_url
from tasks_app.admin.hooks import Attention, add_attention, add_operation
from tasks_app.admin.operations import Availability, Done, Operation
from tasks_app.formats import badge
from tasks_app.permissions import Action, may
from tasks_app.registry import Panel, add_panel

_HISTORY_MAX = 8


class FreezeNow(Operates):
    name, label, icon, tone = "freeze", "Freeze now", "ac_unit", "danger"
    title, submit = "Freeze this pool now?", "Freeze now"
    text = "It lasts until somebody ends it. For one that comes again, add a freeze window."
    template = "admin/slipway/pods/freeze_impact.html"
    form_class = FreezeNowForm

    def availability(self, actor: Actor, obj: Pool) -> Availability:
        frozen = standing(obj).freeze.state == FreezeState.FROZEN
        return Availability(may(actor, Action.OPERATE), "It is frozen already." if frozen else "")

    def context(self, actor: Actor, obj: Pool) -> dict[str, Any]:
        return {"impact": impact([obj])}

    def run(self, actor: Actor, obj: Pool, data: dict[str, Any]) -> Done:
        why = {"reason": data["reason"], "ticket": data["ticket"]}
        row = by_hand.freeze_now(actor=actor, pool=obj, **why)
        return Done(f"{obj.name} is frozen until somebody ends it.", object_url(row))


class Override(Operation):
    name, label, icon = "override_freeze", "Override freeze", "key"
    title, submit, tone = "Work in spite of the freeze", "Override", "danger"
    text = (
        "The pool takes work until the override expires; then it is frozen again, and what runs "
        "is interrupted."
    )
    form_class = OverrideForm

    def availability(self, actor: Actor, obj: Pool) -> Availability:
        state = standing(obj).freeze.state
        closed = state in {FreezeState.FROZEN, FreezeState.CLOSING}
        reason = "" if closed else "It is not frozen."
        return Availability(may(actor, Action.OVERRIDE_FREEZE), reason)

    def run(self, actor: Actor, obj: Pool, data: dict[str, Any]) -> Done:
        expires_at = by_hand.in_minutes(data["minutes"])
        row = by_hand.grant_override(
            actor=actor, pool=obj, reason=data["reason"], expires_at=expires_at
        )
        return Done(f"{obj.name} works until {moment_words(row.expires_at, 'UTC')}.")


class EndOverride(Operation):
    name, label, icon = "end_override", "End override", "key_off"
    title, submit = "Let the windows count again now?", "End override"
    text = "If one is in force the pool is frozen at once, and what runs is interrupted."

    def availability(self, actor: Actor, obj: Pool) -> Availability:
        return Availability(bool(live_overrides(obj)) and may(actor, Action.OVERRIDE_FREEZE))

    def run(self, actor: Actor, obj: Pool, data: dict[str, Any]) -> Done:
        for row in live_overrides(obj):
            by_hand.end_override(actor=actor, override=row)
        return Done("The override has ended.")


def _panel(pool: Pool) -> dict[str, Any]:
    now = standing(pool)
    symbol, tone = STATE_LOOKS[FreezeState(now.freeze.state)]
    return {
        "standing": now,
        "badge": badge(FreezeState(now.freeze.state).label.partition(":")[0], tone, symbol),
        "windows": [
            {"id": one.id, "name": one.name, "why": with_ticket(one.reason, one.ticket)}
            for one in (interval.window for interval in now.freeze.intervals)
        ],
        "overrides": live_overrides(pool),
        "history": list(pool.freeze_transitions.all()[:_HISTORY_MAX]),
    }


def _attentions(user: Any) -> Iterable[Attention]:
    """Freezes whose end of work is not confirmed, and schedules that cannot be read."""
    rows = standings(list(visible_pools(user))) if any_schedule() else []
    open_ends = [row for row in rows if row.confirmed_stopped is False]
    yield Attention(
        "bad",
        "ac_unit",
        len(open_ends),
        "frozen pool not confirmed stopped"
        if len(open_ends) == 1
        else "frozen pools not confirmed stopped",
        object_url(open_ends[0].pool) if open_ends else "",
        "An agent may still run what the freeze cut.",
    )
    unreadable = [row for row in rows if row.freeze.problem]
    yield Attention(
        "bad",
        "event_busy",
        len(unreadable),
        "pool whose freeze schedule cannot be read"
        if len(unreadable) == 1
        else "pools whose freeze schedules cannot be read",
        list_url(FreezeWindow),
        unreadable[0].freeze.problem if unreadable else "",
    )


for operation in (FreezeNow(), Override(), EndOverride()):
    add_operation("pool", operation)
add_panel("pool", Panel("Freezes", "admin/slipway/pods/freeze_panel.html", _panel))
add_attention(_attentions)
