"""Work directories as rows: agents report and delete, this module decides.

A directory is deleted in three steps that can each be repeated: a guarded UPDATE to
``deleting`` under the task's lock, the agent's renaming and deletion, and its report.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from pods_app.leases import release, unended
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.states import DirectoryState, LeasePhase, LeaseState, PodPhase
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import FINAL, Status
from tasks_app.transitions import lock_task, record

CLEANUP = Actor.system("cleanup")


@dataclass(frozen=True)
class Reported:
    """A directory as an agent's heartbeat names it."""

    workspace_id: UUID
    task_id: UUID
    bytes: int
    last_used_seconds_ago: float
    quarantined: bool


def report_directories(
    pod: ManagedPod, base_path: str, reports: Iterable[Reported], deleted: Iterable[UUID]
) -> list[UUID]:
    """Bring the rows of a pod in line with its disk.

    Args:
        deleted: task ids whose directory the agent deleted on request.

    Returns:
        The task ids whose directories the agent shall delete now.
    """
    reports = list(reports)
    rows = WorkDirectory.objects.filter(pod=pod).exclude(state=DirectoryState.DELETED)
    deleted = set(deleted)
    present = {report.task_id for report in reports} - deleted
    rows.filter(Q(task_id__in=deleted) | ~Q(task_id__in=present)).update(
        state=DirectoryState.DELETED, bytes=0, reported_at=ClockTimestamp()
    )
    known = {row.task_id: row for row in rows}
    tasks = set(
        Task.objects.filter(pk__in=[r.task_id for r in reports]).values_list("pk", flat=True)
    )
    orphans: list[UUID] = []
    for report in reports:
        if report.task_id in deleted:
            continue
        if report.task_id not in tasks:
            if report.last_used_seconds_ago > settings.SLIPWAY.finished_directory_seconds:
                orphans.append(report.task_id)
            continue
        _store(pod, base_path, report, known.get(report.task_id))
    asked = list(rows.filter(state=DirectoryState.DELETING).values_list("task_id", flat=True))
    return asked + orphans


def _store(pod: ManagedPod, base_path: str, report: Reported, row: WorkDirectory | None) -> None:
    facts: dict[str, Any] = {
        "bytes": report.bytes,
        "last_used_at": ClockTimestamp() - timedelta(seconds=report.last_used_seconds_ago),
        "reported_at": ClockTimestamp(),
    }
    if row is None:
        path = f"{base_path}/workspaces/{report.workspace_id}/{report.task_id}"
        WorkDirectory.objects.create(
            task_id=report.task_id,
            pod=pod,
            path=path,
            state=DirectoryState.QUARANTINED if report.quarantined else DirectoryState.KEPT,
            **facts,
        )
    else:
        WorkDirectory.objects.filter(pk=row.pk).update(**facts)


@dataclass(frozen=True)
class Decision:
    """What cleanup decided about one directory, and why."""

    task: str
    task_id: str
    workspace: str
    pod: str
    path: str
    bytes: int
    age_seconds: int
    delete: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cleanup(*, dry_run: bool = False, everything_idle: bool = False) -> list[Decision]:
    """Decide about every directory, and ask the agents to delete what is over.

    Finished tasks' directories go after ``finished_directory_seconds``, those of waiting plans
    when ``keep_warm_until`` has passed; such a plan stays confirmable by the normal path.

    Args:
        dry_run: decide only.
        everything_idle: do not wait for either time; directories in use are kept all the same.
    """
    decisions = []
    directories = (
        WorkDirectory.objects.exclude(state=DirectoryState.DELETED)
        .annotate(age=Now() - F("last_used_at"))
        .select_related("task__workspace", "pod")
        .order_by("id")
    )
    for directory in directories:
        delete, reason = _verdict(directory, everything_idle)
        if delete and not dry_run:
            delete, reason = _mark(directory, everything_idle)
        elif not dry_run:
            WorkDirectory.objects.filter(pk=directory.pk).exclude(reason=reason).update(
                reason=reason
            )
        decisions.append(
            Decision(
                task=str(directory.task),
                task_id=str(directory.task_id),
                workspace=directory.task.workspace.name,
                pod=directory.pod.pod_name,
                path=directory.path,
                bytes=directory.bytes,
                age_seconds=int(directory.age.total_seconds()),
                delete=delete,
                reason=reason,
            )
        )
    return decisions


def _verdict(directory: WorkDirectory, everything_idle: bool) -> tuple[bool, str]:
    task = directory.task
    if directory.state == DirectoryState.DELETING:
        return True, directory.reason
    lease = unended().filter(task=task, slot__pod=directory.pod).first()
    if lease is not None and lease.phase != LeasePhase.HOLD:
        return False, f"in use: {lease.get_phase_display().lower()} runs"
    if task.status == Status.INTERRUPTED and not task.acknowledged_at:
        return False, "evidence of an interrupted apply that nobody acknowledged"
    if task.status in FINAL:
        if lease is not None:
            return False, "its agent still lets go"
        seconds = settings.SLIPWAY.finished_directory_seconds
        if everything_idle or _older(task, "finished_at", seconds):
            return True, f"the task is {task.status} for more than {_hours(seconds)}"
        return False, f"the task is {task.status}, kept for {_hours(seconds)}"
    if task.status == Status.APPLY_PENDING:
        if (
            everything_idle
            or Task.objects.filter(pk=task.pk, keep_warm_until__lt=ClockTimestamp()).exists()
        ):
            return True, "nobody confirmed the plan while it was kept warm"
        return False, "a plan waits for its confirmation"
    return False, f"the task is {task.status}"


def _older(task: Task, column: str, seconds: float) -> bool:
    limit = ClockTimestamp() - timedelta(seconds=seconds)
    return Task.objects.filter(pk=task.pk, **{f"{column}__lt": limit}).exists()


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h"


def _mark(directory: WorkDirectory, everything_idle: bool) -> tuple[bool, str]:
    """Decide again under the task's lock, so that no claim or confirmation slips between."""
    with transaction.atomic():
        directory.task = lock_task(directory.task_id)
        directory.refresh_from_db(fields=["state"])
        delete, reason = _verdict(directory, everything_idle)
        if not delete or directory.state == DirectoryState.DELETED:
            return False, reason
        held = (
            Lease.objects.select_related("slot__pod", "task")
            .filter(
                task=directory.task,
                slot__pod=directory.pod,
                phase=LeasePhase.HOLD,
                state=LeaseState.LIVE,
            )
            .first()
        )
        if held is not None:
            release(held, actor=CLEANUP, reason=reason, keep_directory=False)
        WorkDirectory.objects.filter(pk=directory.pk).update(
            state=DirectoryState.DELETING, reason=reason
        )
        record(
            "work_directory.deleting",
            actor=CLEANUP,
            task=directory.task,
            cause=reason,
            data={"pod": directory.pod.pod_name, "bytes": directory.bytes},
        )
    return True, reason


def forget_directories_of_gone_pods() -> int:
    """Mark directories deleted whose disk went with its pod; returns how many."""
    return (
        WorkDirectory.objects.filter(pod__phase=PodPhase.GONE)
        .exclude(state=DirectoryState.DELETED)
        .update(state=DirectoryState.DELETED, reason="its pod is gone")
    )
