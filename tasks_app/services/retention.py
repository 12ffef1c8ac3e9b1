"""Retention: plans, logs, state versions, answers of repeated requests and old queue rows.

A task, its events and its summary stay for ever; what goes are the large contents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from tasks_app.actors import Actor
from tasks_app.models import Blob, IdempotencyKey, LogStream, Plan, StateVersion
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import FINAL
from tasks_app.transitions import record

_BATCH = 200
_IDEMPOTENCY_HOURS = 24


def _older_than(days: float) -> Any:
    return ClockTimestamp() - timedelta(days=days)


def _old_plans() -> QuerySet[Plan]:
    return Plan.objects.filter(
        task__status__in=FINAL, created_at__lt=_older_than(settings.SLIPWAY.retention_plan_days)
    ).exclude(bundle=None, json=None, text=None)


def _old_leftovers() -> QuerySet[Blob]:
    """What agents stored of plans that never came to their end."""
    plans = Plan.objects.filter(
        Q(bundle=OuterRef("pk")) | Q(json=OuterRef("pk")) | Q(text=OuterRef("pk"))
    )
    return Blob.objects.filter(
        ~Exists(plans),
        retention=Blob.Retention.PLAN,
        created_at__lt=_older_than(settings.SLIPWAY.retention_plan_days),
    )


def _old_logs() -> QuerySet[LogStream]:
    return LogStream.objects.filter(
        task__finished_at__lt=_older_than(settings.SLIPWAY.retention_log_days)
    )


def _old_states() -> QuerySet[StateVersion]:
    """All but the newest versions of each workspace; their rows stay, their contents go.

    The current version stays whatever the setting says, and so does what a task that has not
    ended wrote or was planned on.
    """
    live = Plan.objects.filter(
        task__workspace=OuterRef("workspace"), state_serial=OuterRef("serial")
    ).exclude(task__status__in=FINAL)
    return (
        StateVersion.objects.exclude(blob=None)
        .exclude(Exists(live))
        .filter(Q(task=None) | Q(task__status__in=FINAL))
        .annotate(
            age_rank=Window(RowNumber(), partition_by=F("workspace"), order_by=F("serial").desc())
        )
        .filter(age_rank__gt=max(settings.SLIPWAY.retention_state_versions, 1))
    )


def _old_answers() -> QuerySet[IdempotencyKey]:
    return IdempotencyKey.objects.filter(
        created_at__lt=ClockTimestamp() - timedelta(hours=_IDEMPOTENCY_HOURS)
    )


def _old_queue_rows() -> Iterator[QuerySet[Any]]:
    from django_q.models import Failure, Success

    limit = _older_than(settings.SLIPWAY.retention_queue_days)
    yield Success.objects.filter(stopped__lt=limit)
    yield Failure.objects.filter(stopped__lt=limit)


def _purge_plans() -> int:
    purged = 0
    while rows := list(_old_plans().values_list("pk", "bundle", "json", "text")[:_BATCH]):
        with transaction.atomic():
            Plan.objects.filter(pk__in=[row[0] for row in rows]).update(
                bundle=None, json=None, text=None
            )
            Blob.objects.filter(pk__in=[b for row in rows for b in row[1:] if b]).delete()
        purged += len(rows)
    return purged


def _purge_states() -> int:
    purged = 0
    while rows := list(_old_states().values_list("pk", "blob")[:_BATCH]):
        with transaction.atomic():
            StateVersion.objects.filter(pk__in=[row[0] for row in rows]).update(blob=None)
            Blob.objects.filter(pk__in=[row[1] for row in rows]).delete()
        purged += len(rows)
    return purged


def _purge_leftovers() -> int:
    purged = 0
    while found := list(_old_leftovers().values_list("pk", flat=True)[:_BATCH]):
        Blob.objects.filter(pk__in=found).delete()
        purged += len(found)
    return purged


def _purge_logs() -> int:
    purged = 0
    while streams := list(_old_logs().values_list("pk", flat=True)[:_BATCH]):
        LogStream.objects.filter(pk__in=streams).delete()
        purged += len(streams)
    return purged


def _purge_queue() -> int:
    return sum(rows.delete()[0] for rows in _old_queue_rows())


_CLASSES: dict[str, tuple[Callable[[], int], Callable[[], int]]] = {
    "plans": (lambda: _old_plans().count(), _purge_plans),
    "plan_leftovers": (lambda: _old_leftovers().count(), _purge_leftovers),
    "logs": (lambda: _old_logs().count(), _purge_logs),
    "state_versions": (lambda: _old_states().count(), _purge_states),
    "idempotency_keys": (lambda: _old_answers().count(), lambda: _old_answers().delete()[0]),
    "queue_rows": (lambda: sum(rows.count() for rows in _old_queue_rows()), _purge_queue),
}


def add_class(name: str, rows: Callable[[], QuerySet[Any]]) -> None:
    """Add rows of an upper app that go with age.

    Args:
        name: in the counts.
        rows: returns those that are over.
    """
    _CLASSES[name] = (lambda: rows().count(), lambda: rows().delete()[0])


def purge(*, dry_run: bool = False) -> dict[str, int]:
    """Apply every retention class.

    Returns:
        How many rows of each class were purged, or would be.
    """
    counts = {name: (count if dry_run else apply)() for name, (count, apply) in _CLASSES.items()}
    if not dry_run and any(counts.values()):
        record("retention.purged", actor=Actor.system("purge"), data=counts)
    return counts
