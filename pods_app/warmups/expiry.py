"""How long a warm-up counts as ready, and how it ends when nobody asks for its apply."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from pods_app.health import doubt_seconds
from pods_app.leases import lease_of, release, release_hold
from pods_app.models import Lease
from pods_app.states import RESERVING, LeasePhase, LeaseState, PodPhase
from pods_app.warmups.placing import WARM
from pods_app.warmups.reports import fail
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import warmups
from tasks_app.states import Status, WarmupStatus
from tasks_app.transitions import lock_task


def expire_pass() -> int:
    """Renew what agents keep ready, and end what they do not; returns how many ended.

    Also ends the warm-ups of plans that nobody confirmed while they were kept warm, and those
    that never came to an end.
    """
    ended = 0
    for task_id in _to_renew():
        warmups.renew([task_id])
    for task_id in _expired():
        ended += _expire(task_id)
    for lease_id in _endless():
        ended += _give_up(lease_id)
    for lease_id in _kept_long_enough():
        ended += release_hold(
            lease_id, actor=WARM, reason="nobody confirmed the plan while it was kept warm"
        )
    return ended


def _to_renew() -> Iterable[UUID]:
    """Return what is ready on agents that are heard, once half of its time is over."""
    slipway = settings.SLIPWAY
    half = timedelta(seconds=slipway.warmup_seconds / 2)
    return Task.objects.filter(
        Exists(_held_by_heard_agents(OuterRef("pk"))),
        status=Status.APPLY_PENDING,
        warmup_status=WarmupStatus.READY,
        warmup_expires_at__lt=ClockTimestamp() + half,
    ).values_list("pk", flat=True)


def _held_by_heard_agents(task: Any) -> QuerySet[Lease]:
    silence = timedelta(seconds=doubt_seconds())
    return Lease.objects.filter(
        task=task,
        state=LeaseState.LIVE,
        phase=LeasePhase.HOLD,
        slot__pod__phase=PodPhase.ONLINE,
        slot__pod__last_heartbeat__gt=ClockTimestamp() - silence,
    )


def _expired() -> list[UUID]:
    return list(
        Task.objects.filter(
            status=Status.APPLY_PENDING,
            warmup_status=WarmupStatus.READY,
            warmup_expires_at__lt=ClockTimestamp(),
        ).values_list("pk", flat=True)
    )


def _expire(task_id: UUID) -> bool:
    with transaction.atomic():
        task = lock_task(task_id)
        if not Task.objects.filter(pk=task_id, warmup_expires_at__lt=ClockTimestamp()).exists():
            return False  # renewed meanwhile
        lease = lease_of(task)
        expired = warmups.expire(
            task, cause="its agent was not heard in time", actor=WARM, lease=lease
        )
        if expired and lease is not None:
            release(lease, actor=WARM, reason="the warm-up expired")
        return expired


def _endless() -> list[UUID]:
    limit = ClockTimestamp() - timedelta(seconds=settings.SLIPWAY.warmup_seconds)
    return list(
        Lease.objects.filter(
            state=LeaseState.LIVE,
            phase=LeasePhase.WARMUP,
            task__status=Status.APPLY_PENDING,
            phase_at__lt=limit,
        ).values_list("pk", flat=True)
    )


def _give_up(lease_id: UUID) -> bool:
    with transaction.atomic():
        lock_task(Lease.objects.values_list("task_id", flat=True).get(pk=lease_id))
        lease = Lease.objects.select_related("task", "slot__pod").get(pk=lease_id)
        cause = f"It was not ready after {settings.SLIPWAY.warmup_seconds:g} s."
        return lease.phase == LeasePhase.WARMUP and fail(
            lease, cause=cause, permanent=False, actor=WARM
        )


def _kept_long_enough() -> list[UUID]:
    return list(
        Lease.objects.filter(
            state=LeaseState.LIVE,
            phase__in=RESERVING,
            task__status=Status.APPLY_PENDING,
            task__keep_warm_until__lt=ClockTimestamp(),
        ).values_list("pk", flat=True)
    )
