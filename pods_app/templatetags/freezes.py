"""The banner about freezes on every page of the admin."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

from pods_app.api.visibility import visible_pools
from pods_app.freeze.status import Standing, any_schedule, standings
from pods_app.freeze.words import STATE_LOOKS
from pods_app.states import FreezeState

register = template.Library()


@register.inclusion_tag("admin/slipway/pods/freeze_banner.html", takes_context=True)
def freeze_banner(context: Any) -> dict[str, Any]:
    """Return what the banner says: pools that close, are frozen, come back or are overridden."""
    request = context.get("request")
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated or not any_schedule():
        return {"rows": []}
    told: dict[tuple[Any, ...], list[Standing]] = {}
    for one in standings(list(visible_pools(user).order_by("name"))):
        freeze = one.freeze
        if freeze.state != FreezeState.OPEN or freeze.override is not None:
            told.setdefault((freeze.state, freeze.reason, freeze.until), []).append(one)
    rows = [
        {
            "names": ", ".join(one.pool.name for one in group),
            "many": len(group) > 1,
            "freeze": group[0].freeze,
            "closing": group[0].freeze.state == FreezeState.CLOSING,
            "symbol": STATE_LOOKS[FreezeState(group[0].freeze.state)][0],
            "tone": _tone(group[0]),
        }
        for group in told.values()
    ]
    return {"rows": rows, "agenda_url": reverse("admin:pods_app_freezewindow_agenda")}


def _tone(standing: Standing) -> str:
    if standing.freeze.override is not None:
        return "bad"
    return STATE_LOOKS[FreezeState(standing.freeze.state)][1]
