"""Warm-ups that fail, whose agents vanish, whose plans people confirm or discard."""

import pytest
from django.db import IntegrityError, transaction

from pods_app import jobs, leases
from pods_app.models import Lease, ManagedPod
from pods_app.services import lose_pod
from pods_app.warmups import warm_pass
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, NotPermitted, StaleLease
from tasks_app.models import Event, Task
from tasks_app.services.tasks import cancel_task, confirm_task, discard_task
from tasks_app.services.warmups import warm_again
from tasks_app.states import WARMUP_TRANSITIONS, WarmupStatus
from tests.support.factories import (
    PLAN_HASH,
    make_pod,
    make_task,
    make_user,
    make_waiting_task,
)
from tests.support.racing import race
from tests.support.warmups import events_of, later, let_go, report, state_of

pytestmark = pytest.mark.django_db
NONE, WARMING, READY, EXPIRED, FAILED = WarmupStatus


# --- failures -------------------------------------------------------------------------------------


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


# --- agents that vanish ---------------------------------------------------------------------------


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


# --- people ---------------------------------------------------------------------------------------


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
    assert events_of(warming) == ["ready", "reset", "warming"], "its own end says all"


def test_a_confirmed_task_keeps_what_a_person_was_told(pool, admin):
    pod = make_pod(pool)
    task = make_waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert state_of(task) == (READY, pod.agent_id)
    leases.end(leases.lease_of(task), actor=admin, reason="its agent is lost")
    assert state_of(task) == (NONE, None)


# --- the rest -------------------------------------------------------------------------------------


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
