"""The forecast of an apply, held against where a confirmation really puts it."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app import leases
from pods_app.forecast import forecast_of
from pods_app.models import Installation, Lease, ManagedPod, PodSlot, WorkDirectory
from pods_app.services import drain_pod, lose_pod
from pods_app.states import ApplyPath
from pods_app.warmups import expire_pass, warm_pass
from tasks_app.actors import Actor
from tasks_app.models import Plan, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import confirm_task
from tests.support.factories import PLAN_HASH, make_admin, make_pod, make_waiting_task
from tests.support.freezes import soon
from tests.support.warmups import SYSTEM, later, let_go, report

pytestmark = pytest.mark.django_db


@pytest.fixture
def pod(pool):
    return make_pod(pool)


@pytest.fixture
def waiting(pod):
    """A plan that waits, its directory kept."""
    task = make_waiting_task()
    WorkDirectory.objects.create(task=task, pod=pod, path="/work")
    return task


def seen(task):
    task = Task.objects.select_related("workspace", "plan", "placement__pool").get(pk=task.pk)
    found = forecast_of(task)
    assert found is not None
    return found


def confirmed(task):
    """Confirm a task; returns the agent that applies it, "" if it waits for one."""
    actor = Actor.person(make_admin())
    task = confirm_task(actor=actor, task_id=task.pk, plan_hash=PLAN_HASH)
    lease = leases.lease_of(task)
    return lease.slot.pod.pod_name if lease and lease.phase == "apply" else ""


def test_nothing_is_forecast_where_nothing_waits(waiting):
    confirmed(waiting)
    waiting.refresh_from_db()
    assert forecast_of(waiting) is None


def test_held(waiting, pod):
    report(leases.lease_of(waiting), held=True)
    found = seen(waiting)
    assert (found.path, found.agent, found.waits) == (ApplyPath.HELD, pod.pod_name, "")
    assert confirmed(waiting) == found.agent


def test_kept(waiting, pod):
    report(leases.lease_of(waiting), reason="Not held: this engine does not wait at its gate.")
    found = seen(waiting)
    assert (found.path, found.agent) == (ApplyPath.KEPT, pod.pod_name)
    assert [one.sentence for one in found.why_not] == [
        "Not held: this engine does not wait at its gate."
    ]
    assert confirmed(waiting) == found.agent


def test_a_silent_agent_is_named(waiting, pod):
    ManagedPod.objects.update(last_heartbeat=ClockTimestamp() - timedelta(seconds=50))
    assert "missed its last heartbeats" in seen(waiting).sentence


def test_a_yielded_directory_is_found_again(pool, waiting, pod):
    make_pod(pool)
    let_go(waiting)
    found = seen(waiting)
    assert (found.path, found.agent) == (ApplyPath.KEPT, pod.pod_name)
    assert confirmed(waiting) == found.agent


def test_lost_then_warmed_elsewhere(pool, waiting, pod):
    other = make_pod(pool)
    lose_pod(pod.pk, actor=SYSTEM, cause="no heartbeat for 61 s")
    found = seen(waiting)
    assert (found.path, found.agent) == (ApplyPath.NORMAL, other.pod_name)
    reasons = [one.sentence for one in found.why_not]
    assert reasons[1:] == [
        f"Not kept: agent {pod.pod_name}, which has the plan's directory, is lost.",
        f"Not warmed: agent {pod.pod_name}, which had it, is lost.",
    ]
    Task.objects.update(warmup_retry_at=None)
    assert warm_pass() == 1
    assert seen(waiting).path == ApplyPath.WARMED
    assert "once its warm-up ends" in seen(waiting).sentence
    report(leases.lease_of(waiting), restored=True, held=True)
    assert seen(waiting).path == ApplyPath.HELD
    report(leases.lease_of(waiting), restored=True, reason="Not held: no memory.")
    found = seen(waiting)
    assert (found.path, found.agent) == (ApplyPath.WARMED, other.pod_name)
    assert confirmed(waiting) == found.agent


def test_a_failed_warm_up_says_so(pool, waiting, pod):
    WorkDirectory.objects.all().delete()
    report(leases.lease_of(waiting), ready=False, reason="Not held: the bundle is gone.")
    lease = leases.lease_of(waiting)
    leases.end(lease, actor=SYSTEM, reason="test")
    found = seen(waiting)
    assert (found.path, found.agent) == (ApplyPath.NORMAL, pod.pod_name)
    assert [one.sentence for one in found.why_not][2] == (
        "Not warmed: the warm-up failed (Not held: the bundle is gone) and is tried again."
    )
    assert confirmed(waiting) == found.agent


def test_without_room_it_says_for_what_it_waits(waiting, pod):
    drain_pod(actor=SYSTEM, pod_id=pod.pk, reason="test")
    let_go(waiting)
    found = seen(waiting)
    assert (found.path, found.agent) == (ApplyPath.NORMAL, "")
    assert found.waits == "Waits for an agent: none of pool main is online"
    assert "takes no new work" in found.why_not[1].sentence
    assert confirmed(waiting) == ""


def test_a_full_pool(pool, pod):
    PodSlot.objects.filter(pod=pod, slot_id__gt=0).delete()
    task = make_waiting_task()
    WorkDirectory.objects.create(task=task, pod=pod, path="/work")
    let_go(task)
    other = make_waiting_task()
    assert seen(other).path == ApplyPath.KEPT
    found = seen(task)
    assert (found.path, found.waits) == (ApplyPath.NORMAL, "Waits for a free slot in pool main")
    assert "has no free slot" in found.why_not[1].sentence
    assert confirmed(task) == ""


def test_a_plan_that_is_stored_nowhere(waiting, pod):
    Plan.objects.update(bundle=None)
    lose_pod(pod.pk, actor=SYSTEM, cause="test")
    assert seen(waiting).path is None


def test_what_stops_every_apply(waiting):
    Installation.objects.update_or_create(singleton=True, defaults={"doubt": "An older copy."})
    assert seen(waiting).waits == "An older copy."
    assert seen(waiting).path == ApplyPath.KEPT


def test_a_locked_workspace_comes_first(waiting):
    from tasks_app.services.workspaces import lock_workspace

    lock_workspace(
        actor=Actor.person(make_admin()), workspace=waiting.workspace, reason="migration"
    )
    assert "The workspace is locked by" in seen(waiting).waits


def test_a_freeze_that_comes_is_named(pool, waiting):
    soon(pool)
    found = seen(waiting)
    assert found.path == ApplyPath.KEPT
    assert found.waits.startswith("Pool main freezes at ")


def test_no_longer_kept_warm(pool, waiting, pod):
    later(200_000)
    assert expire_pass() == 1
    leases.end(leases.lease_of(waiting), actor=SYSTEM, reason="test")
    assert [one.sentence for one in seen(waiting).why_not] == [
        "Not held: the time for which it is kept warm is over."
    ]


def test_it_costs_few_queries_and_writes_nothing(pool, waiting):
    def cost():
        task = Task.objects.select_related("workspace", "plan", "placement__pool")
        loaded = task.get(pk=waiting.pk)
        with CaptureQueriesContext(connection) as captured:
            forecast_of(loaded)
        queries = captured.captured_queries
        assert all(query["sql"].lstrip().startswith("SELECT") for query in queries), queries
        return len(captured)

    before = cost()
    assert before <= 9
    for _ in range(3):
        make_pod(pool)
        make_waiting_task()
    Lease.objects.filter(task=waiting).update(held=True)
    assert cost() == before
