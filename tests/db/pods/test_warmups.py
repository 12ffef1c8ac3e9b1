"""What lies ready for a plan that waits: where it is made, and for how long it counts."""

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app import leases, queue
from pods_app.incarnation import installation
from pods_app.models import ManagedPod, Pool, WorkDirectory
from pods_app.warmups import expire_pass, warm_pass
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status, WarmupStatus
from tests.support.factories import (
    PLAN_HASH,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    the_wish,
)
from tests.support.warmups import events_of, later, let_go, report, state_of

pytestmark = pytest.mark.django_db
NONE, WARMING, READY, EXPIRED, FAILED = WarmupStatus


# --- the plan's own agent -------------------------------------------------------------------------


def test_a_plan_lies_ready_where_it_was_made(pool, settings):
    pod = make_pod(pool)
    task = make_waiting_task()
    task.refresh_from_db()
    assert (task.warmup_status, task.warmup_agent_id) == (READY, pod.agent_id)
    left = task.warmup_expires_at - task.warmup_at
    assert left.total_seconds() == pytest.approx(settings.SLIPWAY.warmup_seconds, abs=1)
    assert events_of(task) == ["ready"]
    report(leases.lease_of(task), held=True)
    lease = leases.lease_of(task)
    assert (lease.held, lease.hold_reason, lease.restored) == (True, "", False)
    assert events_of(task) == ["ready"], "it was before"


def test_a_damaged_directory_is_a_failure_and_gives_the_slot_back(pool):
    make_pod(pool)
    task = make_waiting_task()
    lease = leases.lease_of(task)
    report(lease, ready=False, reason="plan.out was changed and the bundle is gone")
    task.refresh_from_db()
    assert (task.warmup_status, task.warmup_retry_count) == (FAILED, 1)
    assert task.warmup_error == "plan.out was changed and the bundle is gone"
    assert leases.lease_of(task).state == "ending"
    report(lease, ready=False, reason="again")  # its reply was lost
    task.refresh_from_db()
    assert task.warmup_retry_count == 1


# --- placing --------------------------------------------------------------------------------------


def test_a_cold_plan_is_warmed_in_a_reserved_slot(warming):
    lease = leases.lease_of(warming)
    assert (lease.phase, lease.slot.status, lease.epoch) == ("warmup", "reserved", 2)
    assert the_wish(lease.slot.pod).directive == "warmup"
    assert state_of(warming) == (WARMING, lease.slot.pod.agent_id)
    assert warm_pass() == 0, "one at a time"
    report(lease, restored=True, held=True)
    lease.refresh_from_db()
    assert (lease.phase, lease.slot.status, lease.held, lease.restored) == (
        "hold",
        "reserved",
        True,
        True,
    )
    assert the_wish(lease.slot.pod).directive == "hold"
    assert state_of(warming)[0] == READY
    assert events_of(warming) == ["ready", "reset", "warming", "ready"]


def test_it_goes_where_the_directory_is_then_the_providers_then_to_the_emptiest(pool, waiting):
    provider = "registry.terraform.io/hashicorp/time 0.14.2"
    waiting.plan.providers = [provider]
    waiting.plan.save()

    def goes_to():
        assert warm_pass() == 1
        name = leases.lease_of(waiting).slot.pod.pod_name
        let_go(waiting)
        Task.objects.update(warmup_retry_at=None)
        return name

    planner = ManagedPod.objects.get()
    empty, equipped = make_pod(pool), make_pod(pool)
    full = make_task()  # on the fullest, which is the first by name
    assert leases.lease_of(full).slot.pod == planner
    assert goes_to() == min(empty.pod_name, equipped.pod_name)
    ManagedPod.objects.filter(pk=equipped.pk).update(providers=["other/x 1.0.0", provider])
    assert goes_to() == equipped.pod_name
    directory = WorkDirectory.objects.create(task=waiting, pod=planner, path="/x")
    assert goes_to() == planner.pod_name
    directory.state = "deleting"
    directory.save()
    ManagedPod.objects.exclude(pk=planner.pk).update(draining=True)
    assert warm_pass() == 0, "a new directory would lie where one is being deleted"


def test_a_plan_the_server_does_not_have_is_warmed_only_where_it_lies(pool, waiting):
    waiting.plan.bundle = None
    waiting.plan.save()
    make_pod(pool)
    assert warm_pass() == 0
    pod = ManagedPod.objects.latest("id")
    WorkDirectory.objects.create(task=waiting, pod=pod, path="/x")
    assert warm_pass() == 1
    assert leases.lease_of(waiting).slot.pod == pod


@pytest.mark.parametrize("cause", ["version", "draining", "frozen", "cold", "doubt", "confirmed"])
def test_what_keeps_a_plan_cold(waiting, admin, cause):
    from pods_app.models import Installation

    match cause:
        case "version":
            ManagedPod.objects.update(engines=[{"engine": "terraform", "version": "1.0.0"}])
        case "draining":
            ManagedPod.objects.update(draining=True)
        case "frozen":
            Pool.objects.update(frozen=True)
        case "cold":
            later(2 * 86400)
        case "doubt":
            Installation.objects.update_or_create(singleton=True, defaults={"doubt": "restored"})
        case "confirmed":
            confirm_task(actor=admin, task_id=waiting.pk, plan_hash=PLAN_HASH)
    assert warm_pass() == 0
    assert state_of(waiting)[0] == NONE


def test_no_warm_up_takes_a_slot_that_somebody_waits_for(pool, waiting):
    running = [make_task() for _ in range(pool.slots_per_pod)]
    plan = make_task()
    assert plan.status == Status.PENDING
    let_go(running[0])
    assert warm_pass() == 0, "it is the plan's"
    assert queue.dispatch_pass() == 1
    let_go(running[1])
    assert warm_pass() == 1


def test_a_reservation_that_yielded_is_not_warmed_while_others_wait(settings, admin):
    pool = make_pool(slots_per_pod=1)
    make_pod(pool)
    task = make_waiting_task()
    plan = make_task()
    settings.SLIPWAY = replace(settings.SLIPWAY, reservation_yield_seconds=0)
    queue.dispatch_pass()
    lease = leases.lease_of(task)
    assert (lease.state, state_of(task)[0]) == ("ending", NONE)
    assert warm_pass() == 0
    leases.end(lease, actor=admin, reason="the agent let go")
    assert warm_pass() == 0
    queue.dispatch_pass()
    plan.refresh_from_db()
    assert plan.status == Status.PLANNING
    assert warm_pass() == 0, "no room"


def test_the_oldest_are_warmed_first_and_not_all_at_once(pool, settings):
    settings.SLIPWAY = replace(settings.SLIPWAY, warmups_per_pass=2)
    make_pod(pool)
    tasks = [make_waiting_task() for _ in range(3)]
    for task in tasks:
        let_go(task)
    assert warm_pass() == 2
    assert [state_of(task)[0] for task in tasks] == [WARMING, WARMING, NONE]
    assert warm_pass() == 1


def test_with_nothing_to_do_one_query_is_asked(pool, django_assert_num_queries):
    make_pod(pool)
    make_waiting_task()
    with django_assert_num_queries(1):
        assert warm_pass() == 0


def test_what_finds_no_room_costs_a_constant_number_of_queries(pool):
    make_pod(pool)
    installation()
    tasks = [make_waiting_task() for _ in range(3)]

    def cost(cold):
        for task in tasks[:cold]:
            if leases.lease_of(task):
                let_go(task)
        ManagedPod.objects.update(draining=True)
        with CaptureQueriesContext(connection) as queries:
            assert warm_pass() == 0
        return len(queries)

    assert cost(1) == cost(3)


# --- how its time passes --------------------------------------------------------------------------


def beats():
    ManagedPod.objects.update(last_heartbeat=leases.ClockTimestamp())


def test_what_an_agent_keeps_is_renewed(pool, settings):
    make_pod(pool)
    task = make_waiting_task()
    for _ in range(4):
        later(settings.SLIPWAY.warmup_seconds * 0.7)
        beats()
        assert expire_pass() == 0
    assert state_of(task)[0] == READY
    assert events_of(task) == ["ready"], "a renewal changes nothing but a time"


def test_what_nobody_renews_expires_and_is_warmed_again(pool, settings):
    pod = make_pod(pool)
    task = make_waiting_task()
    ManagedPod.objects.update(last_heartbeat=None)
    later(settings.SLIPWAY.warmup_seconds + 1)
    assert expire_pass() == 1
    assert state_of(task)[0] == EXPIRED
    assert leases.lease_of(task).state == "ending"
    assert expire_pass() == 0
    other = make_pod(pool)
    leases.end(leases.lease_of(task), actor=Actor.system("test"), reason="gone")
    ManagedPod.objects.filter(pk=pod.pk).update(phase="lost")
    assert warm_pass() == 1
    assert state_of(task) == (WARMING, other.agent_id)
    assert events_of(task) == ["ready", "expired", "warming"]


def test_nothing_is_kept_warm_for_ever(waiting, settings):
    assert warm_pass() == 1
    report(leases.lease_of(waiting))
    later(settings.SLIPWAY.keep_warm_seconds + 1)
    beats()
    assert expire_pass() == 1
    assert leases.lease_of(waiting).state == "ending"
    assert state_of(waiting)[0] == NONE
    let_go(waiting)
    assert warm_pass() == 0


def test_a_warm_up_that_never_ends_is_a_failure(warming, settings):
    later(settings.SLIPWAY.warmup_seconds + 1)
    assert expire_pass() == 1
    assert state_of(warming)[0] == FAILED
    assert leases.lease_of(warming).state == "ending"
