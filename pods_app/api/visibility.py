"""Who sees which pools, and what is in them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from pods_app.models import FreezeWindow, Pool
from tasks_app.permissions import Action, may, visible_projects


def visible_pools(user: Any) -> QuerySet[Pool]:
    """Return the pools that serve a project the user may see; operators see all."""
    if may(user, Action.OPERATE):
        return Pool.objects.all()
    if not may(user, Action.VIEW):
        return Pool.objects.none()
    served = Pool.objects.filter(Q(projects=None) | Q(projects__in=visible_projects(user)))
    return Pool.objects.filter(pk__in=served.values("pk"))


def visible_windows(user: Any) -> QuerySet[FreezeWindow]:
    """Return the freeze windows of visible pools; operators see all."""
    if may(user, Action.OPERATE):
        return FreezeWindow.objects.all()
    pools = visible_pools(user)
    mine = Q(pools__in=pools) | Q(all_pools=True) if pools.exists() else Q(pk=None)
    seen = FreezeWindow.objects.filter(mine)
    return FreezeWindow.objects.filter(pk__in=seen.values("pk"))


def visible_project_ids(user: Any) -> set[UUID]:
    """Return the ids of the projects whose tasks the user may know of."""
    return set(visible_projects(user).values_list("pk", flat=True))
