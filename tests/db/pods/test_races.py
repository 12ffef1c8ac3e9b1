"""Real races on PostgreSQL: many rounds, each judged by the rows it left."""

from datetime import timedelta

import pytest
from django.db import transaction

from pods_app import leases, queue
from pods_app.dispatch import dispatch_task
from pods_app.models import ApplyPermit, Lease, ManagedPod, PodSlot, WorkDirectory
from pods_app.registration import report_leases
from pods_app.services import drain_if_free, lose_pod
from pods_app.work_directories import Reported, cleanup, report_directories
from tasks_app.actors import Actor
from tasks_app.models import Event, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import cancel_task, confirm_task, resolve_task
from tasks_app.states import Status
from tasks_app.transitions import lock_task
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    finish_planning,
    hear_from,
    make_pod,
    make_task,
    make_waiting_task,
)
from tests.support.freezes import set_frozen
from tests.support.pod_invariants import consistent
from tests.support.racing import no_surprise, race, soon

pytestmark = pytest.mark.django_db(transaction=True)
SYSTEM = Actor.system("test")


@pytest.fixture
def pod(pool):
    return make_pod(pool)


def confirm(actor, task):
    return confirm_task(actor=actor, task_id=task.pk, plan_hash=PLAN_HASH)


def permit(task):
    return ask_permit(leases.lease_of(task))


def claim(task):
    """What every dispatcher does with one task."""
    with transaction.atomic():
        dispatch_task(lock_task(task.pk))


def reset(*tasks):
    """Ready for the next round: nothing has a lease, these tasks wait to be planned."""
    for lease in leases.unended().select_related("slot__pod", "task"):
        Task.objects.filter(pk=lease.task_id).exclude(pk__in=[t.pk for t in tasks]).update(
            status=Status.CANCELLED
        )
        with transaction.atomic():
            leases.end(lease, actor=SYSTEM, reason="next round")
    Task.objects.filter(pk__in=[t.pk for t in tasks]).update(status=Status.PENDING, plan_attempts=0)


def busy_slots():
    return PodSlot.objects.exclude(status="idle").count()


def test_a_drain_never_overlooks_a_claim(pool, pod):
    """Write skew: the drain reads free slots while a claim has read an open pod."""
    ManagedPod.objects.update(draining=True)
    task = make_task()
    for _ in range(100):
        ManagedPod.objects.update(draining=False)
        results = race(
            [
                lambda: claim(task),
                soon(lambda: drain_if_free(pod.pk, actor=SYSTEM, reason="test")),
            ]
        )
        no_surprise(results)
        assert not (results[1] and busy_slots()), "a drained pod has work"
        ManagedPod.objects.update(draining=True)
        reset(task)


def test_a_drain_and_a_claim_beside_heartbeats(pool, pod):
    """A heartbeat updates the pod without FOR UPDATE: old versions must not hide the flag."""
    ManagedPod.objects.update(draining=True)
    task = make_task()

    def beat():
        for _ in range(3):
            hear_from(ManagedPod.objects.get(pk=pod.pk))

    for _ in range(24):
        ManagedPod.objects.update(draining=False)
        results = race(
            [
                lambda: claim(task),
                soon(lambda: drain_if_free(pod.pk, actor=SYSTEM, reason="test")),
                beat,
                beat,
            ]
        )
        no_surprise(results)
        assert not (results[1] and busy_slots())
        ManagedPod.objects.update(draining=True)
        reset(task)


def test_nothing_starts_once_freezing_has_returned(admin, pool, pod):
    ManagedPod.objects.update(draining=True)
    task = make_task()
    ManagedPod.objects.update(draining=False)

    def freeze():
        set_frozen(pool, True)
        return busy_slots()

    for _ in range(100):
        reset(task)
        set_frozen(pool, False)
        results = race([soon(freeze), lambda: claim(task)])
        no_surprise(results)
        assert busy_slots() == results[0], "a claim committed behind the freeze"


def test_no_permit_once_freezing_has_returned(admin, pool, pod):
    task = confirm(admin, make_waiting_task())

    def freeze():
        set_frozen(pool, True)
        return ApplyPermit.objects.count()

    for _ in range(100):
        results = race([soon(freeze), lambda: permit(task)])
        no_surprise(results)
        assert ApplyPermit.objects.count() == results[0], "a permit committed behind the freeze"
        ApplyPermit.objects.all().delete()
        Task.objects.update(status=Status.CONFIRMED)
        set_frozen(pool, False)


def test_two_confirmations_make_one_apply(admin, pool, pod):
    for _ in range(15):
        task = make_waiting_task()
        results = race([lambda t=task: confirm(admin, t)] * 3)
        no_surprise(results)
        assert sum(isinstance(result, Task) for result in results) == 1
        assert Lease.objects.filter(task=task, phase="apply").count() == 1
        assert Event.objects.filter(task=task, kind="task.confirmed").count() == 1
        reset()


def test_confirming_races_yielding_on_one_row(admin, pool, pod):
    for _ in range(30):
        task = make_waiting_task()
        lease = leases.lease_of(task)
        results = race(
            [
                lambda t=task: confirm(admin, t),
                soon(lambda pk=lease.pk: leases.release_hold(pk, actor=SYSTEM, reason="yields")),
            ]
        )
        no_surprise(results)
        lease.refresh_from_db()
        task.refresh_from_db()
        assert task.status == Status.CONFIRMED
        assert (lease.phase, lease.state) == (
            ("hold", "ending") if results[1] else ("apply", "live")
        )
        assert task.waiting_reason.startswith("Waits" if results[1] else "Starts")
        reset()


def test_cleanup_races_a_confirmation_and_a_claim(admin, pool, pod):
    """What is being deleted is never in use, and what is used is never being deleted."""
    for number in range(24):
        task = make_waiting_task()
        row = Reported(task.workspace_id, task.pk, 1, 0.0, False)
        report_directories(pod, "/base", [row], [])
        if number % 2:  # no reservation: the confirmation claims a slot anew
            leases.end(leases.lease_of(task), actor=SYSTEM, reason="test")
        Task.objects.filter(pk=task.pk).update(
            keep_warm_until=ClockTimestamp() - timedelta(seconds=1)
        )
        results = race([cleanup, lambda t=task: confirm(admin, t), queue.dispatch_pass])
        no_surprise(results)
        directory, lease = WorkDirectory.objects.get(task=task), leases.lease_of(task)
        if lease and lease.phase == "apply" and lease.epoch == 1:
            assert directory.state == "kept", "the promoted lease's directory is deleted"
        asked = report_directories(pod, "/base", [row], [])
        assert not (task.pk in asked and lease), "asked to delete what is in use"
        reset()
        WorkDirectory.objects.all().delete()


def test_losing_a_pod_races_the_end_of_its_plan(admin, pool, pod):
    """Either the result counts or the plan is made again; never both, never neither."""
    for _ in range(20):
        ManagedPod.objects.update(phase="online", last_heartbeat=ClockTimestamp())
        task = make_task()
        lease = leases.lease_of(task)
        results = race(
            [
                lambda t=task: finish_planning(t),
                lambda: lose_pod(pod.pk, actor=SYSTEM, cause="silent"),
            ]
        )
        # `finish_planning` looks its lease up first, and may find none.
        no_surprise([r for r in results if not isinstance(r, Lease.DoesNotExist)])
        task.refresh_from_db()
        lease.refresh_from_db()
        assert lease.state == "ended"
        assert task.status in (Status.APPLY_PENDING, Status.PENDING)
        consistent()
        cancel_task(actor=admin, task_id=task.pk)


def test_a_heartbeat_in_time_saves_the_pod(pool, pod):
    """Found silent, heard since: judged again under the pod's lock."""
    assert not lose_pod(pod.pk, actor=SYSTEM, cause="silent", silent_seconds=60)
    pod.refresh_from_db()
    assert pod.phase == "online"
    ManagedPod.objects.update(last_heartbeat=ClockTimestamp() - timedelta(seconds=61))
    assert lose_pod(pod.pk, actor=SYSTEM, cause="silent", silent_seconds=60)


def test_a_verdict_races_the_same_lease_reporting_again(admin, pool, pod):
    for _ in range(20):
        task = confirm(admin, make_waiting_task())
        permit(task)
        lease = leases.lease_of(task)
        lose_pod(pod.pk, actor=SYSTEM, cause="silent")
        ManagedPod.objects.update(phase="online", last_heartbeat=ClockTimestamp())
        results = race(
            [
                lambda t=task: resolve_task(
                    actor=admin, task_id=t.pk, verdict="failed", comment="looked"
                ),
                lambda pk=lease.pk: report_leases(pod, [pk]),
            ]
        )
        no_surprise(results)
        task.refresh_from_db()
        lease.refresh_from_db()
        if task.status == Status.FAILED:
            assert lease.state == "ended", "a verdict fences the lease"
        else:
            assert (task.status, lease.state) == (Status.APPLYING, "live")
        consistent()
        reset()
