"""What lies ready for a plan that waits: where it is made, how it is tried again, how it ends."""

from dataclasses import replace

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from pods_app import jobs, leases, queue
from pods_app.incarnation import installation
from pods_app.models import Lease, ManagedPod, PodSlot, Pool, WorkDirectory
from pods_app.services import lose_pod
from pods_app.warmups import expire_pass, warm_pass
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, NotPermitted, StaleLease
from tasks_app.models import Event, Task
from tasks_app.services.tasks import cancel_task, confirm_task, discard_task
from tasks_app.services.warmups import warm_again
from tasks_app.states import WARMUP_TRANSITIONS, Status, WarmupStatus
from tests.support.factories import (
    PLAN_HASH,
    make_admin,
    make_pod,
    make_pool,
    make_task,
    make_user,
    make_waiting_task,
    the_wish,
)
from tests.support.racing import race
from tests.support.warmups import later, let_go, report, state_of

pytestmark = pytest.mark.django_db
NONE, WARMING, READY, EXPIRED, FAILED = WarmupStatus


@pytest.fixture
def admin():
    return Actor.person(make_admin())


@pytest.fixture
def pool():
    return make_pool(name="main")


@pytest.fixture
def waiting(pool):
    """A plan that waits, cold: the agent that made it gave its slot back."""
    make_pod(pool)
    task = make_waiting_task()
    let_go(task)
    Task.objects.filter(pk=task.pk).update(warmup_retry_at=None)
    return task


@pytest.fixture
def warming(waiting):
    assert warm_pass() == 1
    return waiting


def events(task):
    found = Event.objects.filter(task=task, kind__startswith="warmup.").order_by("id")
    return [kind.removeprefix("warmup.") for kind in found.values_list("kind", flat=True)]


# --- the plan's own agent -------------------------------------------------------------------


def test_a_plan_lies_ready_where_it_was_made(pool, settings):
    pod = make_pod(pool)
    task = make_waiting_task()
    task.refresh_from_db()
    assert (task.warmup_status, task.warmup_agent_id) == (READY, pod.agent_id)
    left = task.warmup_expires_at - task.warmup_at
    assert left.total_seconds() == pytest.approx(settings.SLIPWAY.warmup_seconds, abs=1)
    assert events(task) == ["ready"]
    report(leases.lease_of(task), held=True)
    lease = leases.lease_of(task)
    assert (lease.held, lease.hold_reason, lease.restored) == (True, "", False)
    assert events(task) == ["ready"], "it was before"


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


# --- placing ----------------------------------------------------------------------------------


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
    assert events(warming) == ["ready", "reset", "warming", "ready"]


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
    PodSlot.objects.update(status="running", task=waiting)
    plan = make_task()
    assert plan.status == Status.PENDING
    PodSlot.objects.filter(slot_id=0).update(status="idle", task=None)
    assert warm_pass() == 0, "it is the plan's"
    assert queue.dispatch_pass() == 1
    PodSlot.objects.filter(slot_id=1).update(status="idle", task=None)
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


# --- how its time passes ----------------------------------------------------------------------


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
    assert events(task) == ["ready"], "a renewal changes nothing but a time"


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
    assert events(task) == ["ready", "expired", "warming"]


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


# --- failures ---------------------------------------------------------------------------------


def fail_once(task, **facts):
    assert warm_pass() == 1
    report(leases.lease_of(task), ready=False, reason="the mirror is unreachable", **facts)
    let_go_now(task)


def let_go_now(task):
    leases.end(leases.lease_of(task), actor=Actor.system("test"), reason="the agent let go")


def test_three_failures_then_the_normal_path(waiting, admin):
    for attempt in range(3):
        fail_once(waiting)
        assert warm_pass() == 0, "not at once"
        later(70)
        waiting.refresh_from_db()
        assert waiting.warmup_retry_count == attempt + 1
    assert warm_pass() == 0, "not a fourth time"
    assert state_of(waiting)[0] == FAILED
    confirm_task(actor=admin, task_id=waiting.pk, plan_hash=PLAN_HASH)
    lease = leases.lease_of(waiting)
    assert (lease.phase, lease.slot.status) == ("apply", "running")


def test_a_permanent_failure_is_not_tried_again(waiting):
    fail_once(waiting, permanent=True)
    later(86000)
    assert warm_pass() == 0
    waiting.refresh_from_db()
    assert (waiting.warmup_status, waiting.warmup_retry_at) == (FAILED, None)


def test_success_resets_the_count(waiting):
    fail_once(waiting)
    later(70)
    assert warm_pass() == 1
    report(leases.lease_of(waiting))
    waiting.refresh_from_db()
    assert (waiting.warmup_retry_count, waiting.warmup_error) == (0, "")


def test_a_person_may_have_it_tried_again(waiting, admin):
    with pytest.raises(Conflict, match="failed warm-up"):
        warm_again(actor=admin, task_id=waiting.pk)
    fail_once(waiting, permanent=True)
    with pytest.raises(NotPermitted):
        warm_again(actor=Actor.person(make_user("viewer")), task_id=waiting.pk)
    warm_again(actor=admin, task_id=waiting.pk)
    waiting.refresh_from_db()
    assert (waiting.warmup_status, waiting.warmup_retry_count) == (NONE, 0)
    assert warm_pass() == 1
    assert Event.objects.filter(task=waiting, kind="warmup.reset", user=admin.user).exists()


def test_what_kills_its_agents_again_and_again_does_so_ever_more_rarely(pool):
    make_pod(pool)
    task = make_waiting_task()
    lost = 0
    for _ in range(60):
        if warm_pass():
            report(leases.lease_of(task))
        if lease := leases.lease_of(task):
            leases.end(lease, actor=Actor.system("test"), reason="its agent is lost")
            lost += 1
        later(60)
    assert lost < 15, "60 agents a minute apart would have been lost"
    assert Task.objects.get(pk=task.pk).warmup_retry_at is not None


# --- agents that vanish -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ready", [True, False])
def test_another_agent_takes_over_at_once_when_one_is_lost(pool, admin, ready):
    make_pod(pool)
    task = make_waiting_task()
    let_go(task)
    warm_pass()
    lease = leases.lease_of(task)
    if ready:
        report(lease, held=True)
    other = make_pod(pool)
    lose_pod(lease.slot.pod_id, actor=admin, cause="silent")
    taken = leases.lease_of(task)
    assert (taken.slot.pod, taken.phase, taken.epoch) == (other, "warmup", lease.epoch + 1)
    assert state_of(task) == (WARMING, other.agent_id)
    with pytest.raises(StaleLease):
        report(lease, held=True)
    assert not leases.lease_of(task).held


@pytest.mark.django_db(transaction=True)
def test_an_agent_that_lets_go_by_itself_is_followed_by_another(pool, admin):
    from pods_app.outcomes import end_reported

    make_pod(pool)
    task = make_waiting_task()
    lease = leases.lease_of(task)
    other = make_pod(pool)
    ManagedPod.objects.filter(pk=lease.slot.pod_id).update(ending=True)
    end_reported(lease_id=lease.pk, epoch=lease.epoch, pod=lease.slot.pod)
    assert leases.lease_of(task).slot.pod == other


@pytest.mark.django_db(transaction=True)
def test_many_passes_at_once_give_a_plan_to_one_agent(pool):
    for _ in range(3):
        make_pod(pool)
    tasks = [make_waiting_task() for _ in range(3)]
    for _ in range(5):
        for task in tasks:
            if leases.lease_of(task):
                let_go(task)
        results = race([warm_pass] * 4)
        assert not [r for r in results if isinstance(r, Exception)], results
        for task in tasks:
            assert leases.unended(Lease.objects.filter(task=task)).count() == 1
            assert state_of(task)[0] == WARMING


# --- people -----------------------------------------------------------------------------------


def test_confirming_in_the_middle_of_a_warm_up_promotes_it(warming, admin):
    lease = leases.lease_of(warming)
    confirm_task(actor=admin, task_id=warming.pk, plan_hash=PLAN_HASH)
    lease.refresh_from_db()
    assert (lease.phase, lease.state, lease.slot.status) == ("apply", "live", "running")
    report(lease, held=True)
    lease.refresh_from_db()
    assert (lease.phase, lease.held) == ("apply", True)
    report(lease, ready=False, reason="its process died")
    lease.refresh_from_db()
    assert (lease.state, lease.held, lease.hold_reason) == ("live", False, "its process died")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ready", [True, False])
def test_confirming_races_the_report(pool, admin, ready):
    make_pod(pool)
    for _ in range(8):
        task = make_waiting_task()
        let_go(task)
        warm_pass()
        lease = leases.lease_of(task)
        results = race(
            [
                lambda t=task: confirm_task(actor=admin, task_id=t.pk, plan_hash=PLAN_HASH),
                lambda lease=lease: report(lease, ready=ready, reason="test"),
            ]
        )
        assert not [r for r in results if isinstance(r, Exception)], results
        lease.refresh_from_db()
        # Confirmed first: it applies. Failed first: the agent lets go, and the apply follows.
        assert (lease.phase, lease.state) in {("apply", "live")} | (
            set() if ready else {("warmup", "ending")}
        )
        cancel_task(actor=admin, task_id=task.pk)
        leases.end(leases.lease_of(task), actor=admin, reason="next round")


@pytest.mark.parametrize("call", [discard_task, cancel_task])
def test_nothing_lies_ready_for_a_task_that_is_over(warming, admin, call):
    call(actor=admin, task_id=warming.pk)
    warming.refresh_from_db()
    assert (warming.warmup_status, warming.warmup_agent_id) == (NONE, None)
    assert leases.lease_of(warming).state == "ending"
    report(leases.lease_of(warming), held=True)  # on its way before
    assert state_of(warming) == (NONE, None)
    assert events(warming) == ["ready", "reset", "warming"], "its own end says all"


def test_a_confirmed_task_keeps_what_a_person_was_told(pool, admin):
    pod = make_pod(pool)
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert state_of(task) == (READY, pod.agent_id)
    leases.end(leases.lease_of(task), actor=admin, reason="its agent is lost")
    assert state_of(task) == (NONE, None)


# --- the rest ---------------------------------------------------------------------------------


def test_the_job_does_both(waiting):
    assert jobs.warm_up() == 1
    report(leases.lease_of(waiting))
    later(2 * 86400)
    assert jobs.warm_up() == 0
    assert leases.lease_of(waiting).state == "ending"


def test_a_plans_lease_has_no_warm_up_to_report(pool):
    make_pod(pool)
    task = make_task()
    with pytest.raises(Conflict, match="no plan to be ready for"):
        report(leases.lease_of(task))


def test_the_database_knows_the_states(waiting):
    with pytest.raises(IntegrityError), transaction.atomic():
        Task.objects.filter(pk=waiting.pk).update(warmup_status="lukewarm")
    assert set(WARMUP_TRANSITIONS) == set(WarmupStatus)
