import uuid
from datetime import timedelta

import pytest

from pods_app import leases, outcomes
from pods_app.incarnation import begin_incarnation, doubt_if_unknown, installation
from pods_app.models import ApplyPermit, Lease, ManagedPod
from pods_app.queue import dispatch_pass
from pods_app.registration import heartbeat, report_leases
from pods_app.services import lose_pod
from tasks_app.actors import Actor
from tasks_app.exceptions import StaleLease
from tasks_app.models import Event, StateLock, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import cancel_task, confirm_task, resolve_task
from tasks_app.states import Status
from tests.db.pods.test_permits import ask
from tests.support.factories import (
    PLAN_HASH,
    finish_planning,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    the_wish,
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


def lose(task):
    pod = Lease.objects.filter(task=task).latest("epoch").slot.pod
    lose_pod(pod.pk, actor=SYSTEM, cause="no heartbeat for 60 s")
    task.refresh_from_db()
    return pod


def report_end(task, outcome, **fields):
    lease = Lease.objects.select_related("slot__pod").filter(task=task).latest("epoch")
    answer = outcomes.finish_apply(
        lease_id=lease.pk,
        epoch=lease.epoch,
        pod=lease.slot.pod,
        report=outcomes.Report(outcome, **fields),
    )
    task.refresh_from_db()
    return answer


def test_a_plan_is_made_again_at_most_three_times():
    pool = make_pool()
    task = make_task()
    for attempt in range(1, 4):
        make_pod(pool)

        dispatch_pass()
        task.refresh_from_db()
        assert (task.status, task.plan_attempts) == (Status.PLANNING, attempt)
        assert leases.lease_of(task).epoch == attempt
        lose(task)
    assert task.status == Status.FAILED
    assert "3 times" in task.error


def test_a_lost_plan_that_was_cancelled_is_cancelled(admin):
    make_pod(make_pool())
    task = make_task()
    cancel_task(actor=admin, task_id=task.pk)
    lose(task)
    assert task.status == Status.CANCELLED


def test_a_lost_reservation_leaves_the_plan_confirmable(admin):
    task = make_waiting_task()
    lose(task)
    assert task.status == Status.APPLY_PENDING
    assert leases.lease_of(task) is None
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert task.status == Status.CONFIRMED


def test_a_confirmed_apply_without_permit_is_placed_again(admin):
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    lose(task)
    assert task.status == Status.CONFIRMED
    make_pod(make_pool(is_default=False))
    from pods_app.models import Pool

    make_pod(Pool.objects.get(is_default=True))
    dispatch_pass()
    assert leases.lease_of(task).epoch == 2


def test_a_permitted_apply_is_unknown_and_never_retried(applying):
    lose(applying)
    assert applying.status == Status.APPLY_UNKNOWN
    assert applying.waiting_reason
    assert leases.lease_of(applying).state == "live"


def test_the_audit_says_where_to_look_for_an_unknown_apply(applying):
    lease = leases.lease_of(applying)
    lock = StateLock.objects.create(
        workspace=applying.workspace, lock_id="x", task=applying, lease_id=lease.pk
    )
    pod = lose(applying)
    data = Event.objects.get(task=applying, kind="task.apply_unknown").data
    assert (data["pod"], data["pod_uid"], data["path"]) == (pod.pod_name, pod.pod_uid, "kept")
    assert (data["lock_id"], data["lock_released_at"]) == ("x", None)
    assert data["locked_at"] == lock.created_at.isoformat()
    assert data["permit_granted_at"]


def test_the_same_lease_reports_again(applying):
    pod = lose(applying)
    lease = leases.lease_of(applying)
    pod.refresh_from_db()
    heartbeat(
        pod,
        engines=pod.engines,
        providers=[],
        disk_total_bytes=1,
        disk_free_bytes=1,
        draining=False,
    )
    report_leases(pod, [lease.pk])
    applying.refresh_from_db()
    assert applying.status == Status.APPLYING
    assert ManagedPod.objects.get(pk=pod.pk).phase == "online"


def test_a_late_result_is_accepted(applying):
    lose(applying)
    assert report_end(applying, "applied") == "end"
    assert applying.status == Status.APPLIED
    assert report_end(applying, "applied") == "end"


def test_a_verdict_fences_the_lease(applying, admin):
    lose(applying)
    resolve_task(actor=admin, task_id=applying.pk, verdict="failed", comment="looked at the cloud")
    with pytest.raises(StaleLease):
        report_end(applying, "applied")
    applying.refresh_from_db()
    assert applying.status == Status.FAILED


def test_an_expired_permit_without_a_lock_proves_that_nothing_was_applied(applying):
    lose(applying)
    outcomes.return_lost_work(actor=SYSTEM)
    applying.refresh_from_db()
    assert applying.status == Status.APPLY_UNKNOWN, "the permit is still valid"
    ApplyPermit.objects.update(expires_at=ClockTimestamp() - timedelta(seconds=1))
    outcomes.return_lost_work(actor=SYSTEM)
    applying.refresh_from_db()
    assert applying.status == Status.FAILED
    assert "nothing was applied" in applying.error


def test_a_lock_that_was_granted_proves_nothing(applying):
    StateLock.objects.create(workspace=applying.workspace, lock_id="x", task=applying)
    ApplyPermit.objects.update(expires_at=ClockTimestamp() - timedelta(seconds=1))
    lose(applying)
    assert applying.status == Status.APPLY_UNKNOWN


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("applied", Status.APPLIED),
        ("failed", Status.FAILED),
        ("cancelled", Status.CANCELLED),
        ("interrupted", Status.INTERRUPTED),
        ("not_started", Status.FAILED),
    ],
)
def test_what_an_apply_ends_with(applying, outcome, status):
    report_end(applying, outcome)
    assert applying.status == status
    assert leases.lease_of(applying) is None
    assert (applying.error != "") == (status == Status.FAILED)


def test_an_apply_that_was_not_permitted_is_placed_again_but_not_for_ever(admin):
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)

    for _ in range(outcomes.APPLY_PLACEMENTS):
        assert task.status == Status.APPLY_PENDING or task.status == Status.CONFIRMED
        report_end(task, "not_started", error="No space left on device.")
        dispatch_pass()
    task.refresh_from_db()
    assert task.status == Status.FAILED
    assert task.error.endswith("the last time: No space left on device.")


def test_a_plan_that_is_cut_off_is_made_again_but_not_for_ever():
    make_pod(make_pool())
    task = make_task()
    for _ in range(outcomes.PLAN_ATTEMPTS):
        lease = leases.lease_of(task)
        outcomes.finish_plan(
            lease_id=lease.pk,
            epoch=lease.epoch,
            pod=lease.slot.pod,
            report=outcomes.Report("not_started", error="No space left on device."),
        )
        dispatch_pass()
    task.refresh_from_db()
    assert task.status == Status.FAILED
    assert task.error.endswith("the last time: No space left on device.")


def test_a_repeated_finish_of_a_plan_changes_nothing():
    task = make_waiting_task()
    lease = leases.lease_of(task)
    pod = lease.slot.pod
    repeated = outcomes.finish_plan(
        lease_id=lease.pk, epoch=1, pod=pod, report=outcomes.Report("failed", error="late")
    )
    assert repeated == "hold"
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING


def test_work_the_agent_forgot_is_returned():
    make_pod(make_pool())
    task = make_task()
    lease = leases.lease_of(task)
    report_leases(lease.slot.pod, [lease.pk])
    report_leases(lease.slot.pod, [])
    assert leases.lease_of(task), "a lease just reported is not forgotten yet"
    Lease.objects.update(reported_at=ClockTimestamp() - timedelta(minutes=1))
    report_leases(lease.slot.pod, [])
    task.refresh_from_db()
    assert leases.lease_of(task) is None
    assert task.status == Status.PENDING


def test_an_unknown_lease_proves_a_restored_database(admin):
    task = make_waiting_task()
    lease = leases.lease_of(task)
    pod, now = lease.slot.pod, installation().incarnation
    assert not doubt_if_unknown(pod, now, {lease.pk})
    assert doubt_if_unknown(pod, now, {lease.pk, uuid.uuid4()})
    assert "begin_incarnation" in installation().doubt
    counts = begin_incarnation(actor=admin)
    assert counts["discarded"] == 1
    assert installation().doubt == ""
    assert installation().incarnation != now
    assert not doubt_if_unknown(pod, now, {uuid.uuid4()}), "an agent of the old incarnation"
    task.refresh_from_db()
    assert task.status == Status.DISCARDED


def test_a_new_incarnation_marks_permitted_applies_unknown(applying, admin):
    make_pod(make_pool(is_default=False))
    planning = make_task()
    confirmed = finish_planning(make_task())
    confirm_task(actor=admin, task_id=confirmed.pk, plan_hash=PLAN_HASH)
    counts = begin_incarnation(actor=admin)
    assert counts == {"discarded": 0, "failed": 1, "unknown": 1, "back": 1}
    statuses = {
        t.pk: t.status for t in Task.objects.filter(pk__in=[applying.pk, planning.pk, confirmed.pk])
    }
    assert statuses[applying.pk] == Status.APPLY_UNKNOWN
    assert statuses[confirmed.pk] == Status.FAILED
    assert statuses[planning.pk] in (Status.PENDING, Status.PLANNING)


def test_the_wish_follows_a_cancel(admin):
    make_pod(make_pool())
    task = make_task()
    pod = leases.lease_of(task).slot.pod
    assert the_wish(pod).directive == "plan"
    cancel_task(actor=admin, task_id=task.pk)
    assert the_wish(pod).directive == "cancel"
    cancel_task(actor=admin, task_id=task.pk, force=True)
    assert the_wish(pod).directive == "kill"


def test_work_of_a_pod_that_is_heard_again_is_not_taken_from_it(applying):
    """Whoever returns lost work looks first and locks later; a heartbeat may come between."""
    lease = leases.lease_of(applying)
    outcomes.lose_lease(lease.pk, actor=SYSTEM, cause="its agent is lost", if_silent=True)
    applying.refresh_from_db()
    assert applying.status == Status.APPLYING
    lease.slot.pod.phase = "lost"
    lease.slot.pod.save()
    outcomes.lose_lease(lease.pk, actor=SYSTEM, cause="its agent is lost", if_silent=True)
    applying.refresh_from_db()
    assert applying.status == Status.APPLY_UNKNOWN
