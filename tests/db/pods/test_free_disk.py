"""A pod that is low on disk is given nothing new, and says so; what lies on it goes on."""

from dataclasses import replace

import pytest

from pods_app import leases, queue
from pods_app.dispatch import dispatch_task
from pods_app.models import ManagedPod, WorkDirectory
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status
from tests.support.factories import (
    PLAN_HASH,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    make_workspace,
)
from tests.support.warmups import let_go

pytestmark = pytest.mark.django_db
GIB = 1024**3
SENTENCE = "Waits for free disk: no suitable agent of pool main has 1.0 GiB left"


def has_free(pod, size):
    ManagedPod.objects.filter(pk=pod.pk).update(disk_free_bytes=size)


def waits(task):
    """Return why a task waits, by the single try and by the pass, which must agree."""
    dispatch_task(task)
    alone = task.waiting_reason
    queue.dispatch_pass()
    task.refresh_from_db()
    assert task.waiting_reason == alone
    return alone


def test_a_plan_waits_until_its_pools_disks_have_room(admin):
    pool = make_pool(name="main")
    pod = make_pod(pool)
    has_free(pod, GIB - 1)
    task = make_task()
    assert task.status == Status.PENDING
    assert waits(task) == SENTENCE
    has_free(pod, GIB)
    assert queue.dispatch_pass() == 1
    task.refresh_from_db()
    assert task.status == Status.PLANNING


def test_the_pod_with_room_is_taken_even_if_it_is_the_emptier_one():
    pool = make_pool()
    full = make_pod(pool)
    make_task()
    has_free(full, 0)
    roomy = make_pod(pool)
    task = make_task()
    assert leases.lease_of(task).slot.pod == roomy


def test_no_slot_is_named_while_a_pod_with_room_is_only_busy():
    pool = make_pool(name="main", slots_per_pod=1)
    make_pod(pool)
    make_task()
    has_free(make_pod(pool), 0)
    assert waits(make_task(make_workspace())) == "Waits for a free slot in pool main"


def test_an_apply_starts_from_the_directory_it_has_there_and_nowhere_else(admin):
    pool = make_pool(name="main", slots_per_pod=1)
    own, other = make_pod(pool), make_pod(pool)
    applies = []
    for kept in (True, False):
        task = make_waiting_task()
        lease = leases.lease_of(task)
        if kept:
            own, other = (own, other) if lease.slot.pod == own else (other, own)
            WorkDirectory.objects.create(task=task, pod=own, path="/x")
        leases.release(lease, actor=admin, reason="test")
        leases.end(lease, actor=admin, reason="test")
        applies.append(task)
    has_free(own, 0)
    has_free(other, 0)
    with_directory, without = (
        confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH) for task in applies
    )
    assert leases.lease_of(with_directory).slot.pod == own
    assert waits(without) == SENTENCE


def test_the_pass_places_an_apply_in_its_directory_once_its_slot_is_free(admin):
    pool = make_pool(name="main", slots_per_pod=1)
    pod = make_pod(pool)
    task = make_waiting_task()
    lease = leases.lease_of(task)
    WorkDirectory.objects.create(task=task, pod=pod, path="/x")
    leases.release(lease, actor=admin, reason="test")
    leases.end(lease, actor=admin, reason="test")
    busy = leases.lease_of(make_task())
    has_free(pod, 0)
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert waits(task) == "Waits for a free slot in pool main"
    leases.end(busy, actor=admin, reason="test")
    assert queue.dispatch_pass() == 1
    assert leases.lease_of(task).phase == "apply"


def test_a_plan_that_has_its_slot_is_applied_there_whatever_the_disk(admin):
    task = make_waiting_task()
    lease = leases.lease_of(task)
    has_free(lease.slot.pod, 0)
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert leases.lease_of(task).pk == lease.pk
    assert leases.lease_of(task).phase == "apply"


def test_0_never_minds(settings):
    settings.SLIPWAY = replace(settings.SLIPWAY, disk_free_bytes_min=0)
    pod = make_pod(make_pool())
    has_free(pod, 0)
    assert make_task().status == Status.PLANNING


def test_a_plan_that_was_too_large_to_be_stored_goes_only_where_its_directory_is(admin):
    """Another agent could but fail it."""
    pool = make_pool(name="main")
    pod, _ = make_pod(pool), make_pod(pool)
    task = make_waiting_task()
    task.plan.bundle = None
    task.plan.save()
    let_go(task)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    task.refresh_from_db()
    assert waits(task) == (
        "Waits for the agent that has its directory, as the plan was too large to be stored: none "
        "of pool main has it. If that agent does not come back, cancel and plan again"
    )
    directory = WorkDirectory.objects.create(task=task, pod=pod, path="/x", state="deleting")
    assert "its directory" in waits(task)
    directory.state = "kept"
    directory.save()
    assert queue.dispatch_pass() == 1
    assert leases.lease_of(task).slot.pod == pod


def test_a_plan_that_is_stored_goes_anywhere(admin):
    make_pod(make_pool(name="main"))
    task = make_waiting_task()
    let_go(task)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert leases.lease_of(task).phase == "apply"
