"""Work directories as rows: agents report and delete, this module decides.

A directory is deleted in three steps that can each be repeated: a guarded UPDATE to
``deleting`` under the task's lock, the agent's renaming and deletion, and its report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import (
    BooleanField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    Subquery,
)
from django.db.models.functions import Now

from pods_app.leases import release, unended
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.states import RESERVING, DirectoryState, LeaseState, PodPhase
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import FINAL, Status
from tasks_app.transitions import lock_task, record

CLEANUP = Actor.system("cleanup")
#: How long the row of a deleted directory tells of it.
_DELETED_ROWS_DAYS = 7


@dataclass(frozen=True)
class Reported:
    """A directory as an agent's heartbeat names it."""

    workspace_id: UUID
    task_id: UUID
    bytes: int
    last_used_seconds_ago: float
    quarantined: bool


_STORE = """
UPDATE pods_app_workdirectory row SET
    bytes = new.bytes,
    last_used_at = clock_timestamp() - make_interval(secs => new.ago),
    reported_at = clock_timestamp(),
    state = CASE WHEN row.state IN ('kept', 'quarantined') THEN new.state ELSE row.state END
FROM unnest(%s::uuid[], %s::bigint[], %s::float8[], %s::text[]) AS new(task_id, bytes, ago, state)
WHERE row.pod_id = %s AND row.task_id = new.task_id AND row.state <> 'deleted'
"""


def report_directories(
    pod: ManagedPod, base_path: str, reports: Iterable[Reported], deleted: Iterable[UUID]
) -> list[UUID]:
    """Bring the rows of a pod in line with its disk; a few queries, however many directories.

    Args:
        deleted: task ids whose directory the agent deleted on request.

    Returns:
        The task ids whose directories the agent shall delete now. Never one whose task has a
        lease: a directory made anew after the deletion was decided would go with it.
    """
    deleted = set(deleted)
    found = _by_task(report for report in reports if report.task_id not in deleted)
    rows = WorkDirectory.objects.filter(pod=pod).exclude(state=DirectoryState.DELETED)
    known = set(rows.values_list("task_id", flat=True))
    if not known and not found:
        return []  # most heartbeats, of idle agents
    if gone := known - found.keys():
        rows.filter(task_id__in=gone).update(
            state=DirectoryState.DELETED, bytes=0, reported_at=ClockTimestamp()
        )
    tasks = set(Task.objects.filter(pk__in=found).values_list("pk", flat=True))
    _store(pod, base_path, [report for task_id, report in found.items() if task_id in tasks], known)
    has_lease = unended(Lease.objects.filter(task=OuterRef("task")))
    asked = rows.filter(~Exists(has_lease), state=DirectoryState.DELETING)
    orphans = [
        report.task_id
        for report in found.values()
        if report.task_id not in tasks
        and report.last_used_seconds_ago > settings.SLIPWAY.finished_directory_seconds
    ]
    return [*asked.values_list("task_id", flat=True), *orphans]


def _by_task(reports: Iterable[Reported]) -> dict[UUID, Reported]:
    """Take a task's directory and what was quarantined of it as one: they go together."""
    found: dict[UUID, Reported] = {}
    for report in reports:
        other = found.get(report.task_id)
        if other is not None:
            report = replace(
                report,
                bytes=report.bytes + other.bytes,
                last_used_seconds_ago=min(
                    report.last_used_seconds_ago, other.last_used_seconds_ago
                ),
                quarantined=report.quarantined and other.quarantined,
            )
        found[report.task_id] = report
    return found


def _store(
    pod: ManagedPod, base_path: str, reports: Sequence[Reported], known: Collection[UUID]
) -> None:
    if not reports:
        return
    WorkDirectory.objects.bulk_create(
        [
            WorkDirectory(
                task_id=report.task_id,
                pod=pod,
                path=f"{base_path}/workspaces/{report.workspace_id}/{report.task_id}",
            )
            for report in reports
            if report.task_id not in known
        ],
        ignore_conflicts=True,
        batch_size=1000,  # a statement takes 65535 values
    )
    with connection.cursor() as cursor:
        cursor.execute(
            _STORE,
            [
                [report.task_id for report in reports],
                [max(report.bytes, 0) for report in reports],
                [max(report.last_used_seconds_ago, 0.0) for report in reports],
                [
                    DirectoryState.QUARANTINED if report.quarantined else DirectoryState.KEPT
                    for report in reports
                ],
                pod.pk,
            ],
        )


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
    state: str
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

    Returns:
        One decision for each directory; ``delete`` where this call decided to.
    """
    decisions = []
    for directory in _with_facts(everything_idle):
        delete, reason = _verdict(directory)
        if delete and not dry_run:
            delete, reason = _mark(directory.pk, everything_idle)
        elif not dry_run and directory.reason != reason:
            WorkDirectory.objects.filter(pk=directory.pk, state=directory.state).update(
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
                state=DirectoryState.DELETING if delete and not dry_run else directory.state,
                delete=delete,
                reason=reason,
            )
        )
    if not dry_run:
        _purge_rows()
    return decisions


def _with_facts(everything_idle: bool) -> Any:
    """Return the directories with all that decides about them, in one query."""
    lease = unended(Lease.objects.filter(task=OuterRef("task")))
    finished = timedelta(seconds=settings.SLIPWAY.finished_directory_seconds)
    now = ClockTimestamp()
    idle = Q(pk__isnull=not everything_idle)
    over = idle | Q(task__finished_at__lt=now - finished)
    cold = idle | Q(task__keep_warm_until__lt=now)
    return (
        WorkDirectory.objects.exclude(state=DirectoryState.DELETED)
        .annotate(
            age=Now() - F("last_used_at"),
            lease_phase=Subquery(lease.values("phase")[:1]),
            lease_state=Subquery(lease.values("state")[:1]),
            over=ExpressionWrapper(over, output_field=BooleanField()),
            cold=ExpressionWrapper(cold, output_field=BooleanField()),
        )
        .select_related("task__workspace", "pod")
        .order_by("id")
    )


def _verdict(directory: Any) -> tuple[bool, str]:
    """Return whether to delete a directory of :func:`_with_facts` now, and why or why not."""
    task, seconds = directory.task, settings.SLIPWAY.finished_directory_seconds
    if directory.state == DirectoryState.DELETING:
        return False, directory.reason
    if directory.lease_phase in RESERVING and task.status == Status.APPLY_PENDING:
        in_use = False  # a reservation; its time decides below
    else:
        in_use = directory.lease_phase is not None
    if in_use and directory.lease_state == LeaseState.ENDING:
        return False, "its agent still lets go"
    if in_use:
        return False, f"in use: {directory.lease_phase} runs"
    if task.status == Status.INTERRUPTED and not task.acknowledged_at:
        return False, "evidence of an interrupted apply that nobody acknowledged"
    if task.status in FINAL:
        if directory.over:
            return True, f"the task is {task.status}, kept for {_hours(seconds)} at most"
        return False, f"the task is {task.status}, kept for {_hours(seconds)}"
    if task.status == Status.APPLY_PENDING:
        if directory.cold:
            return True, "nobody confirmed the plan while it was kept warm"
        return False, "a plan waits for its confirmation"
    return False, f"the task is {task.status}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:g} h"


def _mark(directory_id: UUID, everything_idle: bool) -> tuple[bool, str]:
    """Decide again under the task's lock, so that no claim or confirmation slips between."""
    with transaction.atomic():
        task_id = WorkDirectory.objects.values_list("task_id", flat=True).get(pk=directory_id)
        task = lock_task(task_id)
        directory = _with_facts(everything_idle).filter(pk=directory_id).first()
        if directory is None:
            return False, "it is gone already"
        delete, reason = _verdict(directory)
        if not delete:
            return False, reason
        held = unended().select_related("slot__pod", "task").filter(task=task).first()
        if held is not None and held.state == LeaseState.LIVE:
            mine = held.slot.pod_id == directory.pod_id
            release(held, actor=CLEANUP, reason=reason, keep_directory=not mine)
        WorkDirectory.objects.filter(pk=directory_id).update(
            state=DirectoryState.DELETING, reason=reason
        )
        record(
            "work_directory.deleting",
            actor=CLEANUP,
            task=task,
            cause=reason,
            data={"pod": directory.pod.pod_name, "bytes": directory.bytes},
        )
    return True, reason


def _purge_rows() -> None:
    """Forget directories that were deleted long ago."""
    limit = ClockTimestamp() - timedelta(days=_DELETED_ROWS_DAYS)
    WorkDirectory.objects.filter(state=DirectoryState.DELETED, reported_at__lt=limit).delete()


def forget_directories_of_gone_pods() -> int:
    """Mark directories deleted whose disk went with its pod; returns how many."""
    return (
        WorkDirectory.objects.filter(pod__phase=PodPhase.GONE)
        .exclude(state=DirectoryState.DELETED)
        .update(state=DirectoryState.DELETED, reason="its pod is gone")
    )
