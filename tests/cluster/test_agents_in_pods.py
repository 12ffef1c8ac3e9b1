"""Real agents as test pods: plans, confirmations and applies through a cluster."""

from __future__ import annotations

import signal

import pytest

from agents_app.models import Agent
from pods_app.models import FreezeWindow, ManagedPod, Pool
from pods_app.reconcile import hosting_of
from pods_app.states import PodPhase, PoolKind
from tests.support.configurations import counting
from tests.support.factories import make_pool
from tests.support.freezes import window_row
from tests.support.programs import wait_until


@pytest.fixture
def pool(cluster_platform):
    return make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)


def online():
    return ManagedPod.objects.filter(phase=PodPhase.ONLINE)


def resize(number):
    Pool.objects.update(min_pods=number)


def test_from_zero_to_an_apply_back_to_zero_and_up_again(
    cluster_platform, kubelet, pool, counter, space
):
    resize(0)  # what there is to do makes it grow
    platform = cluster_platform
    platform.start_controller()
    site = platform.site(counting(counter))
    task = site.plan()
    pod = online().get()
    assert pod.pod_uid == Agent.objects.get().pod.pod_uid
    (made,) = space.all_pods()
    assert made["metadata"]["uid"] == pod.pod_uid

    busy = made["metadata"]["name"]
    wait_until(
        lambda: space.pods.get_pod(busy)["metadata"]["labels"]["slipway/busy"] == "true",
        "the pod is marked busy",
    )
    assert online().exists(), "what is kept for a person is not ended"

    site.apply(task)
    assert counter.lines == ["counted"]
    wait_until(lambda: not space.all_pods(), "the pool is empty")
    wait_until(
        lambda: not ManagedPod.objects.exclude(phase=PodPhase.GONE).exists(), "its row is over"
    )
    assert not kubelet.pods

    again = site.plan(destroy=True)
    assert online().get().pod_uid != pod.pod_uid, "another pod came for it"
    site.apply(again)
    assert (counter.lines, site.resources) == (["counted"], [])
    wait_until(lambda: not space.all_pods(), "the pool is empty again")


def test_a_pod_that_dies_is_replaced_and_its_plan_applied_elsewhere(
    cluster_platform, kubelet, pool, counter
):
    platform = cluster_platform
    platform.start_controller()
    site = platform.site(counting(counter))
    task = site.plan()
    first = online().get()
    kubelet.of(first.pod_name).program.signal(signal.SIGKILL)
    wait_until(
        lambda: ManagedPod.objects.get(pk=first.pk).phase == PodPhase.GONE, "the loss is seen"
    )
    wait_until(lambda: online().exclude(pk=first.pk).exists(), "another pod is there")
    site.apply(task)
    assert counter.lines == ["counted"]
    first.refresh_from_db()
    assert "signal 9" in first.phase_reason


def test_an_apply_outlives_its_pods_forced_removal_without_a_second_one(
    cluster_platform, kubelet, pool, counter, gate, space
):
    platform = cluster_platform
    platform.start_controller()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    pod = online().get()
    assert hosting_of(pod).kill(pod)
    wait_until(lambda: kubelet.survivors, "the process outlives the object")
    site.wait(task, "apply_unknown")
    gate.open()
    wait_until(lambda: not site.locked, "its state is stored")
    assert site.resources == ["terraform_data.counted"]
    assert len(counter.lines) == 1
    wait_until(lambda: online().exclude(pk=pod.pk).exists(), "another pod is there")
    task.refresh_from_db()
    assert task.status == "apply_unknown", "a person decides"
    assert len(counter.lines) == 1


def test_a_confirmed_apply_finishes_within_the_grace_of_a_deletion(
    cluster_platform, kubelet, pool, counter, gate, space
):
    """What `kubectl delete pod` and a drain of the node do."""
    platform = cluster_platform
    platform.start_controller()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    pod = online().get()
    space.pods.delete_pod(pod.pod_name, uid=pod.pod_uid)
    wait_until(lambda: ManagedPod.objects.get(pk=pod.pk).draining, "it takes no new work")
    gate.open()
    site.wait(task, "applied")
    wait_until(lambda: space.pods.get_pod(pod.pod_name) is None, "the pod ends by itself")
    assert counter.lines


def test_a_freeze_removes_the_pods_and_afterwards_they_come_back(
    cluster_platform, kubelet, pool, counter, gate, space
):
    platform = cluster_platform
    platform.start_controller()
    waiting, running = platform.site(counting(counter)), platform.site(counting(counter, gate))
    waits = waiting.plan()
    runs = running.confirmed(running.plan())
    counter.wait()

    window = window_row()
    wait_until(lambda: not space.all_pods(), "every pod is gone from the cluster")
    running.wait(runs, "interrupted")
    waits.refresh_from_db()
    assert waits.status == "apply_pending", "what waits for a person goes on waiting"
    waiting.confirmed(waits)
    assert not space.all_pods(), "and nothing comes before the end"

    FreezeWindow.objects.filter(pk=window.pk).update(enabled=False)
    for survivor in kubelet.survivors:
        survivor.kill()
    waiting.wait(waits, "applied")
    assert online().exists()
    runs.refresh_from_db()
    assert runs.status == "interrupted", "never again by itself"
    assert len(counter.lines) == 2
