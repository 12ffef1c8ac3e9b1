"""What hinders a pool or a pod in a real cluster is told, and what ends in vain is paused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from pods_app.autoscaler.demand import scalings
from pods_app.cluster.decisions import STARTING_SECONDS
from pods_app.cluster.errors import Forbidden, Unreachable
from pods_app.freeze.edges import follow_schedules
from pods_app.models import ManagedPod
from pods_app.reconcile import hosting_of, reconcile_pods
from pods_app.states import UNSTARTED, PodPhase, PoolKind
from tests.support.cluster_pods import acts, online, resize, running
from tests.support.factories import make_pool
from tests.support.freezes import now, window_row

pytestmark = pytest.mark.usefixtures("slipway")


@pytest.fixture
def pool(db):
    return make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)


def test_failed_pods_are_replaced_with_pauses(pool, space):
    reconcile_pods(pool)
    failed = running(space, ManagedPod.objects.get())
    space.set_status(failed, phase="Failed", reason="Evicted", message="disk pressure")
    assert acts(pool) == ["gone pool-0", "clean pool-0"], "a pause first"
    gone = ManagedPod.objects.get()
    assert (gone.phase, gone.phase_reason) == (
        PodPhase.GONE,
        "Its node evicted it: disk pressure",
    )
    assert space.all_pods() == []
    ManagedPod.objects.update(last_launch_at="2026-01-01T00:00:00Z")
    assert acts(pool) == ["create pool-0"]


@pytest.mark.parametrize("how", ["too many", "freeze", "deleted by a person"])
def test_no_pause_follows_pods_that_were_ended_on_purpose(pool, space, how):
    """However short they lived, and however many there were."""
    resize(pool, 3)
    reconcile_pods(pool)
    for pod in ManagedPod.objects.all():
        running(space, pod)
        online(pod)
    if how == "freeze":
        window = window_row(pool)
        follow_schedules()
        window.delete()
        follow_schedules()
    elif how == "too many":
        resize(pool, 0)
        reconcile_pods(pool)
    else:
        for pod in space.all_pods():
            space.pods.delete_pod(pod["metadata"]["name"], uid=pod["metadata"]["uid"])
        resize(pool, 0)
        reconcile_pods(pool)
    for pod in space.all_pods():
        space.remove(pod)
    resize(pool, 0)
    reconcile_pods(pool)
    assert not ManagedPod.objects.exclude(phase=PodPhase.GONE).exists()
    resize(pool, 3)
    assert acts(pool) == ["create pool-0", "create pool-1", "create pool-2"]


def test_the_reason_why_a_pod_waits_is_shown(pool, space):
    reconcile_pods(pool)
    (made,) = space.all_pods()
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient memory.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    space.set_status(made, conditions=[condition])
    reconcile_pods(pool)
    assert "Insufficient memory" in ManagedPod.objects.get().phase_reason


@pytest.fixture
def quota(space):
    """A namespace whose quota is used up; called with how many pods may be there from now on."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}}
    made = space.apply({**quota, "spec": {"hard": {"pods": "0"}}})

    def allow(number):
        space.set_status(made, hard={"pods": str(number)}, used={"pods": "0"})

    allow(0)
    return allow


def test_a_quota_is_told_on_pool_and_pod_until_the_pod_is_made(pool, space, quota):
    assert acts(pool) == ["create pool-0"]
    for _ in range(2):
        pool.refresh_from_db()
        assert "quota is used up" in pool.trouble
        assert "quota is used up" in ManagedPod.objects.get().phase_reason
        assert acts(pool) == ["wait pool-0"], "not at once"
    quota(9)
    ManagedPod.objects.update(last_launch_at="2026-01-01T00:00:00Z")
    assert acts(pool) == ["make pool-0"]
    pool.refresh_from_db()
    assert pool.trouble == ""
    assert len(space.all_pods()) == 1


def test_a_quota_is_told_no_more_when_no_pod_is_wanted(pool, space, quota):
    pool.scale_down_delay_seconds = 0
    pool.save()
    reconcile_pods(pool)
    assert acts(pool) == ["wait pool-0"]
    resize(pool, 0)
    assert "quota is used up" in pool.trouble
    assert acts(pool) == ["end pool-0"]
    pool.refresh_from_db()
    assert pool.trouble == "" and space.all_pods() == []


def test_a_pod_has_its_time_to_start_from_when_a_node_takes_it(pool, space):
    """However long it waited for one; till then autoscaler and reconciliation count on it."""
    reconcile_pods(pool)
    pod = ManagedPod.objects.get()
    waited = now() - timedelta(seconds=2 * STARTING_SECONDS)

    def age(expected):
        ManagedPod.objects.update(last_launch_at=waited)
        scaling = scalings([pool])[pool.pk]
        assert (scaling.supply, scaling.starting) == (expected, expected)
        return acts(pool)

    assert age(1) in ([], ["explain pool-0"])
    running(space, pod)
    assert age(1) == ["explain pool-0"]
    assert acts(pool) == [] and scalings([pool])[pool.pk].supply == 1
    assert age(0) == ["end pool-0", "create pool-1"], "too late, and replaced"
    pod.refresh_from_db()
    assert pod.phase_reason == UNSTARTED


def test_a_template_that_cannot_be_used_stops_nothing_else(pool, space):
    reconcile_pods(pool)
    online(ManagedPod.objects.get())
    resize(pool, 2)
    pool.pod_template = "spec: {restartPolicy: Always}"
    pool.save()
    reconcile_pods(pool)
    pool.refresh_from_db()
    assert "spec.restartPolicy" in pool.trouble
    assert len(space.all_pods()) == 1


def test_a_stuck_pod_is_shown_and_not_forced(pool, space, monkeypatch):
    from pods_app.cluster import diagnosis

    monkeypatch.setattr(diagnosis, "OVERDUE_SECONDS", -7200)
    reconcile_pods(pool)
    pod = ManagedPod.objects.get()
    running(space, pod)
    online(pod)
    assert hosting_of(pod).delete(pod)
    reconcile_pods(pool)
    pod.refresh_from_db()
    assert "has not confirmed" in pod.phase_reason
    assert pod.draining
    assert len(space.all_pods()) == 2, "replaced, and still there"


def test_a_missing_right_is_told_and_concludes_nothing(pool, space):
    reconcile_pods(pool)
    role = space.role("slipway-pods")
    role["rules"][0]["verbs"] = ["get"]
    space.set_role(role)
    with pytest.raises(Forbidden):
        reconcile_pods(pool)
    pool.refresh_from_db()
    assert 'cannot list resource "pods"' in pool.trouble
    assert ManagedPod.objects.get().phase == PodPhase.STARTING
    with pytest.raises(CommandError, match="grant the right"):
        call_command("reconcile_pods")


def test_a_cluster_that_cannot_be_reached_concludes_nothing(pool, slipway, space, settings):
    import dataclasses

    reconcile_pods(pool)
    path = space.access.kubeconfig("nowhere", "none", space.name, url="http://127.0.0.1:9")
    settings.SLIPWAY = dataclasses.replace(slipway, kubeconfig=str(path))
    with pytest.raises(Unreachable):
        reconcile_pods(pool)
    pool.refresh_from_db()
    assert "gives no answer" in pool.trouble
    assert ManagedPod.objects.get().phase == PodPhase.STARTING
