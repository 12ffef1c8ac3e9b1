"""The slot grid: every pod of the pools a person sees, with what each pool wants and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models.functions import Length

from pods_app.admin.slots import rows, tally, with_slots
from pods_app.api.visibility import visible_pools
from pods_app.autoscaler.demand import scalings
from pods_app.freeze.status import standings
from pods_app.models import ManagedPod, ScalingDecision
from pods_app.selectors import with_load
from pods_app.states import PodPhase
from tasks_app.admin.base import list_url, object_url
from tasks_app.admin.filters import uuid_or_none
from tasks_app.admin.operations import Button

#: So many pods are drawn; the list of pods has them all.
PODS_MAX = 400


def grid_context(
    user: Any, chosen: str | None, buttons: Callable[[ManagedPod], list[Button]]
) -> dict[str, Any]:
    """Return what the page shows, in a constant number of queries.

    Args:
        chosen: id of the one pool to show; all of them without one.
        buttons: what the person may do about a pod.
    """
    pools = list(visible_pools(user).order_by("name"))
    pool_id = uuid_or_none(chosen)
    shown = [pool for pool in pools if pool_id in (None, pool.pk)]
    pods = ManagedPod.objects.filter(pool__in=[pool.pk for pool in shown])
    # pool-2 before pool-10, and each where it was at the last look.
    ordered = with_load(pods.exclude(phase=PodPhase.GONE)).order_by(
        "pool__name", Length("pod_name"), "pod_name"
    )
    drawn = rows(ordered.prefetch_related(with_slots())[: PODS_MAX + 1], user)
    wanted = scalings(shown)
    decisions = ScalingDecision.objects.filter(pool__in=wanted).order_by("pool_id", "-id")
    last = {row.pool_id: row for row in decisions.distinct("pool_id")}
    freezes = {one.pool.pk: one.freeze for one in standings(shown)}
    sections = []
    for pool in shown:
        mine = [row for row in drawn[:PODS_MAX] if row.pod.pool_id == pool.pk]
        scaling = wanted.get(pool.pk)
        slots = [slot for row in mine for slot in row.pod.slots.all()]
        sections.append(
            {
                "pool": pool,
                "url": object_url(pool),
                "rows": [
                    (
                        row,
                        (scaling.staying if scaling else {}).get(row.pod.pod_name),
                        buttons(row.pod),
                    )
                    for row in mine
                ],
                "counts": tally(slots),
                "freeze": freezes[pool.pk],
                "scaling": scaling,
                "decision": last.get(pool.pk),
            }
        )
    return {
        "sections": sections,
        "pools": pools,
        "chosen": pool_id,
        "more": len(drawn) > PODS_MAX,
        "pods_max": PODS_MAX,
        "pods_url": list_url(ManagedPod),
    }
