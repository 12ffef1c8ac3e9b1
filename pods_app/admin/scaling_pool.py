"""What the autoscaler adds to pools: what it wants, why, and what it decided."""

from __future__ import annotations

from typing import Any

from pods_app.autoscaler.demand import scalings
from pods_app.models import Pool
from tasks_app.registry import Panel, add_panel

_HISTORY_MAX = 8


def _panel(pool: Pool) -> dict[str, Any]:
    return {
        "scaling": scalings([pool]).get(pool.pk),
        "decisions": list(pool.scaling_decisions.all()[:_HISTORY_MAX]),
    }


add_panel("pool", Panel("Size", "admin/slipway/pods/scaling_panel.html", _panel))
