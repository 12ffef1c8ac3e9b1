"""Nothing loops: whatever becomes of attempts to warm a plan, and however long it waits."""

from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pods_app import leases
from pods_app.warmups import expire_pass, warm_pass
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.warmups import FREE_LEASES, SETTLED_SECONDS, warm_again
from tasks_app.states import WARMUP_ATTEMPTS, Status, WarmupStatus
from tests.support.factories import make_admin, make_pod, make_pool, make_waiting_task
from tests.support.warmups import later, let_go, report

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system("test")
#: What becomes of an attempt: the agent reports a failure, a permanent one, vanishes, or is never
#: heard of again.
FAILURES = ("transient", "permanent", "vanished", "silent")
OUTCOMES = st.sampled_from([*FAILURES, *FAILURES, "ready", "ready, then vanished", "asked to end"])


def end(task):
    """Whatever agent still has it lets go."""
    if lease := leases.lease_of(task):
        leases.end(lease, actor=SYSTEM, reason="gone")


def become(task, outcome):
    lease = leases.lease_of(task)
    match outcome:
        case "transient" | "permanent":
            report(lease, ready=False, reason="test", permanent=outcome == "permanent")
        case "silent":
            later(2000)
            expire_pass()
        case "ready" | "ready, then vanished":
            report(lease, held=True)
        case "asked to end":
            let_go(task)
    if outcome != "ready":
        end(task)


@given(outcomes=st.lists(OUTCOMES, min_size=4, max_size=12))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_attempts_that_fail_are_three_in_a_row_at_most(outcomes):
    with transaction.atomic():
        live_through(outcomes)
        transaction.set_rollback(True)


def live_through(outcomes):
    make_pod(make_pool())
    task = make_waiting_task()
    let_go(task)
    failed = 0
    for outcome in outcomes:
        later(4000)  # longer than any pause; the plan is kept warm for a day
        Task.objects.update(keep_warm_until=ClockTimestamp() + timedelta(days=1))
        begun = warm_pass()
        if failed >= WARMUP_ATTEMPTS:
            assert not begun, "a fourth attempt"
        if not begun:
            continue
        failed = failed + 1 if outcome in FAILURES else 0 if "ready" in outcome else failed
        if outcome == "permanent":
            failed = WARMUP_ATTEMPTS
        become(task, outcome)
        task.refresh_from_db()
        assert task.warmup_retry_count <= WARMUP_ATTEMPTS
        assert task.status == Status.APPLY_PENDING, "the plan stays confirmable"
        if outcome == "ready":
            let_go(task)
    task.refresh_from_db()
    if failed >= WARMUP_ATTEMPTS:
        assert (task.warmup_status, task.warmup_retry_at) == (WarmupStatus.FAILED, None)
        warm_again(actor=Actor.person(make_admin()), task_id=task.pk)
        assert warm_pass() == 1, "a person gets a new round"
    elif task.warmup_status != WarmupStatus.FAILED:
        with pytest.raises(Conflict):
            warm_again(actor=Actor.person(make_admin()), task_id=task.pk)


#: How far time goes on in one step of a history, in seconds.
STEP = 180


def live(hours, ready_steps):
    """Let a plan's agent be lost each time it lay ready for so many steps.

    Returns how many warm-ups began, and after how many steps it did not lie ready.
    """
    make_pod(make_pool())
    task = make_waiting_task()
    end(task)
    begun, cold, left = 0, 0, 0
    for _ in range(hours * 3600 // STEP):
        if not left and warm_pass():
            begun += 1
            report(leases.lease_of(task), held=True)
            left = ready_steps
        cold += not left
        later(STEP)
        if left:
            left -= 1
            if not left:
                end(task)
    return begun, cold


@pytest.mark.parametrize("ready_steps", [1, SETTLED_SECONDS // STEP])
def test_a_plan_that_kills_every_agent_is_tried_a_bounded_number_of_times_a_day(ready_steps):
    """Ready each time, and its agent lost soon after: no failure of the warm-up itself."""
    begun, _ = live(24, ready_steps)
    assert FREE_LEASES < begun <= FREE_LEASES + 34
    assert warm_pass() == 0, "its day is over"


def test_what_lay_ready_for_long_is_warmed_again_without_a_pause():
    begun, cold = live(4, ready_steps=SETTLED_SECONDS // STEP + 1)
    assert begun > 3 * FREE_LEASES
    assert cold == 0, "it was always ready"
