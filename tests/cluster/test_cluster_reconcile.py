"""Pools against a real API server, with the rights of the shipped Role; no pod really runs."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command

from pods_app import jobs
from pods_app.cluster import names
from pods_app.models import ManagedPod, Pool
from pods_app.reconcile import hosting_of, reconcile_pods
from pods_app.services import drain_pod
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.models import Event
from tests.support.cluster_pods import acts, occupy, online, resize, running
from tests.support.factories import make_pool

pytestmark = pytest.mark.usefixtures("slipway")

PERSON = Actor.system("test")


@pytest.fixture
def pool(db):
    return make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)


def test_a_missing_pod_is_made_and_then_all_is_well(pool, space):
    assert acts(pool) == ["create pool-0"]
    (made,) = space.all_pods()
    pod = ManagedPod.objects.get()
    assert made["metadata"]["uid"] == pod.pod_uid
    assert made["metadata"]["annotations"][names.ROW] == str(pod.pk)
    assert (pod.phase, pod.slots.count()) == (PodPhase.STARTING, 3)
    assert Event.objects.filter(kind="pod.started").count() == 1
    running(space, pod)
    assert acts(pool) == ["explain pool-0"]
    pod.refresh_from_db()
    assert (pod.host, pod.phase_reason) == ("node-1", "")
    assert acts(pool) == []


def test_a_dry_run_changes_nothing(pool, space, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command("reconcile_pods", "--pool", "pool", "--dry-run", "--json")
    assert ended.value.code == 3
    (change,) = json.loads(capsys.readouterr().out)
    assert (change["action"], change["pod"]) == ("create", "pool-0")
    assert space.all_pods() == []
    assert not ManagedPod.objects.exists()


def test_the_job_makes_pods_too(pool, space):
    assert jobs.reconcile_pods() == 1
    assert len(space.all_pods()) == 1


def test_whoever_died_between_row_and_object_is_completed(pool, space):
    reconcile_pods(pool)
    (made,) = space.all_pods()
    ManagedPod.objects.update(pod_uid="")  # the answer never came
    assert acts(pool)[0] == "note pool-0"
    assert ManagedPod.objects.get().pod_uid == made["metadata"]["uid"]
    space.remove(made)
    ManagedPod.objects.update(pod_uid="", last_launch_at=None, failed_launches=0)
    assert acts(pool) == ["make pool-0"]
    assert ManagedPod.objects.get().pod_uid == space.all_pods()[0]["metadata"]["uid"]


def test_a_pod_with_a_reserved_slot_is_never_ended(pool, space):
    resize(pool, 2)
    reconcile_pods(pool)
    first, second = ManagedPod.objects.order_by("pod_name")
    for pod in (first, second):
        running(space, pod)
        online(pod)
    occupy(second)
    resize(pool, 0)
    reconcile_pods(pool)
    kept, ending = space.pods.get_pod("pool-1"), space.pods.get_pod("pool-0")
    assert kept["metadata"]["labels"][names.BUSY] == "true"
    assert kept["metadata"]["annotations"][names.SAFE_TO_EVICT] == "false"
    assert "deletionTimestamp" not in kept["metadata"]
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 3600
    space.remove(ending)
    assert "gone pool-0" in acts(pool)
    assert list(ManagedPod.objects.exclude(phase=PodPhase.GONE)) == [second]


def test_a_changed_object_is_not_deleted_by_an_old_look(pool, space, monkeypatch):
    """resourceVersion guards what the decision was made from."""
    from pods_app.cluster import reconcile

    reconcile_pods(pool)
    online(ManagedPod.objects.get())
    resize(pool, 0)
    drain_if_free = reconcile.drain_if_free

    def drained(pod_id, **arguments):
        done = drain_if_free(pod_id, **arguments)
        (pod,) = space.all_pods()
        space.pods.mark_pod("pool-0", uid=pod["metadata"]["uid"], labels={"x": "y"}, annotations={})
        return done

    monkeypatch.setattr(reconcile, "drain_if_free", drained)
    reconcile_pods(pool)
    assert len(space.all_pods()) == 1, "not deleted"
    monkeypatch.undo()
    reconcile_pods(pool)
    assert space.all_pods() == []


def test_a_changed_template_replaces_idle_pods_one_by_one(pool, space):
    resize(pool, 3)
    reconcile_pods(pool)
    pods = list(ManagedPod.objects.order_by("pod_name"))
    for pod in pods:
        online(pod)
    occupy(pods[0])
    pool.pod_template = "metadata: {labels: {version: two}}"
    pool.save()
    reconcile_pods(pool)
    live = [pod["metadata"]["name"] for pod in space.all_pods()]
    assert "pool-0" in live, "a busy one stays"
    for _ in range(12):
        for pod in ManagedPod.objects.filter(phase=PodPhase.STARTING):
            online(pod)
        ManagedPod.objects.filter(phase=PodPhase.GONE).update(last_launch_at="2026-01-01T00:00:00Z")
        assert len(space.all_pods()) >= 2, "the pool keeps its capacity"
        reconcile_pods(pool)
    versions = {
        pod["metadata"]["name"]: pod["metadata"]["labels"].get("version")
        for pod in space.all_pods()
    }
    assert versions.pop("pool-0") is None
    assert len(versions) == 2 and set(versions.values()) == {"two"}


def test_a_pod_that_no_node_takes_is_replaced_when_the_template_changes(pool, space):
    reconcile_pods(pool)
    pool.pod_template = "metadata: {labels: {version: two}}"
    pool.save()
    for _ in range(3):
        reconcile_pods(pool)
    (made,) = space.all_pods()
    assert made["metadata"]["labels"]["version"] == "two"


def test_after_a_restored_database_pods_are_adopted(pool, space):
    reconcile_pods(pool)
    (made,) = space.all_pods()
    ManagedPod.objects.all().delete()
    assert acts(pool) == ["adopt pool-0"]
    pod = ManagedPod.objects.get()
    assert pod.pod_uid == made["metadata"]["uid"]
    assert pod.template_digest == made["metadata"]["annotations"][names.TEMPLATE]
    (now,) = space.all_pods()
    assert now["metadata"]["annotations"][names.ROW] == str(pod.pk)
    assert acts(pool) in ([], ["explain pool-0"])


def test_another_installations_pods_are_left_alone(pool, space):
    reconcile_pods(pool)
    (made,) = space.all_pods()
    space.pods.mark_pod(
        "pool-0", uid=made["metadata"]["uid"], labels={names.OWNER: "another"}, annotations={}
    )
    reconcile_pods(pool)
    assert {pod["metadata"]["name"] for pod in space.all_pods()} >= {"pool-0"}
    reconcile_pods(pool)
    present = {pod["metadata"]["name"]: pod for pod in space.all_pods()}
    assert "deletionTimestamp" not in present["pool-0"]["metadata"]
    assert ManagedPod.objects.exclude(phase=PodPhase.GONE).get().pod_name == "pool-1"


def test_a_pod_drained_by_a_person_is_replaced_and_stays(pool, space):
    reconcile_pods(pool)
    pod = ManagedPod.objects.get()
    online(pod)
    drain_pod(actor=PERSON, pod_id=pod.pk, reason="strange")
    assert "create pool-1" in acts(pool)
    assert len(space.all_pods()) == 2


def test_a_frozen_pool_makes_nothing(pool, space):
    Pool.objects.update(frozen=True)
    pool.refresh_from_db()
    assert acts(pool) == []
    assert space.all_pods() == []


def test_killing_a_pod_removes_the_object_at_once(pool, space):
    reconcile_pods(pool)
    pod = ManagedPod.objects.get()
    running(space, pod)
    hosting = hosting_of(pod)
    assert hosting.alive(pod)
    assert hosting.kill(pod), "known to be gone"
    assert space.all_pods() == []
    assert hosting.kill(pod) and not hosting.alive(pod) and not hosting.delete(pod)


def test_a_pod_whose_creation_is_not_noted_yet_is_killed_too(pool, space):
    reconcile_pods(pool)
    ManagedPod.objects.update(pod_uid="")
    pod = ManagedPod.objects.get()
    assert hosting_of(pod).kill(pod)
    assert space.all_pods() == []


def test_a_renamed_pool_keeps_its_pods(pool, space):
    reconcile_pods(pool)
    pod = ManagedPod.objects.get()
    online(pod)
    Pool.objects.filter(pk=pool.pk).update(name="renamed", min_pods=2)
    pool.refresh_from_db()
    assert "gone pool-0" not in acts(pool)
    assert {one["metadata"]["name"] for one in space.all_pods()} == {"pool-0", "renamed-0"}


def test_one_look_at_the_cluster_is_enough_for_all_pools(pool, space, monkeypatch):
    from pods_app.cluster.client import Cluster

    make_pool(name="other", kind=PoolKind.KUBERNETES, min_pods=2)
    make_pool(name="static")
    looks, list_pods = [], Cluster.list_pods

    def counted(self, selector):
        looks.append(selector)
        return list_pods(self, selector)

    monkeypatch.setattr(Cluster, "list_pods", counted)
    call_command("reconcile_pods")
    assert looks == [""]
    names_ = {pod["metadata"]["name"] for pod in space.pods.list_pods("")[0]}
    assert names_ == {"pool-0", "other-0", "other-1"}
