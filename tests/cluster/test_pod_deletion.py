"""A person deletes a pod of the cluster."""

from __future__ import annotations

import uuid

import pytest

from pods_app.deletion import delete_pod
from pods_app.models import ManagedPod
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.states import Status
from tests.support.factories import finish_planning, make_pool, make_task

pytestmark = pytest.mark.usefixtures("slipway")


def test_it_ends_with_what_it_keeps_and_is_replaced(transactional_db, space):
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)
    reconcile_pods(pool)
    pod = ManagedPod.objects.get()
    found = space.pods.get_pod(pod.pod_name)
    space.bind(found)
    space.set_status(found, phase="Running")
    engines = [{"engine": "terraform", "version": "1.11.4"}]
    ManagedPod.objects.filter(pk=pod.pk).update(
        phase=PodPhase.ONLINE, agent_id=str(uuid.uuid4()), engines=engines
    )
    task = finish_planning(make_task())

    delete_pod(actor=Actor.system("test"), pod_id=pod.pk, reason="a bad node")
    reconcile_pods(pool)
    reconcile_pods(pool)
    assert found["metadata"]["uid"] not in [one["metadata"]["uid"] for one in space.all_pods()]
    pod.refresh_from_db()
    assert pod.phase == PodPhase.GONE
    assert ManagedPod.objects.exclude(phase=PodPhase.GONE).count() == 1
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING, "still to be confirmed"
    assert not task.leases.exclude(state="ended").exists()
