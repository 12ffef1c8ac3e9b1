"""Reconcile passes that overlap, or that the cluster changes under, on a real API server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import close_old_connections

from pods_app.cluster.client import Cluster
from pods_app.cluster.errors import Rejected
from pods_app.cluster.overlap import AT_ONCE
from pods_app.models import ManagedPod, Pool
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, PoolKind
from tasks_app.models import Event
from tests.support.factories import make_pool

pytestmark = pytest.mark.usefixtures("slipway")


@pytest.fixture
def pool(db):
    return make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)


def test_a_pod_that_another_pass_makes_meanwhile_is_not_given_up(pool, space, monkeypatch):
    list_pods, looks = Cluster.list_pods, []

    def list_and_be_overtaken(self, selector):
        listed = list_pods(self, selector)
        looks.append(listed)
        if len(looks) == 1:
            assert [change.action for change in reconcile_pods(pool)] == ["create"]
        return listed

    monkeypatch.setattr(Cluster, "list_pods", list_and_be_overtaken)
    reconcile_pods(pool)
    assert [len(pods) for pods, _ in looks] == [0, 0]
    (made,) = space.all_pods()
    pod = ManagedPod.objects.get()
    assert (pod.phase, pod.pod_uid) == (PodPhase.STARTING, made["metadata"]["uid"])


def test_a_name_that_was_taken_since_the_look_is_not_taken_over(pool, space, monkeypatch):
    reconcile_pods(pool)
    (theirs,) = space.all_pods()
    ManagedPod.objects.all().delete()  # so that it is nobody's
    monkeypatch.setattr(Cluster, "list_pods", lambda self, selector: ([], "1"))
    reconcile_pods(pool)
    row = ManagedPod.objects.get()
    assert (row.phase, row.pod_uid) == (PodPhase.GONE, "")
    assert "exists that is not this one" in row.phase_reason
    monkeypatch.undo()
    assert [pod["metadata"]["uid"] for pod in space.all_pods()] == [theirs["metadata"]["uid"]]


def test_the_requests_of_a_pass_overlap(pool, space, monkeypatch):
    """Each goes on only when as many are under way as may be at once; one of them fails."""
    all_at_once = threading.Barrier(AT_ONCE)
    create_pod, delete_pod = Cluster.create_pod, Cluster.delete_pod

    def create(self, manifest, **options):
        all_at_once.wait(60)
        if manifest["metadata"]["name"] == "pool-3":
            raise Rejected("The cluster does not accept the pod.")
        return create_pod(self, manifest, **options)

    def delete(self, name, **options):
        all_at_once.wait(60)
        return delete_pod(self, name, **options)

    monkeypatch.setattr(Cluster, "create_pod", create)
    pool.min_pods = pool.max_pods = 2 * AT_ONCE
    pool.save()
    reconcile_pods(pool)
    assert len(space.all_pods()) == 2 * AT_ONCE - 1
    assert Event.objects.filter(kind="pod.started").count() == 2 * AT_ONCE - 1
    failed = ManagedPod.objects.get(pod_uid="")
    assert (failed.pod_name, failed.failed_launches) == ("pool-3", 1)
    assert failed.phase_reason == "The cluster does not accept the pod."

    monkeypatch.undo()
    ManagedPod.objects.update(last_launch_at="2026-01-01T00:00:00Z")
    reconcile_pods(pool)
    assert len(space.all_pods()) == 2 * AT_ONCE
    monkeypatch.setattr(Cluster, "delete_pod", delete)
    pool.min_pods, pool.scale_down_delay_seconds = 0, 0
    pool.save()
    reconcile_pods(pool)
    monkeypatch.undo()
    assert space.all_pods() == []


@pytest.mark.django_db(transaction=True)
def test_two_at_once_never_make_more_than_is_wanted(space, slipway):
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=3)

    def reconcile(_):
        try:
            reconcile_pods(Pool.objects.get(pk=pool.pk))
        finally:
            close_old_connections()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(reconcile, range(18)))
    assert len(space.all_pods()) == 3
    assert ManagedPod.objects.exclude(phase=PodPhase.GONE).exclude(pod_uid="").count() == 3
