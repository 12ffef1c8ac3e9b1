from datetime import timedelta

import pytest

from pods_app import leases
from pods_app.models import WorkDirectory
from pods_app.work_directories import Reported, cleanup, report_directories
from tasks_app.actors import Actor
from tasks_app.ids import uuid7
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import confirm_task, discard_task
from tasks_app.states import Status
from tests.support.factories import PLAN_HASH, make_waiting_task
from tests.support.racing import race

pytestmark = pytest.mark.django_db


@pytest.fixture
def task():
    return make_waiting_task()


@pytest.fixture
def pod(task):
    return leases.lease_of(task).slot.pod


def report(pod, *tasks, deleted=(), seconds=0.0):
    rows = [Reported(t.workspace_id, t.pk, 100, seconds, False) for t in tasks]
    return report_directories(pod, "/base", rows, deleted)


def test_reported_directories_become_rows(task, pod):
    assert report(pod, task) == []
    row = WorkDirectory.objects.get()
    assert (row.bytes, row.state) == (100, "kept")
    assert row.path == f"/base/workspaces/{task.workspace_id}/{task.pk}"
    report(pod)
    row.refresh_from_db()
    assert (row.bytes, row.state) == (0, "deleted")


def test_a_waiting_plan_is_kept_until_nobody_confirmed_it(task, pod):
    report(pod, task)
    (decision,) = cleanup()
    assert (decision.delete, decision.reason) == (False, "a plan waits for its confirmation")
    Task.objects.update(keep_warm_until=ClockTimestamp() - timedelta(seconds=1))
    (decision,) = cleanup(dry_run=True)
    assert decision.delete
    assert WorkDirectory.objects.get().state == "kept"
    cleanup()
    assert WorkDirectory.objects.get().state == "deleting"
    assert leases.lease_of(task).state == "ending"
    assert report(pod, task) == [], "its agent still holds it; it goes with the lease"
    leases.end(leases.lease_of(task), actor=Actor.system("test"), reason="reported")
    assert report(pod, task) == [task.pk]
    assert report(pod, deleted=[task.pk]) == []
    assert WorkDirectory.objects.get().state == "deleted"
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING


def test_a_cleaned_task_stays_confirmable(task, pod, admin):
    report(pod, task)
    cleanup(everything_idle=True)
    leases.end(leases.lease_of(task), actor=admin, reason="reported")
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert leases.lease_of(task).epoch == 2


def test_finished_tasks_are_cleaned_after_an_hour(task, pod, admin):
    report(pod, task)
    discard_task(actor=admin, task_id=task.pk)
    assert cleanup()[0].reason == "its agent still lets go"
    leases.end(leases.lease_of(task), actor=admin, reason="reported")
    (decision,) = cleanup()
    assert (decision.delete, decision.reason) == (False, "the task is discarded, kept for 1 h")
    Task.objects.update(finished_at=ClockTimestamp() - timedelta(hours=2))
    (decision,) = cleanup()
    assert decision.delete
    assert decision.reason == "the task is discarded, kept for 1 h at most"


def test_an_interrupted_apply_keeps_its_evidence(task, pod, admin):
    report(pod, task)
    leases.end(leases.lease_of(task), actor=admin, reason="gone")
    Task.objects.update(
        status=Status.INTERRUPTED, finished_at=ClockTimestamp() - timedelta(hours=9)
    )
    assert not cleanup()[0].delete
    Task.objects.update(acknowledged_at=ClockTimestamp())
    assert cleanup()[0].delete


def test_orphans_are_deleted_only_when_old(pod):
    class Orphan:
        workspace_id, pk = uuid7(), uuid7()

    assert report(pod, Orphan) == []
    assert report(pod, Orphan, seconds=7200) == [Orphan.pk]


@pytest.mark.django_db(transaction=True)
def test_cleanup_racing_a_confirmation_never_deletes_what_runs(admin):
    for _ in range(15):
        task = make_waiting_task()
        pod = leases.lease_of(task).slot.pod
        report(pod, task)
        Task.objects.filter(pk=task.pk).update(
            keep_warm_until=ClockTimestamp() - timedelta(seconds=1)
        )
        results = race(
            [cleanup, lambda t=task: confirm_task(actor=admin, task_id=t.pk, plan_hash=PLAN_HASH)]
        )
        assert not [r for r in results if isinstance(r, Exception)], results
        lease = leases.lease_of(task)
        row = WorkDirectory.objects.get(task=task)
        promoted = lease.phase == "apply"
        assert promoted == (row.state == "kept")
        assert promoted != (lease.state == "ending")
        Task.objects.filter(pk=task.pk).update(status=Status.CANCELLED)
        leases.end(lease, actor=admin, reason="next round")
