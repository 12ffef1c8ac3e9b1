"""How the pods of a freeze are deleted: some at a time, and each for itself."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.db import connection

from pods_app.cluster.client import Cluster
from pods_app.cluster.errors import Rejected, Unreachable
from pods_app.cluster.overlap import AT_ONCE
from pods_app.cluster.reconcile import reconcile_cluster
from pods_app.freeze import edges
from pods_app.freeze.edges import follow_schedules
from pods_app.leases import unended
from pods_app.models import ManagedPod, PodSlot
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, PoolKind
from tasks_app.models import Event
from tasks_app.states import Status
from tests.support.factories import make_pool, make_task, make_waiting_task
from tests.support.freezes import window_row

pytestmark = [pytest.mark.usefixtures("slipway"), pytest.mark.django_db]

PODS = 3 * AT_ONCE
#: How long those that are asked at once wait for each other; only a failure takes it, in seconds.
PATIENCE = 60


@pytest.fixture
def pool(space):
    """A pool whose pods are all there and online."""
    sizes = {"slots_per_pod": 1, "min_pods": PODS, "max_pods": PODS}
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, **sizes)
    reconcile_pods(pool)
    assert len(space.all_pods()) == PODS
    engines = [{"engine": "terraform", "version": "1.11.4"}]
    for pod in ManagedPod.objects.all():
        ManagedPod.objects.filter(pk=pod.pk).update(
            phase=PodPhase.ONLINE, agent_id=str(uuid.uuid4()), engines=engines
        )
    return pool


@pytest.fixture
def deletions(monkeypatch):
    """Called with the pod's name before each deletion; a test says what it does."""
    delete_pod = Cluster.delete_pod

    def watched(self, name, **arguments):
        watch(name)
        return delete_pod(self, name, **arguments)

    def use(function):
        nonlocal watch
        watch = function

    watch = str
    monkeypatch.setattr(Cluster, "delete_pod", watched)
    return use


def gone():
    return ManagedPod.objects.filter(phase=PodPhase.GONE)


def test_deletions_overlap_and_each_is_told_once(pool, space, deletions):
    """A deletion goes on only when as many are under way as may be at once."""
    all_at_once = threading.Barrier(AT_ONCE)
    connected = []

    def wait_for_the_others(name):
        all_at_once.wait(PATIENCE)
        connected.append(connection.connection)

    planning, waiting = make_task(), make_waiting_task()
    deletions(wait_for_the_others)
    window_row(pool)
    assert follow_schedules() == 1
    assert space.all_pods() == []
    assert connected == [None] * PODS, "who asks the cluster does not use the database"
    assert gone().count() == Event.objects.filter(kind="pod.gone").count() == PODS
    assert set(gone().values_list("phase_reason", flat=True)) == {
        "deleted by the freeze quarter end"
    }
    assert not unended().exists() and not PodSlot.objects.exclude(status="idle").exists()
    for task, status in ((planning, Status.PENDING), (waiting, Status.APPLY_PENDING)):
        task.refresh_from_db()
        assert task.status == status
    assert Event.objects.filter(kind="lease.ended").count() == 2


@pytest.mark.parametrize("error", [Rejected("no"), Unreachable("500"), ValueError("a defect")])
def test_one_that_cannot_be_deleted_stops_no_other_and_is_tried_again(
    pool, space, deletions, error, caplog
):
    def fail(name):
        if name == "pool-0":
            raise error

    deletions(fail)
    window_row(pool)
    follow_schedules()
    assert [pod["metadata"]["name"] for pod in space.all_pods()] == ["pool-0"]
    assert gone().count() == PODS - 1
    assert "pool-0" in caplog.text
    deletions(str)
    follow_schedules()
    assert space.all_pods() == []
    assert gone().count() == Event.objects.filter(kind="pod.gone").count() == PODS


def test_a_silent_cluster_is_not_asked_for_every_pod(pool, space, deletions):
    """Work is taken away all the same: agents are told with their leases."""
    asked = []

    def silent(name):
        asked.append(name)
        raise Unreachable("The cluster's API gives no answer.")

    task = make_task()
    deletions(silent)
    window_row(pool)
    follow_schedules()
    assert AT_ONCE <= len(asked) <= 2 * AT_ONCE
    assert not gone().exists()
    task.refresh_from_db()
    assert task.status == Status.PENDING
    assert unended().get().state == "ending", "until its agent has reported, or its pod is gone"
    deletions(str)
    follow_schedules()
    assert space.all_pods() == [] and gone().count() == PODS
    assert not unended().exists()


def test_a_reconciliation_in_between_leaves_the_work_to_the_freeze(pool, space, monkeypatch):
    """It finds the pods missing before the freeze has taken their work away."""
    cut, overtaken = edges.cut, []

    def cut_late(lease_id, **arguments):
        overtaken.extend(reconcile_cluster([stale]))
        return cut(lease_id, **arguments)

    task = make_task()
    stale = type(pool).objects.get(pk=pool.pk)  # read while it was open
    monkeypatch.setattr(edges, "cut", cut_late)
    window_row(pool)
    follow_schedules()
    task.refresh_from_db()
    assert (task.status, task.plan_attempts) == (Status.PENDING, 0), "no failed attempt"
    assert all(change.action != "gone" for change in overtaken)
    reasons = set(gone().values_list("phase_reason", flat=True))
    assert reasons == {"deleted by the freeze quarter end"} and gone().count() == PODS
