"""A plan lies ready on an agent that falls silent: it counts as ready no longer than it may."""

from dataclasses import replace
from datetime import timedelta

import pytest

from agents_app.health import check_agents
from agents_app.models import Listening
from pods_app import leases
from pods_app.controller import controller_pass
from pods_app.forecast import forecast_of
from pods_app.models import ManagedPod, WorkDirectory
from pods_app.states import ApplyPath
from pods_app.warmups import expire_pass, warm_pass
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status, WarmupStatus
from tests.support.factories import PLAN_HASH, make_pod, make_waiting_task, the_wish
from tests.support.warmups import SYSTEM, events_of, let_go, report, state_of

pytestmark = pytest.mark.django_db
#: An agent is in doubt after seconds, and lost after minutes.
HEARTBEAT, LOST = 1, 600


@pytest.fixture(autouse=True)
def patient(settings):
    settings.SLIPWAY = replace(
        settings.SLIPWAY, heartbeat_seconds=HEARTBEAT, agent_lost_seconds=LOST
    )


def pass_in_silence(pod, seconds):
    """Let time pass in which everybody but this agent is heard."""
    since = ClockTimestamp() - timedelta(seconds=seconds)
    Listening.objects.update_or_create(
        defaults={"since": ClockTimestamp() - timedelta(days=1), "seen_at": ClockTimestamp()}
    )
    ManagedPod.objects.exclude(pk=pod.pk).update(last_heartbeat=ClockTimestamp())
    ManagedPod.objects.filter(pk=pod.pk).update(last_heartbeat=since)


@pytest.fixture
def silent(pool):
    """A pod whose agent holds a plan's apply, and is in doubt; the hold's time is over."""
    pod = make_pod(pool)
    task = make_waiting_task()
    report(leases.lease_of(task), held=True)
    pass_in_silence(pod, seconds=LOST / 2)
    Task.objects.update(warmup_expires_at=ClockTimestamp() - timedelta(seconds=1))
    assert expire_pass() == 1
    assert check_agents() == [], "nobody declares it lost yet"
    return pod


@pytest.fixture
def task(silent):
    return Task.objects.select_related("workspace", "plan", "placement__pool").get()


@pytest.fixture
def other(pool, silent):
    """Another agent with room."""
    return make_pod(pool)


def lose(pod):
    """What the controller does a while later, pass by pass: no event helps."""
    pass_in_silence(pod, seconds=LOST + 1)
    controller_pass()
    pod.refresh_from_db()
    assert pod.phase == "lost"


def test_it_does_not_count_as_ready(task, silent, other):
    assert state_of(task)[0] == WarmupStatus.EXPIRED
    found = forecast_of(task)
    assert found.path != ApplyPath.HELD
    assert found.waits == "Waits for its former agent to let go"
    assert f"as soon as agent {silent.pod_name} let go" in found.why_not[-1].sentence
    assert warm_pass() == 0, "its Terraform may still live: no second one is started"
    assert the_wish(silent).directive == "end"


def test_what_its_agent_still_says_of_it_changes_nothing(task, silent):
    lease = leases.lease_of(task)
    report(lease, held=True)
    assert state_of(task)[0] == WarmupStatus.EXPIRED
    assert leases.lease_of(task).state == "ending"


def test_it_is_made_ready_elsewhere_once_its_agent_is_lost(task, silent, other):
    lose(silent)
    assert state_of(task) == (WarmupStatus.WARMING, other.agent_id)
    assert events_of(task) == ["ready", "expired", "warming"]


@pytest.mark.parametrize("seconds", [0, LOST / 2])
def test_it_is_made_ready_where_the_agent_is_heard_though_another_has_the_directory(pool, seconds):
    pod = make_pod(pool)
    task = make_waiting_task()
    WorkDirectory.objects.create(task=task, pod=pod, path="/x")
    let_go(task)
    other = make_pod(pool)
    pass_in_silence(pod, seconds)
    assert warm_pass() == 1
    assert state_of(task) == (WarmupStatus.WARMING, (other if seconds else pod).agent_id)


def test_it_is_made_ready_at_once_when_its_agent_comes_back_and_lets_go(task, silent):
    lease = leases.lease_of(task)
    pass_in_silence(silent, seconds=0)
    leases.end(lease, actor=SYSTEM, reason="the agent let go")
    assert warm_pass() == 1
    assert state_of(task) == (WarmupStatus.WARMING, silent.agent_id)


@pytest.mark.parametrize("lets_go", [True, False])
def test_confirmed_it_starts_when_its_agent_let_go_or_is_lost(task, silent, other, admin, lets_go):
    former = leases.lease_of(task)
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    controller_pass()
    task.refresh_from_db()
    assert task.status == Status.CONFIRMED
    assert task.waiting_reason == "Waits for its former agent to let go"
    assert leases.lease_of(task) == former, "it is not given to an agent that may be dead"
    former.refresh_from_db()
    assert (former.phase, former.state) == ("hold", "ending"), "nor confirmed there"

    if lets_go:
        leases.end(former, actor=admin, reason="the agent let go")
        ManagedPod.objects.filter(pk=silent.pk).update(draining=True)
        controller_pass()
    else:
        lose(silent)
    lease = leases.lease_of(task)
    assert (lease.phase, lease.slot.pod, lease.epoch) == ("apply", other, former.epoch + 1)
    task.refresh_from_db()
    assert task.waiting_reason == f"Starts on agent {other.pod_name}"


def test_confirmed_before_it_expired_it_is_placed_again_when_its_agent_is_lost(pool, admin):
    pod = make_pod(pool)
    task = make_waiting_task()
    report(leases.lease_of(task), held=True)
    pass_in_silence(pod, seconds=LOST / 2)
    other = make_pod(pool)
    assert "missed its last heartbeats" in forecast_of(task).sentence
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert leases.lease_of(task).slot.pod == pod, "it may be back in a second"
    lose(pod)
    lease = leases.lease_of(task)
    assert (lease.phase, lease.slot.pod, lease.epoch) == ("apply", other, 2)
