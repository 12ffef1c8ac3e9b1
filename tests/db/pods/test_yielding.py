"""Reservations that let their slots go, so that they do not starve their pool."""

from datetime import timedelta

import pytest

from pods_app import leases, queue
from pods_app.models import ManagedPod
from pods_app.states import PoolKind
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status
from tests.support.factories import (
    PLAN_HASH,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    the_wish,
)

pytestmark = pytest.mark.django_db


def test_a_reservation_yields_to_a_confirmed_task_at_once(admin):
    pool = make_pool(slots_per_pod=1)
    make_pod(pool)
    task = make_waiting_task()
    leases.end(leases.lease_of(task), actor=admin, reason="its agent died")
    blocker = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    queue.dispatch_pass()
    lease = leases.lease_of(blocker)
    assert (lease.state, lease.keep_directory) == ("ending", True)
    queue.dispatch_pass()
    assert the_wish(lease.slot.pod).directive == "end"
    leases.end(lease, actor=admin, reason="reported")
    queue.dispatch_pass()
    assert leases.lease_of(task).phase == "apply"
    blocker.refresh_from_db()
    assert blocker.status == Status.APPLY_PENDING


def make_late(task):
    Task.objects.filter(pk=task.pk).update(created_at=ClockTimestamp() - timedelta(hours=1))


def test_a_reservation_yields_to_other_work_only_after_a_while():
    make_pod(make_pool(slots_per_pod=1))
    blocker, task = make_waiting_task(), make_task()
    queue.dispatch_pass()
    assert leases.lease_of(blocker).state == "live"
    make_late(task)
    queue.dispatch_pass()
    assert leases.lease_of(blocker).state == "ending"


@pytest.mark.parametrize(
    ("limits", "state"),
    [
        ({"max_pods": 2}, "live"),
        ({"max_pods": 1}, "ending"),
        ({"max_pods": 2, "trouble": "The namespace's quota is used up."}, "ending"),
    ],
    ids=["another pod comes", "at its maximum", "no pod can come"],
)
def test_other_work_waits_for_a_pool_that_grows(limits, state):
    make_pod(make_pool(kind=PoolKind.LOCAL, slots_per_pod=1, **limits))
    blocker = make_waiting_task()
    make_late(make_task())
    queue.dispatch_pass()
    assert leases.lease_of(blocker).state == state


@pytest.mark.parametrize("how", ["it applies", "it has ended"])
def test_nothing_yields_to_an_apply_that_began_while_the_queue_was_read(admin, monkeypatch, how):
    pool = make_pool(slots_per_pod=1)
    make_pod(pool)
    blocker = make_waiting_task()
    make_pod(pool)
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    lease, read = leases.lease_of(task), queue.Entry.read

    def read_and_be_overtaken(*args):
        found = read(*args)
        assert [entry.id for entry in found] == [task.pk]
        if how == "it has ended":
            leases.end(lease, actor=admin, reason=leases.FINISHED)
        Task.objects.filter(pk=task.pk).update(
            status=Status.APPLYING if how == "it applies" else Status.APPLIED
        )
        ManagedPod.objects.filter(pk=lease.slot.pod_id).update(draining=True)  # no room there
        return found

    monkeypatch.setattr(queue.Entry, "read", read_and_be_overtaken)
    queue.dispatch_pass()
    assert leases.lease_of(blocker).state == "live"
