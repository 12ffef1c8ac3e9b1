"""What `deploy/` ships is accepted by a real API server, and protects and permits as it says."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import Forbidden, Unreachable
from pods_app.models import Lease, ManagedPod
from pods_app.outcomes import end_reported
from pods_app.reconcile import reconcile_pods
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.services.tasks import discard_task
from tests.support.cluster_pods import online, running
from tests.support.factories import finish_planning, make_admin, make_pool, make_task
from tests.support.namespaces import documents
from tests.support.programs import ROOT
from tests.support.requirements import require

BASE = ROOT / "deploy" / "base"
SHIPPED = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}-{document['metadata']['name']}")
    for path in sorted(BASE.glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in documents(path)
]


@pytest.mark.parametrize("document", SHIPPED)
def test_each_object_is_accepted(space, document):
    if document["kind"] in {"ServiceAccount", "Role", "RoleBinding", "ClusterRole"}:
        return  # the fixture has created it
    if document["kind"] == "ClusterRoleBinding":
        return
    space.apply(document, dry_run=True)


def test_every_file_is_part_of_the_base():
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    present = {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed) == present


def test_the_example_overlay_is_accepted_whole(space):
    rendered = subprocess.run(
        [require("kubectl"), "kustomize", str(ROOT / "deploy" / "overlays" / "example")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    objects = [one for one in yaml.safe_load_all(rendered) if one]
    assert len(objects) == len(SHIPPED)
    accounts = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    for one in objects:
        if one["kind"] not in accounts:
            space.apply(one, dry_run=True)
        if one["kind"].endswith("RoleBinding"):
            assert one["subjects"][0]["namespace"] == "slipway"
    images = set(re.findall(r"image: (\S+)", rendered))
    assert images == {"registry.example.org/slipway-server:1"}


def test_no_secret_is_shipped():
    for parameter in SHIPPED:
        assert parameter.values[0]["kind"] != "Secret"


def test_the_role_gives_nothing_beyond_pods_and_their_events():
    roles = [one.values[0] for one in SHIPPED if one.values[0]["kind"] in {"Role", "ClusterRole"}]
    granted = {
        resource for role in roles for rule in role["rules"] for resource in rule["resources"]
    }
    assert granted == {"pods", "events", "tokenreviews"}
    verbs = {verb for role in roles for rule in role["rules"] for verb in rule["verbs"]}
    assert "*" not in verbs and "update" not in verbs and "deletecollection" not in verbs


def review(space, account, verb, resource, namespace=""):
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{space.name}:{account}",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "resourceAttributes": {
                "namespace": namespace or space.name,
                "verb": verb,
                "resource": resource,
            },
        },
    }
    answer = space.admin.ask(
        "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", body=body
    )
    return answer["status"]["allowed"]


@pytest.mark.parametrize("account", ["slipway-agent", "slipway-web", "slipway-controller"])
def test_no_account_may_read_secrets_or_enter_pods(space, account):
    for resource in ("secrets", "pods/exec", "configmaps", "serviceaccounts/token"):
        for verb in ("get", "list", "create"):
            assert not review(space, account, verb, resource), (verb, resource)


def test_agents_have_no_rights_and_others_none_elsewhere(space):
    for verb in ("get", "list", "watch", "create", "delete", "patch"):
        assert not review(space, "slipway-agent", verb, "pods")
        assert not review(space, "slipway-controller", verb, "pods", "default")
        assert review(space, "slipway-controller", verb, "pods")
    assert not review(space, "slipway-web", "delete", "pods")


def evict(space, name):
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{space.name}/pods/{name}/eviction"
    return space.admin.ask("POST", path, body=body)


def evicted(space, name):
    """Whether the cluster takes an eviction; if not, for the budget alone."""
    try:
        evict(space, name)
    except Unreachable as refusal:
        if "disruption budget" not in refusal.detail:
            raise
        return False
    return True


class Budget:
    """The shipped budget. The API server keeps it; the controller that counts is not here."""

    def __init__(self, space):
        self._space = space
        (document,) = documents(BASE / "disruption.yaml")
        self._made = space.apply(document)
        self._wanted = document["spec"]["minAvailable"]
        wanted = document["spec"]["selector"]["matchLabels"]
        self._selector = ",".join(f"{name}={value}" for name, value in wanted.items())

    def count(self):
        """Write what the disruption controller does: for pods without an owner a plain number."""
        pods, _ = self._space.pods.list_pods(self._selector)
        self._space.set_status(
            self._made,
            observedGeneration=self._made["metadata"]["generation"],
            currentHealthy=len(pods),
            desiredHealthy=self._wanted,
            expectedPods=len(pods),
            disruptionsAllowed=max(len(pods) - self._wanted, 0),
        )
        return [pod["metadata"]["name"] for pod in pods]


def come_online(space):
    """What scheduler, kubelet and agents do."""
    engines = [{"engine": "terraform", "version": "1.11.4"}]
    for pod in ManagedPod.objects.all():
        found = running(space, pod)
        space.set_status(found, phase="Running", conditions=[{"type": "Ready", "status": "True"}])
        online(pod)
        ManagedPod.objects.filter(pk=pod.pk).update(engines=engines)


@pytest.mark.django_db
def test_a_pod_with_work_is_not_evicted_and_an_idle_one_is(space, slipway):
    """From a task's plan over its waiting to its end; each pass brings the label in line."""
    budget = Budget(space)
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=3)
    reconcile_pods(pool)
    come_online(space)
    task = make_task()
    lease = Lease.objects.select_related("slot__pod").get(task=task, phase="plan")
    busy = lease.slot.pod
    idle = ManagedPod.objects.exclude(pk=busy.pk).values_list("pod_name", flat=True)
    first, second = idle

    reconcile_pods(pool)
    assert budget.count() == [busy.pod_name]
    assert not evicted(space, busy.pod_name), "a plan runs"
    assert evicted(space, first)

    finish_planning(task)
    reconcile_pods(pool)
    assert budget.count() == [busy.pod_name]
    assert not evicted(space, busy.pod_name), "it keeps an apply"
    assert evicted(space, second)
    assert "deletionTimestamp" not in space.pods.get_pod(busy.pod_name)["metadata"]

    discard_task(actor=Actor.person(make_admin()), task_id=task.pk)
    lease.refresh_from_db()
    end_reported(lease_id=lease.pk, epoch=lease.epoch, pod=busy)
    reconcile_pods(pool)
    assert budget.count() == []
    assert evicted(space, busy.pod_name), "it is idle"
    assert "deletionTimestamp" in space.pods.get_pod(busy.pod_name)["metadata"]


def test_the_controller_may_not_review_tokens(slipway):
    with pytest.raises(Forbidden):
        cluster().review("token", "https://slipway.example")
