"""What `deploy/` ships is accepted by a real API server, and protects and permits as it says."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from pods_app.cluster import names
from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import Forbidden, Unreachable
from pods_app.models import ManagedPod
from pods_app.reconcile import reconcile_pods
from pods_app.states import PoolKind
from tests.support.factories import make_pool
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


@pytest.mark.django_db
def test_a_busy_pod_is_not_evicted_and_an_idle_one_is(space, slipway):
    (budget,) = documents(BASE / "disruption.yaml")
    made = space.apply(budget)
    # The controller that counts is not here: what it writes for pods without a controller.
    space.set_status(
        made,
        observedGeneration=made["metadata"]["generation"],
        currentHealthy=1,
        desiredHealthy=1000000,
        expectedPods=1,
        disruptionsAllowed=0,
    )
    reconcile_pods(make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1))
    pod = ManagedPod.objects.get()
    space.bind(space.pods.get_pod("pool-0"))
    space.set_status(space.pods.get_pod("pool-0"), phase="Running")
    labels, annotations = names.busy_marks(True)
    cluster().mark_pod("pool-0", uid=pod.pod_uid, labels=labels, annotations=annotations)
    with pytest.raises(Unreachable, match="disruption budget"):
        evict(space, "pool-0")
    labels, annotations = names.busy_marks(False)
    cluster().mark_pod("pool-0", uid=pod.pod_uid, labels=labels, annotations=annotations)
    evict(space, "pool-0")
    assert "deletionTimestamp" in space.pods.get_pod("pool-0")["metadata"]


def test_the_controller_may_not_review_tokens(slipway):
    with pytest.raises(Forbidden):
        cluster().review("token", "https://slipway.example")
