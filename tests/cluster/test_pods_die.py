"""Pods that die at random moments: no task is lost, none is applied twice, nothing is left over."""

from __future__ import annotations

import random
import time

import pytest

from pods_app.models import Lease, ManagedPod, PodSlot, Pool
from pods_app.states import LeaseState, PodPhase, PoolKind, SlotStatus
from tasks_app.models import Task
from tasks_app.states import FINAL, Status
from tests.support.configurations import Counter, counting
from tests.support.invariants import check_all
from tests.support.programs import wait_until

SITES, PODS, SECONDS = 6, 3, 20


@pytest.mark.parametrize("seed", [1])
def test_work_outlives_its_pods(cluster_platform, kubelet, space, tmp_path, seed):
    platform, dice = cluster_platform, random.Random(seed)
    Pool.objects.create(
        name="pool",
        kind=PoolKind.KUBERNETES,
        min_pods=PODS,
        scale_down_delay_seconds=0,
        is_default=True,
    )
    platform.start_controller()
    counters = [Counter(tmp_path / f"counter-{number}") for number in range(SITES)]
    sites = [platform.site(counting(counter)) for counter in counters]
    tasks = [site.start() for site in sites]
    wait_until(lambda: kubelet.pods, "the first pod runs")

    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        _confirm(sites, tasks)
        time.sleep(dice.uniform(0.5, 3))
        _strike(kubelet, space, dice)
    wait_until(lambda: _confirm(sites, tasks), "every task is over, or a person must look")

    for task, counter in zip(tasks, counters, strict=True):
        assert len(counter.lines) <= 1, "applied twice"
        if task.status == Status.APPLIED:
            assert counter.lines == ["counted"]
        assert task.status in {Status.APPLIED, Status.APPLY_UNKNOWN, Status.FAILED}
    check_all()
    assert kubelet.survivors or ManagedPod.objects.filter(phase=PodPhase.GONE).exists()

    Pool.objects.update(min_pods=0)
    kept = Task.objects.filter(status=Status.APPLY_UNKNOWN)
    wait_until(lambda: not space.all_pods(), "no pod is left in the cluster")
    wait_until(
        lambda: not ManagedPod.objects.exclude(phase=PodPhase.GONE).exists(), "nor in the database"
    )
    occupied = PodSlot.objects.exclude(status=SlotStatus.IDLE).values_list("task", flat=True)
    assert set(occupied) == set(kept.values_list("pk", flat=True)), "a slot is left over"
    assert Lease.objects.exclude(state=LeaseState.ENDED).count() == kept.count()


def _confirm(sites, tasks):
    """Confirm what waits; returns whether nothing will go on by itself."""
    for site, task in zip(sites, tasks, strict=True):
        task.refresh_from_db()
        if task.status == Status.APPLY_PENDING:
            site.confirm(task)
    return all(task.status in FINAL or task.status == Status.APPLY_UNKNOWN for task in tasks)


def _strike(kubelet, space, dice):
    """End a pod: killed, removed by force, or asked to end."""
    running = list(kubelet.pods.values())
    for survivor in kubelet.survivors:
        survivor.kill()  # its kubelet heard of the removal by now
    if not running:
        return
    one = dice.choice(running)
    uid = one.pod["metadata"]["uid"]
    match dice.choice(["kill", "force", "delete"]):
        case "kill":
            one.kill()
        case "force":
            space.pods.delete_pod(one.name, uid=uid, grace=0)
        case "delete":
            space.pods.delete_pod(one.name, uid=uid)
