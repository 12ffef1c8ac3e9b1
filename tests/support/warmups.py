"""Warm-ups for tests: what agents say of them, and time that passes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.models import F

from pods_app import leases, warmups
from pods_app.models import Lease
from tasks_app.actors import Actor
from tasks_app.models import Event, Task
from tasks_app.states import WarmupStatus

SYSTEM = Actor.system("test")


def report(lease: Lease, ready: bool = True, **facts: Any) -> None:
    """Let the agent of ``lease`` say what it has."""
    warmups.warmup_reported(
        lease_id=lease.pk,
        epoch=lease.epoch,
        pod=lease.slot.pod,
        report=warmups.Report(ready=ready, **facts),
    )


def let_go(task: Task) -> None:
    """End the lease of a task as asked for: its slot is free, its warm-up over."""
    lease = leases.lease_of(task)
    assert lease is not None
    leases.release(lease, actor=SYSTEM, reason="test")
    lease.refresh_from_db()
    leases.end(lease, actor=SYSTEM, reason="test")


def later(seconds: float) -> None:
    """Let time pass for what warm-ups wait for."""
    gone = timedelta(seconds=seconds)
    Task.objects.update(
        warmup_at=F("warmup_at") - gone,
        warmup_expires_at=F("warmup_expires_at") - gone,
        warmup_retry_at=F("warmup_retry_at") - gone,
        keep_warm_until=F("keep_warm_until") - gone,
    )
    Lease.objects.update(phase_at=F("phase_at") - gone)


def state_of(task: Task) -> tuple[WarmupStatus, str | None]:
    """Return a task's warm-up and the agent that has it, as they are now."""
    status, agent_id = Task.objects.values_list("warmup_status", "warmup_agent_id").get(pk=task.pk)
    return WarmupStatus(status), agent_id


def events_of(task: Task) -> list[str]:
    """Return what the audit says of a task's warm-up, oldest first."""
    found = Event.objects.filter(task=task, kind__startswith="warmup.").order_by("id")
    return [kind.removeprefix("warmup.") for kind in found.values_list("kind", flat=True)]
