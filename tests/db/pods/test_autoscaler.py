"""What a pool wants, read from the database, stored, and shown."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app.autoscaler.decisions import decide
from pods_app.autoscaler.demand import scalings
from pods_app.autoscaler.desired import Demand
from pods_app.models import ManagedPod, PodSlot, Pool, ScalingDecision
from pods_app.pools import create_pool, update_pool
from pods_app.services import lose_pod
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.retention import purge
from tasks_app.services.tasks import confirm_task
from tests.support.factories import (
    make_admin,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    make_workspace,
)
from tests.support.freezes import set_frozen
from tests.support.racing import race
from tests.support.warmups import let_go

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system("test")


@pytest.fixture
def pool():
    return make_pool(name="local", kind=PoolKind.LOCAL, min_pods=0, scale_down_delay_seconds=60)


def wanted(pool):
    pool.refresh_from_db()
    return scalings([pool])[pool.pk]


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"min_pods": 11}, "max_pods", "keeps 11 pods and may have 10 at most"),
        ({"max_pods": 0}, "max_pods", "raise the maximum, or lower the minimum"),
        ({"scale_down_delay_seconds": 1800}, "scale_down_delay_seconds", "less than the 1800 s"),
        ({"slots_per_pod": 0}, "slots_per_pod", "at least 1 slot"),
    ],
)
def test_sizes_that_contradict_are_refused_with_the_field(fields, field, words):
    actor = Actor.person(make_admin())
    with pytest.raises(InvalidInput, match=words) as error:
        create_pool(actor=actor, name="new", **fields)
    assert error.value.field == field
    with pytest.raises(InvalidInput, match=words):
        update_pool(actor=actor, pool=make_pool(), **fields)
    assert not Pool.objects.filter(**fields).exists()


def test_only_tasks_that_lack_nothing_but_a_slot_start_a_pod(pool):
    workspace = make_workspace()
    assert wanted(pool).desired == 0
    make_task(workspace)
    make_task(workspace)  # behind the first
    locked = make_task()
    type(locked.workspace).objects.filter(pk=locked.workspace.pk).update(
        locked_at=ClockTimestamp(), lock_reason="audit"
    )
    assert wanted(pool).demand == Demand(startable=1)
    make_task(workspace, type="plan")  # runs beside them
    assert wanted(pool).demand == Demand(startable=2)
    assert wanted(pool).desired == 1


def test_each_task_counts_once_on_its_way(pool):
    pod = make_pod(pool)
    task = make_task()
    assert wanted(pool).demand == Demand(running=1)
    task = make_waiting_task()
    assert wanted(pool).demand == Demand(running=1, kept_warm=1)
    assert wanted(pool).staying == {pod.pod_name: "Runs 1 task and keeps 1 apply ready"}
    lose_pod(pod.pk, actor=SYSTEM, cause="silent")
    assert not PodSlot.objects.exclude(status="idle").exists()
    # The plan begins anew; what lies ready nowhere is to be made ready again, from zero pods.
    assert wanted(pool).demand == Demand(startable=1, kept_warm=1)
    task.refresh_from_db()
    confirm_task(actor=Actor.person(make_admin()), task_id=task.pk, plan_hash=task.plan.plan_hash)
    assert wanted(pool).demand == Demand(startable=1, confirmed=1)
    assert wanted(pool).desired == 1


def test_a_plan_that_is_not_kept_warm_any_more_wants_nothing(pool):
    task = make_waiting_task()
    let_go(task)
    ManagedPod.objects.update(phase=PodPhase.GONE)
    assert wanted(pool).demand == Demand(kept_warm=1)
    Task.objects.update(keep_warm_until=ClockTimestamp() - timedelta(seconds=1))
    assert wanted(pool).demand == Demand()


def test_a_frozen_pool_wants_nothing_and_then_what_must_be_warmed(pool):
    task = make_waiting_task()
    let_go(task)
    ManagedPod.objects.update(phase=PodPhase.GONE)
    Pool.objects.update(min_pods=2)
    set_frozen(pool, True)
    frozen = wanted(pool)
    assert (frozen.desired, frozen.staying) == (0, {})
    assert frozen.reason.startswith("Pool local is frozen until ")
    Pool.objects.update(min_pods=0)
    set_frozen(pool, False)
    assert wanted(pool).desired == 1


def test_pods_that_never_come_online_are_no_supply(pool):
    make_pod(pool)
    make_pod(pool)
    late = ManagedPod.objects.first()
    ManagedPod.objects.filter(pk=late.pk).update(
        phase=PodPhase.STARTING, last_launch_at=ClockTimestamp(), host="node-1"
    )
    assert (wanted(pool).supply, wanted(pool).starting) == (2, 1)
    ManagedPod.objects.filter(pk=late.pk).update(
        last_launch_at=ClockTimestamp() - timedelta(hours=1)
    )
    assert (wanted(pool).supply, wanted(pool).starting) == (1, 0)
    ManagedPod.objects.filter(pk=late.pk).update(host="")  # it waits for a node
    assert (wanted(pool).supply, wanted(pool).starting) == (2, 1)


def test_an_idle_pod_says_how_long_it_stays(pool):
    pod = make_pod(pool)
    assert wanted(pool).staying[pod.pod_name].endswith("; ends after 1 min without work")
    PodSlot.objects.update(updated_at=ClockTimestamp() - timedelta(seconds=61))
    assert wanted(pool).staying == {}


def test_changes_alone_are_stored_with_their_inputs(pool):
    decide([pool], dry_run=True)
    assert not ScalingDecision.objects.exists()
    decide([pool])
    decide([pool])
    make_task()
    decide([pool])
    decide([pool])
    newest, first = ScalingDecision.objects.all()
    assert (first.before, first.desired, first.reason) == (None, 0, "No work")
    assert (newest.before, newest.desired) == (0, 1)
    assert newest.reason == "1 slot wanted (1 waiting to start), 3 to a pod: 1 pod"
    assert newest.inputs["demand"]["startable"] == 1
    assert newest.inputs["limits"]["max_pods"] == 10
    assert decide([make_pool(kind=PoolKind.STATIC)]) == {}


def test_old_decisions_go_but_what_a_pool_wants_stays(pool):
    for number in range(3):
        Pool.objects.update(min_pods=number)
        pool.refresh_from_db()
        decide([pool])
    ScalingDecision.objects.update(at=ClockTimestamp() - timedelta(days=1000))
    assert purge(dry_run=True)["scaling_decisions"] == 2
    assert purge()["scaling_decisions"] == 2
    assert ScalingDecision.objects.get().desired == 2


def test_many_pools_cost_as_many_queries_as_one(pool):
    def cost():
        pools = list(Pool.objects.all())
        with CaptureQueriesContext(connection) as captured:
            decide(pools)
        return len(captured)

    make_task()
    make_waiting_task(make_workspace())
    decide([pool])
    few = cost()
    for _ in range(5):
        other = make_pool(kind=PoolKind.LOCAL, min_pods=0)
        for _ in range(3):
            make_pod(other)
        make_task()
    decide(Pool.objects.all())
    assert cost() == few <= 12


def test_the_api_and_the_page_say_what_is_wanted_and_why(pool, client):
    pod = make_pod(pool)
    make_waiting_task()
    decide([pool])
    client.force_login(make_admin())
    scaling = client.get(f"/api/v1/pools/{pool.pk}/").json()["scaling"]
    assert scaling == {
        "desired": 1,
        "reason": "1 slot wanted (1 kept warm), 3 to a pod: 1 pod",
        "supply": 1,
        "starting": 0,
        "staying": [{"pod": pod.pod_name, "reason": "Keeps 1 apply ready"}],
    }
    make_pool(kind=PoolKind.STATIC, name="by-hand")
    rows = client.get("/api/v1/pools/").json()["results"]
    assert {row["name"]: row["scaling"] for row in rows} == {"local": scaling, "by-hand": None}
    page = client.get(f"/admin/pods_app/pool/{pool.pk}/change/").content.decode()
    assert "Keeps 1 apply ready" in page
    assert "1 of 1 pod wanted" in page


@pytest.mark.django_db(transaction=True)
def test_two_at_once_store_a_change_once(pool):
    for number in range(1, 21):
        Pool.objects.update(min_pods=number % 2)
        pool.refresh_from_db()
        before = ScalingDecision.objects.count()
        results = race([lambda: decide([pool])] * 3)
        assert not [one for one in results if isinstance(one, Exception)], results
        assert ScalingDecision.objects.count() == before + 1
