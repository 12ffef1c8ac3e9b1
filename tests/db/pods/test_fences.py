"""Fencing, work that nobody returned yet, bounds, and what freezing writes down."""

from datetime import timedelta

import pytest

from pods_app import leases, outcomes, queue
from pods_app.incarnation import begin_incarnation
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.registration import report_leases
from pods_app.services import lose_pod
from pods_app.work_directories import Reported, cleanup, report_directories
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, StaleLease
from tasks_app.models import Event, StateLock, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.state import force_unlock_state
from tasks_app.services.tasks import confirm_task, resolve_task
from tasks_app.states import Status
from tests.db.pods.test_permits import ask
from tests.support.factories import (
    PLAN_HASH,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
)

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system("test")


@pytest.fixture
def applying(admin):
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    ask(task)
    task.refresh_from_db()
    return task


def end_of_apply(lease, outcome="applied"):
    return outcomes.finish_apply(
        lease_id=lease.pk,
        epoch=lease.epoch,
        pod=lease.slot.pod,
        report=outcomes.Report(outcome),
    )


def test_a_forced_unlock_fences_the_apply(applying, admin):
    lease = leases.lease_of(applying)
    StateLock.objects.create(
        workspace=applying.workspace, lock_id="x", task=applying, lease_id=lease.pk
    )
    force_unlock_state(actor=admin, workspace=applying.workspace, comment="it hangs")
    applying.refresh_from_db()
    assert applying.status == Status.APPLY_UNKNOWN
    assert "by force" in applying.waiting_reason
    assert leases.lease_of(applying) is None
    with pytest.raises(StaleLease):
        end_of_apply(lease)
    report_leases(lease.slot.pod, [lease.pk])
    applying.refresh_from_db()
    assert applying.status == Status.APPLY_UNKNOWN, "a fenced lease never resumes"
    resolve_task(actor=admin, task_id=applying.pk, verdict="applied", comment="looked")


def test_work_of_a_pod_is_returned_even_if_who_lost_it_died_halfway():
    pool = make_pool()
    pod = make_pod(pool)
    task = make_task()
    ManagedPod.objects.filter(pk=pod.pk).update(phase="lost")  # and no more
    outcomes.return_lost_work(actor=SYSTEM)
    task.refresh_from_db()
    assert leases.lease_of(task) is None
    assert task.status == Status.PENDING
    assert task.waiting_reason


def test_an_unknown_apply_of_a_lost_pod_keeps_its_lease(applying):
    lose_pod(leases.lease_of(applying).slot.pod_id, actor=SYSTEM, cause="silent")
    for _ in range(3):
        outcomes.return_lost_work(actor=SYSTEM)
    applying.refresh_from_db()
    assert applying.status == Status.APPLY_UNKNOWN
    assert leases.lease_of(applying).state == "live"


@pytest.mark.parametrize("how", ["lost", "let go"])
def test_an_apply_that_never_starts_is_placed_a_bounded_number_of_times(how, admin):
    pool = make_pool()
    make_pod(pool)
    task = confirm_task(actor=admin, task_id=make_waiting_task().pk, plan_hash=PLAN_HASH)
    for _ in range(outcomes.APPLY_PLACEMENTS):
        lease = leases.lease_of(task)
        assert lease is not None
        if how == "lost":
            outcomes.lose_lease(lease.pk, actor=SYSTEM, cause="its agent crashed")
        else:
            outcomes.end_reported(
                lease_id=lease.pk, epoch=lease.epoch, pod=lease.slot.pod, detail="disk is full"
            )
        task.refresh_from_db()
        assert task.waiting_reason.startswith("Waits to be placed again") or task.is_final
        queue.dispatch_pass()
    task.refresh_from_db()
    assert task.status == Status.FAILED
    assert "5 times" in task.error


def test_only_an_apply_ends_as_one():
    task = make_waiting_task()
    with pytest.raises(Conflict, match="no apply"):
        end_of_apply(leases.lease_of(task))


def test_work_that_was_handed_over_and_never_named_is_returned():
    make_pod(make_pool())
    task = make_task()
    lease = leases.lease_of(task)
    leases.mark_delivered({lease: None})
    report_leases(lease.slot.pod, [])
    assert leases.lease_of(task), "its first heartbeat may have crossed the reply"
    Lease.objects.update(phase_at=ClockTimestamp() - timedelta(minutes=2))
    report_leases(lease.slot.pod, [])
    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_a_new_incarnation_leaves_no_task_without_a_reason(applying, admin):
    planning = make_task()
    begin_incarnation(actor=admin)
    for task in Task.objects.filter(pk__in=[applying.pk, planning.pk]):
        assert task.waiting_reason or leases.lease_of(task), task.status


def directory(task, **changes):
    return Reported(
        **{
            "workspace_id": task.workspace_id,
            "task_id": task.pk,
            "bytes": 10,
            "last_used_seconds_ago": 0.0,
            "quarantined": False,
            **changes,
        }
    )


def test_a_directory_and_what_was_quarantined_of_it_are_one_row():
    task = make_waiting_task()
    pod = leases.lease_of(task).slot.pod
    report_directories(pod, "/base", [directory(task)], [])
    report_directories(pod, "/base", [directory(task, quarantined=True)], [])
    assert WorkDirectory.objects.get().state == "quarantined"
    report_directories(pod, "/base", [directory(task, quarantined=True), directory(task)], [])
    row = WorkDirectory.objects.get()
    assert (row.state, row.bytes) == ("kept", 20)


def test_directories_of_agents_that_share_a_disk_are_in_use_together(admin):
    """Two agents of one machine report the same directory; one of them holds it."""
    pool = make_pool()
    pods = [make_pod(pool), make_pod(pool)]
    task = make_waiting_task()
    for pod in pods:
        report_directories(pod, "/base", [directory(task)], [])
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert [d.delete for d in cleanup(everything_idle=True)] == [False, False]


def test_a_deletion_is_decided_and_written_down_once():
    task = make_waiting_task()
    report_directories(leases.lease_of(task).slot.pod, "/base", [directory(task)], [])
    assert [d.delete for d in cleanup(everything_idle=True)] == [True]
    (again,) = cleanup(everything_idle=True)
    assert (again.delete, again.state) == (False, "deleting")
    assert Event.objects.filter(kind="work_directory.deleting").count() == 1
