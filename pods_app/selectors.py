"""What is on pods, counted for lists of pods and of agents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from pods_app import health
from pods_app.models import Lease, ManagedPod, PodSlot, WorkDirectory
from pods_app.states import RESERVING, DirectoryState, LeaseState, SlotStatus
from tasks_app.models import Plan, Task
from tasks_app.models.base import ClockTimestamp


def has_directory(task: Task, state: DirectoryState = DirectoryState.KEPT) -> Q:
    """Return the condition that a pod has the directory of ``task``, in this state."""
    mine = WorkDirectory.objects.filter(pod=OuterRef("pk"), task=task, state=state)
    return Q(Exists(mine))


def can_have_plan(task: Task) -> Q:
    """Return the condition that a pod can have a task's plan.

    One that was too large to be stored lies only in its directory.
    """
    stored = Plan.objects.filter(task=task, bundle__isnull=False)
    return Q(Exists(stored)) | has_directory(task)


def with_occupancy(pods: QuerySet[ManagedPod]) -> QuerySet[Any]:
    """Annotate pods with how many slots are ``running`` and ``reserved`` and since when so.

    ``changed_at`` is when a slot last changed, or the pod was created; ``now`` is the
    database's time.
    """
    slots = PodSlot.objects.filter(pod=OuterRef("pk")).order_by().values("pod")
    # Not plain Counts: the time of the clock would be part of their GROUP BY.
    return pods.annotate(
        now=ClockTimestamp(),
        changed_at=Coalesce(
            Subquery(slots.annotate(found=Max("updated_at")).values("found")), F("created_at")
        ),
        **{
            name: _one(slots.filter(status=status).annotate(found=Count("pk")))
            for name, status in (
                ("running", SlotStatus.RUNNING),
                ("reserved", SlotStatus.RESERVED),
            )
        },
    )


def with_load(rows: QuerySet[Any], pod: str = "") -> QuerySet[Any]:
    """Annotate pods, or what belongs to one, with what their agents have.

    ``silence`` since the last heartbeat, ``held_applies`` (Terraform waits at its gate),
    ``directories`` and ``directory_bytes`` of what is not deleted.

    Args:
        pod: the field of the model that is the pod, "" for pods themselves.
    """
    mine = OuterRef(f"{pod}_id" if pod else "pk")
    kept = WorkDirectory.objects.filter(pod=mine).exclude(state=DirectoryState.DELETED)
    held = Lease.objects.filter(
        slot__pod=mine, state=LeaseState.LIVE, phase__in=RESERVING, held=True
    )
    return rows.annotate(
        silence=health.age(f"{pod}__" if pod else ""),
        held_applies=_one(held.values("slot__pod").annotate(found=Count("pk"))),
        directories=_one(kept.values("pod").annotate(found=Count("pk"))),
        directory_bytes=_one(kept.values("pod").annotate(found=Sum("bytes"))),
    )


def _one(grouped: QuerySet[Any, Any]) -> Coalesce:
    """Return the ``found`` of a subquery of at most one group, 0 without one."""
    return Coalesce(Subquery(grouped.order_by().values("found")), 0)


def slot_counts(slots: Iterable[PodSlot]) -> dict[str, int]:
    """Return how many slots there are in ``total``, and of each status."""
    statuses = [slot.status for slot in slots]
    return {"total": len(statuses)} | {one.value: statuses.count(one) for one in SlotStatus}
