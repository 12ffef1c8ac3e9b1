"""Reconcile passes that overlap, or that the cluster changes under, on a real API server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import close_old_connections

from pods_app.cluster.client import Cluster
from pods_app.models import ManagedPod, Pool
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, PoolKind
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
