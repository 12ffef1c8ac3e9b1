"""What the autoscaler decided: a row for each change of what a pool wants."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from pods_app.autoscaler.demand import limits_of, scalings
from pods_app.autoscaler.desired import Scaling
from pods_app.models import Pool, ScalingDecision
from tasks_app.models.base import ClockTimestamp


def decide(pools: Iterable[Pool], *, dry_run: bool = False) -> dict[UUID, Scaling]:
    """Return what each of the pools wants, by id, and store what changed since the last time.

    Two callers at once do no harm. Static pools are left out.
    """
    rows = list(pools)
    found = scalings(rows)
    if found and not dry_run:
        noted = _noted(found)
        for pool in rows:
            if pool.pk in found and noted.get(pool.pk) != found[pool.pk].desired:
                _note(pool, found[pool.pk])
    return found


def _noted(pool_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return what each pool wanted when it was last stored."""
    newest = ScalingDecision.objects.filter(pool=OuterRef("pk")).order_by("-id")
    found = Pool.objects.filter(pk__in=pool_ids).annotate(
        noted=Subquery(newest.values("desired")[:1])
    )
    return dict(found.exclude(noted=None).values_list("pk", "noted"))


def _note(pool: Pool, scaling: Scaling) -> None:
    with transaction.atomic():
        # In the way of nobody who claims a slot: they take the row FOR KEY SHARE.
        Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
        before = pool.scaling_decisions.values_list("desired", flat=True).first()
        if before == scaling.desired:
            return
        ScalingDecision.objects.create(
            pool=pool,
            before=before,
            desired=scaling.desired,
            reason=scaling.reason[:500],
            inputs={
                "demand": asdict(scaling.demand),
                "limits": asdict(limits_of(pool)),
                "supply": scaling.supply,
                "starting": scaling.starting,
            },
        )


def old_decisions() -> QuerySet[ScalingDecision]:
    """Return the rows that are over by age; each pool's newest says what it wants, and stays."""
    limit = ClockTimestamp() - timedelta(days=settings.SLIPWAY.retention_scaling_days)
    newer = ScalingDecision.objects.filter(pool=OuterRef("pool"), pk__gt=OuterRef("pk"))
    return ScalingDecision.objects.filter(Exists(newer), at__lt=limit)
