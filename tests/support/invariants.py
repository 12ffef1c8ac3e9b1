"""What holds after every step, whatever people, agents and Terraform do in whatever order."""

from __future__ import annotations

from itertools import pairwise

from django.db.models import Count

from pods_app.models import ApplyPermit, Lease
from pods_app.states import LeaseState
from tasks_app.models import Confirmation, Event, StateLock, StateVersion, Task, Workspace
from tasks_app.services.state_position import state_position
from tasks_app.states import FINAL, OCCUPYING, TRANSITIONS, WAITING, Status, TaskType


def check_all() -> None:
    """Check every invariant on what lies in the database now."""
    for task in Task.objects.select_related("workspace"):
        _check_not_lost(task)
        _check_audited(task)
        _check_permitted(task)
    for workspace in Workspace.objects.all():
        _check_workspace(workspace)
    assert not _more_than_one(Lease.objects.exclude(state=LeaseState.ENDED), "task")
    assert not _more_than_one(Lease.objects.exclude(state=LeaseState.ENDED), "slot")


def _more_than_one(rows: object, field: str) -> bool:
    counted = rows.order_by().values(field).annotate(n=Count("pk"))  # type: ignore[attr-defined]
    return bool(counted.filter(n__gt=1).exists())


def _check_not_lost(task: Task) -> None:
    """A task runs under a lease, or waits for exactly one thing, or is over."""
    leases = Lease.objects.filter(task=task).exclude(state=LeaseState.ENDED)
    if task.status in FINAL:
        assert task.finished_at is not None
        assert task.waiting_reason == ""
        assert not leases.filter(state=LeaseState.LIVE).exists(), f"{task.status} holds its slot"
    elif task.status in WAITING:
        assert task.waiting_reason, f"{task.status} without a reason"
        assert task.finished_at is None
    else:
        assert task.waiting_reason == ""
        assert leases.filter(state=LeaseState.LIVE).exists(), f"{task.status} without a lease"


def _check_audited(task: Task) -> None:
    """The audit rows of its transitions are a legal path that ends at its status."""
    path = [Status.PENDING]
    changes = Event.objects.filter(task=task).exclude(to_status="").order_by("id")
    for source, target, actor, cause in changes.values_list(
        "from_status", "to_status", "actor", "cause"
    ):
        assert source == path[-1]
        assert actor
        assert cause
        path.append(Status(target))
    assert path[-1] == task.status
    for before, after in pairwise(path):
        assert after in TRANSITIONS[before]
    assert path.count(Status.CONFIRMED) == Confirmation.objects.filter(task=task).count() <= 1
    entered = sum(
        1 for before, after in pairwise(path) if (before, after) == ("confirmed", "applying")
    )
    assert entered <= 1


def _check_permitted(task: Task) -> None:
    """Nothing writes a state but what was confirmed and permitted."""
    permitted = ApplyPermit.objects.filter(task=task).exists()
    if task.status in {Status.APPLYING, Status.APPLY_UNKNOWN, Status.APPLIED, Status.INTERRUPTED}:
        assert permitted
    if StateVersion.objects.filter(task=task).exists() or StateLock.objects.filter(task=task):
        assert permitted
        assert task.type == TaskType.PLAN_AND_APPLY


def _check_workspace(workspace: Workspace) -> None:
    tasks = Task.objects.filter(workspace=workspace, type=TaskType.PLAN_AND_APPLY)
    occupying = tasks.filter(status__in=OCCUPYING).count()
    assert occupying <= 1
    if tasks.filter(status=Status.INTERRUPTED, acknowledged_at=None).exists():
        assert occupying == 0, "an interrupted apply does not hold its workspace"
    versions = StateVersion.objects.filter(workspace=workspace).order_by("id")
    serials = list(versions.values_list("serial", flat=True))
    assert serials == sorted(set(serials)), "not one history"
    assert versions.values("lineage").distinct().count() <= 1
    assert StateLock.objects.filter(workspace=workspace, released_at=None).count() <= 1
    position = state_position(workspace)
    for task in tasks.filter(status=Status.APPLY_PENDING):
        assert (task.plan.state_lineage, task.plan.state_serial) == position, "void plan waits"
