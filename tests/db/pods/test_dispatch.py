import random

import pytest

from pods_app import leases, queue
from pods_app.models import Lease, ManagedPod, PodSlot, Pool, WorkDirectory
from pods_app.services import (
    assign_pool,
    begin_return,
    drain_if_free,
    drain_pod,
    end_return,
    undrain_pod,
)
from pods_app.states import TOO_MANY
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput
from tasks_app.models import Project, Task
from tasks_app.services.tasks import cancel_task, confirm_task
from tasks_app.states import Status, TaskType
from tests.support.factories import (
    PLAN_HASH,
    finish_planning,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    make_workspace,
    the_wish,
)
from tests.support.racing import race

pytestmark = pytest.mark.django_db


def test_a_task_waits_for_an_agent_and_starts_when_one_comes():
    pool = make_pool(name="main")
    task = make_task()
    assert task.waiting_reason == "Waits for an agent: none of pool main is online"
    make_pod(pool)
    assert queue.dispatch_pass() == 1
    task.refresh_from_db()
    assert (task.status, task.engine_version) == (Status.PLANNING, "1.11.4")


def test_a_task_waits_for_the_version_it_needs():
    pool = make_pool(name="main")
    make_pod(pool)
    task = make_task(make_workspace(engine_version="1.9.0"))
    assert task.waiting_reason == (
        "Waits for an agent with Terraform 1.9.0: none of pool main has it"
    )
    pod = make_pod(pool, versions=("1.9.0", "1.10.0"))
    queue.dispatch_pass()
    assert Lease.objects.get(task=task).slot.pod == pod


def test_the_newest_version_is_pinned_when_the_workspace_names_none():
    make_pod(make_pool(), versions=("1.9.8", "1.11.4", "1.10.0", "1.11.4-rc1"))
    assert make_task().engine_version == "1.11.4"


def test_the_fullest_pod_is_taken_first():
    pool = make_pool()
    make_pod(pool)
    make_pod(pool)
    taken = {Lease.objects.get(task=make_task()).slot.pod_id for _ in range(3)}
    assert len(taken) == 1
    assert Lease.objects.get(task=make_task()).slot.pod_id not in taken


@pytest.mark.parametrize("seed", range(5))
def test_slots_are_given_and_returned_in_any_order(seed):
    """Each claim takes the fullest pod that has room, by its name among equals."""
    dice, pool, system = random.Random(seed), make_pool(), Actor.system("test")
    taken = {make_pod(pool).pod_name: 0 for _ in range(4)}
    workspace, running = make_workspace(), []
    for step in range(40):
        if running and (dice.random() < 0.45 or len(running) == 12):
            lease = running.pop(dice.randrange(len(running)))
            leases.end(lease, actor=system, reason="test")
            Task.objects.filter(pk=lease.task_id).update(status=Status.CANCELLED)
            taken[lease.slot.pod.pod_name] -= 1
            continue
        lease = Lease.objects.get(task=make_task(workspace, type=TaskType.PLAN))
        room = [(-used, name) for name, used in taken.items() if used < 3]
        assert lease.slot.pod.pod_name == min(room)[1], f"step {step} of seed {seed}: {taken}"
        taken[lease.slot.pod.pod_name] += 1
        running.append(lease)
        assert {(one.slot.pod_id, one.slot.slot_id) for one in running} == set(
            PodSlot.objects.exclude(status="idle").values_list("pod_id", "slot_id")
        )


def test_the_pod_that_keeps_the_directory_is_preferred(admin):
    pool = make_pool(slots_per_pod=1)
    make_pod(pool)
    first = make_waiting_task()
    pod = Lease.objects.get(task=first).slot.pod
    make_pod(pool)
    WorkDirectory.objects.create(task=first, pod=pod, path="/x")
    lease = leases.lease_of(first)
    leases.release(lease, actor=admin, reason="test")
    leases.end(lease, actor=admin, reason="test")
    confirm_task(actor=admin, task_id=first.pk, plan_hash=PLAN_HASH)
    assert leases.lease_of(first).slot.pod == pod
    assert leases.lease_of(first).epoch == 2


def test_positions_are_written(admin):
    pool = make_pool(name="main", slots_per_pod=1)
    make_pod(pool)
    make_task()
    waiting = [make_task(), make_task()]
    queue.dispatch_pass()
    for task, position in zip(waiting, ("1st", "2nd"), strict=True):
        task.refresh_from_db()
        assert task.waiting_reason == f"Waits for a free slot in pool main · {position} of 2"


def test_draining_and_frozen_pods_take_no_work(admin):
    pool = make_pool(name="main")
    pod = make_pod(pool)
    drain_pod(actor=admin, pod_id=pod.pk, reason="maintenance")
    task = make_task()
    assert task.status == Status.PENDING
    undrain_pod(actor=admin, pod_id=pod.pk)
    Pool.objects.filter(pk=pool.pk).update(frozen=True)
    queue.dispatch_pass()
    task.refresh_from_db()
    assert task.waiting_reason == "Pool main comes back from a freeze"
    Pool.objects.filter(pk=pool.pk).update(frozen=False)
    assert queue.dispatch_pass() == 1


def test_a_person_does_not_bring_back_a_pod_that_is_being_ended(admin):
    """Whoever decided to end it may delete it at any moment, with what it was given since."""
    pod = make_pod(make_pool())
    assert drain_if_free(pod.pk, actor=Actor.system("test"), reason=TOO_MANY)
    with pytest.raises(Conflict, match="is being ended: the pool has more pods than it wants"):
        undrain_pod(actor=admin, pod_id=pod.pk)
    assert not end_return(pod.pk, actor=admin), "nobody began to bring it back"
    assert begin_return(pod.pk) and end_return(pod.pk, actor=admin)
    drain_pod(actor=admin, pod_id=pod.pk, reason="maintenance")
    assert not begin_return(pod.pk), "a person's drain is a person's to end"
    assert not undrain_pod(actor=admin, pod_id=pod.pk).draining


def test_confirming_promotes_the_held_lease_in_the_same_transaction(admin):
    task = make_waiting_task()
    lease = Lease.objects.get(task=task)
    assert (lease.phase, lease.slot.status) == ("hold", "reserved")
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    lease.refresh_from_db()
    assert (lease.phase, lease.epoch, lease.slot.status) == ("apply", 1, "running")
    assert the_wish(lease.slot.pod).directive == "apply"


def test_a_confirmed_task_without_a_lease_takes_any_slot(admin):
    task = make_waiting_task()
    lease = leases.lease_of(task)
    leases.end(lease, actor=admin, reason="its agent died")
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    again = leases.lease_of(task)
    assert (again.phase, again.epoch) == ("apply", 2)


def test_a_frozen_pool_lets_a_person_confirm_and_waits(admin):
    task = make_waiting_task()
    Pool.objects.update(frozen=True)
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert task.status == Status.CONFIRMED
    assert "comes back from a freeze" in task.waiting_reason
    assert leases.lease_of(task).phase == "hold"
    Pool.objects.update(frozen=False)
    queue.dispatch_pass()
    assert leases.lease_of(task).phase == "apply"


def test_a_pool_serves_only_its_projects(admin):
    pool = make_pool()
    pool.projects.add(Project.objects.create(name="other"))
    workspace = make_workspace()
    with pytest.raises(InvalidInput, match="does not serve"):
        make_task(workspace)
    with pytest.raises(InvalidInput, match="does not serve"):
        assign_pool(actor=admin, workspace=workspace, pool=pool)


def test_a_cancelled_confirmed_task_lets_its_slot_go(admin):
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    cancel_task(actor=admin, task_id=task.pk)
    lease = leases.lease_of(task)
    assert lease.state == "ending"
    assert the_wish(lease.slot.pod).directive == "end"


@pytest.mark.django_db(transaction=True)
def test_two_hundred_parallel_claims_never_share_a_slot_or_a_task():
    pool = make_pool()
    for _ in range(3):
        make_pod(pool)
    ManagedPod.objects.update(draining=True)
    workspace = make_workspace()
    tasks = [make_task(workspace, type=TaskType.PLAN) for _ in range(20)]
    ManagedPod.objects.update(draining=False)
    for _ in range(10):
        results = race([queue.dispatch_pass] * 20)
        assert all(isinstance(result, int) for result in results), results
    live = Lease.objects.exclude(state="ended")
    assert live.count() == 9
    assert live.values("slot").distinct().count() == 9
    assert live.values("task").distinct().count() == 9
    assert PodSlot.objects.filter(status="running").count() == 9
    assert Task.objects.filter(status=Status.PLANNING).count() == 9 < len(tasks)


@pytest.mark.django_db(transaction=True)
def test_claims_racing_drain_and_freeze_never_start_behind_the_flag(admin):
    """Write skew: a claim that reads the flag before and commits after it must not exist."""
    from django.db import transaction

    from pods_app.locking import lock_pod, lock_pool

    pool = make_pool()
    pod = make_pod(pool)
    ManagedPod.objects.update(draining=True)
    tasks = [make_task(make_workspace()) for _ in range(40)]
    ManagedPod.objects.update(draining=False)
    seen: list[int] = []

    def freeze():
        with transaction.atomic():
            locked = lock_pool(pool.pk)
            locked.frozen = True
            locked.save(update_fields=["frozen"])
        seen.append(Lease.objects.exclude(state="ended").count())

    def drain():
        with transaction.atomic():
            lock_pod(pod.pk)
            free = not PodSlot.objects.filter(pod=pod).exclude(status="idle").exists()
            ManagedPod.objects.filter(pk=pod.pk).update(draining=free)
        if free:
            seen.append(Lease.objects.exclude(state="ended").count())

    for number in range(25):
        seen.clear()
        action = freeze if number % 2 else drain
        results = race([action, queue.dispatch_pass, queue.dispatch_pass])
        assert not [r for r in results if isinstance(r, Exception)], results
        if seen:
            assert Lease.objects.exclude(state="ended").count() == seen[0]
        for lease in Lease.objects.exclude(state="ended").select_related("slot__pod", "task"):
            leases.end(lease, actor=admin, reason="next round")
        Task.objects.filter(pk__in=[t.pk for t in tasks]).update(
            status=Status.PENDING, plan_attempts=0
        )
        Pool.objects.update(frozen=False)
        ManagedPod.objects.update(draining=False)


@pytest.mark.django_db(transaction=True)
def test_no_deadlock_under_load(admin):
    """Everything that locks at once: the order task, pool, pod, slot, lease must hold."""
    from pods_app.registration import heartbeat
    from pods_app.work_directories import cleanup

    pool = make_pool()
    pods = [make_pod(pool) for _ in range(2)]
    waiting = [make_waiting_task() for _ in range(4)]
    for _ in range(6):
        make_task(make_workspace())

    def beat(pod):
        for _ in range(10):
            heartbeat(
                pod,
                engines=pod.engines,
                providers=[],
                disk_total_bytes=1,
                disk_free_bytes=1,
                draining=False,
            )

    def drain(pod):
        for _ in range(5):
            drain_pod(actor=admin, pod_id=pod.pk, reason="test")
            undrain_pod(actor=admin, pod_id=pod.pk)

    results = race(
        [lambda t=t: confirm_task(actor=admin, task_id=t.pk, plan_hash=PLAN_HASH) for t in waiting]
        + [lambda t=t: cancel_task(actor=admin, task_id=t.pk) for t in waiting]
        + [lambda p=p: beat(p) for p in pods]
        + [lambda p=p: drain(p) for p in pods]
        + [queue.dispatch_pass] * 4
        + [cleanup] * 2
    )
    assert not [r for r in results if "deadlock" in str(r).lower()], results
    queue.dispatch_pass()
    finish_planning(Task.objects.filter(status=Status.PLANNING).first())
