"""The queue as a whole: constant queries, the same reasons as for one task, bounded tries."""

import random
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app import jobs, leases, queue, waiting
from pods_app.dispatch import newest_version
from pods_app.models import Installation, Lease, ManagedPod, PodSlot, Pool, TaskPlacement
from tasks_app.actors import Actor
from tasks_app.blocking import Blocking
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.selectors import blocked_by
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
)
from tests.support.racing import race

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system("test")


def fill_queue(pool, workspace, tasks):
    """Queue many tasks at once, as the service would have one by one."""
    like = make_task(workspace, type=TaskType.PLAN)
    rows = Task.objects.bulk_create(
        (
            Task(
                workspace=workspace,
                number=number,
                type=TaskType.PLAN,
                configuration=like.configuration,
                engine=like.engine,
                waiting_reason="Waits to be placed",
            )
            for number in range(100, 100 + tasks)
        ),
        batch_size=500,  # a statement takes 65535 parameters
    )
    TaskPlacement.objects.bulk_create(TaskPlacement(task=task, pool=pool) for task in rows)


def queries_of(function):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        function()
    return len(captured)


def test_a_pass_costs_the_same_for_a_long_queue():
    pool = make_pool(name="main", slots_per_pod=1)
    make_pod(pool)
    fill_queue(pool, make_workspace(), 3)
    queue.dispatch_pass()
    short = queries_of(queue.dispatch_pass)
    fill_queue(pool, make_workspace(), 2000)
    queue.dispatch_pass()
    assert queries_of(queue.dispatch_pass) == short
    reasons = list(
        Task.objects.filter(status=Status.PENDING)
        .order_by("id")
        .values_list("waiting_reason", flat=True)
    )
    assert reasons[0].endswith(f"1st of {len(reasons)}")
    assert reasons[-1].endswith(f"more than {waiting.POSITIONS_MAX} are ahead")


def test_a_free_slot_costs_a_request_the_same_for_a_long_queue(django_capture_on_commit_callbacks):
    pool = make_pool(slots_per_pod=1)
    make_pod(pool)
    first = make_task(make_workspace(), type=TaskType.PLAN)
    fill_queue(pool, make_workspace(), 2000)
    lease = leases.lease_of(first)
    with (
        CaptureQueriesContext(connection) as captured,
        django_capture_on_commit_callbacks(execute=True),
    ):
        leases.end(lease, actor=SYSTEM, reason="over")
    assert len(captured) < 60
    assert Lease.objects.exclude(state="ended").count() == 1, "the next one has the slot"


@pytest.mark.parametrize("seed", range(6))
def test_many_tasks_are_blocked_by_the_same_sentence_as_one(seed):
    """`Blocking` and `blocked_by` answer alike, whatever a workspace is in."""
    chance = random.Random(seed)
    workspaces = [make_workspace() for _ in range(4)]
    tasks = [
        make_task(chance.choice(workspaces), type=chance.choice(TaskType.values)) for _ in range(24)
    ]
    occupied = set()
    for task in tasks:
        if task.type == TaskType.PLAN_AND_APPLY and chance.random() < 0.4:
            kind = chance.choice(["occupy", "interrupt", "over"])
            if kind == "occupy" and task.workspace_id not in occupied:
                occupied.add(task.workspace_id)
                status = chance.choice([Status.PLANNING, Status.APPLY_PENDING, Status.CONFIRMED])
                Task.objects.filter(pk=task.pk).update(status=status)
            elif kind == "interrupt":
                Task.objects.filter(pk=task.pk).update(
                    status=Status.INTERRUPTED, confirmed_at=ClockTimestamp()
                )
            elif kind == "over":
                Task.objects.filter(pk=task.pk).update(status=Status.FAILED)
    type(workspaces[0]).objects.filter(pk=workspaces[0].pk).update(
        locked_at=ClockTimestamp(), lock_reason="Audit."
    )
    blocking = Blocking.of({workspace.pk for workspace in workspaces})
    compared = 0
    for task in Task.objects.select_related("workspace").filter(
        status__in=[Status.PENDING, Status.CONFIRMED]
    ):
        alone = blocked_by(task)
        assert blocking.reason(task.pk, task.workspace_id, task.type, task.status) == alone
        compared += bool(alone)
    assert compared


def test_one_broken_task_does_not_stop_the_others(monkeypatch):
    pool = make_pool()
    first, second = make_task(), make_task()
    make_pod(pool)
    real = queue.dispatch_task

    def fails_for_the_first(task):
        if task.pk == first.pk:
            raise RuntimeError("a bug")
        return real(task)

    monkeypatch.setattr(queue, "dispatch_task", fails_for_the_first)
    assert queue.dispatch_pass() == 1
    second.refresh_from_db()
    assert second.status == Status.PLANNING


def test_reservations_yield_only_where_the_work_could_run(admin):
    pool = make_pool(slots_per_pod=1)
    make_pod(pool, versions=("1.11.4",))
    make_pod(pool, versions=("1.9.0",))
    modern = make_waiting_task()
    old = finish_planning(make_task(make_workspace(engine_version="1.9.0")))
    task = make_task(make_workspace(engine_version="1.9.0"))
    Task.objects.filter(pk=task.pk).update(created_at=ClockTimestamp() - timedelta(hours=1))
    for _ in range(3):
        queue.dispatch_pass()
    assert leases.lease_of(old).state == "ending"
    assert leases.lease_of(modern).state == "live", "its slot is of no use to the waiting work"


def test_an_apply_is_not_placed_while_its_permit_would_be_refused(admin):
    """Each refusal costs one of the apply's placements; five come within a second."""
    task = make_waiting_task()
    Installation.objects.update_or_create(singleton=True, defaults={"doubt": "Older than reality."})
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    queue.dispatch_pass()
    task.refresh_from_db()
    assert task.waiting_reason == "Older than reality."
    assert leases.lease_of(task).phase == "hold"
    Installation.objects.update(doubt="")
    queue.dispatch_pass()
    assert leases.lease_of(task).phase == "apply"


@pytest.mark.parametrize("dispatcher", ["confirmation", "pass", "job", "slot"])
def test_each_dispatcher_alone_is_sufficient(dispatcher, admin, monkeypatch):
    """With every other one, and every notification, dropped."""
    for module in ("leases", "queue", "registration", "services"):
        for name in ("notify_agent", "notify_controller"):
            monkeypatch.setattr(f"pods_app.{module}.{name}", lambda *_: None, raising=False)
    pool = make_pool()
    pod = make_pod(pool)
    task = make_waiting_task()
    if dispatcher != "confirmation":
        monkeypatch.setattr("pods_app.receivers.dispatch_task", lambda task: None)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    if dispatcher == "slot":
        lease = leases.lease_of(task)
        leases.end(lease, actor=SYSTEM, reason="its agent let go")
        queue.fill_slots(pool.pk)
    elif dispatcher == "pass":
        queue.dispatch_pass()
    elif dispatcher == "job":
        jobs.dispatch()
    assert leases.lease_of(task).phase == "apply"
    assert leases.lease_of(task).slot.pod_id == pod.pk


@pytest.mark.django_db(transaction=True)
def test_duplicate_jobs_do_the_work_once():
    pool = make_pool()
    task = make_task()
    make_pod(pool)
    results = race([jobs.dispatch] * 4 + [jobs.controller_pass] * 2)
    assert not [r for r in results if isinstance(r, Exception)], results
    assert Lease.objects.filter(task=task).count() == 1


def test_slots_beyond_what_pool_and_agent_offer_take_no_work():
    pool = make_pool(slots_per_pod=3)
    pod = make_pod(pool)
    Pool.objects.update(slots_per_pod=1)
    tasks = [make_task(make_workspace()) for _ in range(2)]
    assert [leases.lease_of(task) is not None for task in tasks] == [True, False]
    assert "free slot" in tasks[1].waiting_reason
    Pool.objects.update(slots_per_pod=3)
    ManagedPod.objects.filter(pk=pod.pk).update(slot_limit=2)
    assert queue.dispatch_pass() == 1


def test_an_agents_own_build_is_a_version_like_any_other():
    pod = ManagedPod(
        engines=[
            {"engine": "terraform", "version": version}
            for version in ("1.11.4", "1.12.0-rc1", "our-own-build")
        ]
    )
    assert newest_version(pod, "terraform") == "1.11.4"
    pod.engines = pod.engines[2:]
    assert newest_version(pod, "terraform") == "our-own-build"


def test_slots_that_differ_from_their_leases_are_repaired(admin):
    make_pod(make_pool(slots_per_pod=2))
    task = make_task()
    lease = leases.lease_of(task)
    Lease.objects.filter(pk=lease.pk).update(state="ended")
    assert leases.repair_slots() == 1
    lease.slot.refresh_from_db()
    assert (lease.slot.status, lease.slot.task) == ("idle", None)
    Lease.objects.filter(pk=lease.pk).update(state="live")
    assert leases.repair_slots() == 1
    lease.slot.refresh_from_db()
    assert (lease.slot.status, lease.slot.task) == ("running", task)
    assert leases.repair_slots() == 0
    cancel_task(actor=admin, task_id=task.pk)


@pytest.mark.parametrize(
    ("phase", "status", "wrong"),
    [
        ("plan", "running", {"status": "reserved"}),
        ("warmup", "reserved", {"status": "running"}),
        ("hold", "reserved", {"status": "running"}),
        ("apply", "running", {"status": "reserved"}),
        ("apply", "running", {"task_type": "drift_check"}),
    ],
)
@pytest.mark.parametrize("state", ["live", "ending"])
def test_slots_have_the_status_and_type_of_their_lease(phase, status, wrong, state):
    make_pod(make_pool())
    task = make_task()
    lease = leases.lease_of(task)
    Lease.objects.filter(pk=lease.pk).update(phase=phase, state=state)
    slots = PodSlot.objects.filter(pk=lease.slot_id)
    slots.update(status=status)
    assert leases.repair_slots() == 0
    slots.update(**wrong)
    assert leases.repair_slots() == 1
    assert list(slots.values_list("status", "task", "task_type")) == [(status, task.pk, task.type)]
    assert leases.repair_slots() == 0


def test_slots_whose_tasks_were_exchanged_are_repaired():
    make_pod(make_pool())
    one, two = (leases.lease_of(make_task()) for _ in range(2))
    Lease.objects.filter(pk=one.pk).update(state="ended")
    Lease.objects.filter(pk=two.pk).update(slot=one.slot)
    Lease.objects.filter(pk=one.pk).update(slot=two.slot, state="live")
    assert leases.repair_slots() == 2
    for lease in (one, two):
        lease.refresh_from_db()
        assert lease.slot.task_id == lease.task_id
    assert leases.repair_slots() == 0
