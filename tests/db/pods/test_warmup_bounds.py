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
from tasks_app.services.warmups import FREE_LEASES, warm_again
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


def test_a_plan_that_kills_every_agent_is_tried_a_bounded_number_of_times_a_day():
    """Ready each time, and its agent lost a second later: no failure of the warm-up itself."""
    make_pod(make_pool())
    task = make_waiting_task()
    end(task)
    begun = 0
    for _ in range(24 * 60):
        if warm_pass():
            begun += 1
            report(leases.lease_of(task), held=True)
            end(task)
        later(60)
    assert FREE_LEASES < begun <= FREE_LEASES + 34
    assert warm_pass() == 0
