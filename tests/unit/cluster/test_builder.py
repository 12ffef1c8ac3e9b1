"""What the cluster is asked for."""

import pytest

from pods_app.cluster.builder import build_pod
from pods_app.cluster.names import may_name_pods, pod_name
from pods_app.cluster.template import merge, parse_template
from tasks_app.exceptions import InvalidInput
from tests.support.clusters import around


def build(template="", name="pool-0", row_id="row-1", slots=3, **changes):
    return build_pod(
        around=around(**changes),
        template=parse_template(template),
        pool_id="pool-id",
        slots=slots,
        name=name,
        row_id=row_id,
    )


def agent(pod):
    return next(one for one in pod["spec"]["containers"] if one["name"] == "agent")


def environment(pod):
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in agent(pod)["env"]}


def test_a_pod_is_known_again_by_its_marks():
    metadata = build()["metadata"]
    assert metadata["name"] == pod_name("pool", 0) == "pool-0"
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "slipway",
        "slipway/installation": "owner-1",
        "slipway/pool": "pool-id",
        "slipway/busy": "false",
    }
    assert metadata["annotations"]["slipway/pod"] == "row-1"


def test_a_pod_has_no_rights_and_one_token_for_this_installation():
    pod = build()
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["serviceAccountName"] == "slipway-agent"
    (token,) = [one for one in spec["volumes"] if one["name"] == "slipway-token"]
    assert token["projected"]["sources"] == [
        {
            "serviceAccountToken": {
                "path": "token",
                "audience": "https://slipway.example",
                "expirationSeconds": 3600,
            }
        }
    ]
    assert environment(pod)["SLIPWAY_POOL_TOKEN_FILE"] == "/var/run/secrets/slipway/token"


def test_a_pod_is_not_root_and_writes_only_to_its_volumes():
    pod = build()
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert agent(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {one["mountPath"] for one in agent(pod)["volumeMounts"]}
    assert {"/var/lib/slipway/work", "/var/lib/slipway/agent", "/tmp"} <= mounted


def test_a_pod_ends_once_and_slowly():
    spec = build()["spec"]
    assert (spec["restartPolicy"], spec["terminationGracePeriodSeconds"]) == ("Never", 3600)


def test_the_agent_learns_who_it_is_from_the_cluster():
    values = environment(build(slots=5))
    assert values["SLIPWAY_POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
    assert values["SLIPWAY_SLOTS"] == "5"
    assert values["SLIPWAY_URL"] == "https://slipway.example"
    assert values["DJANGO_SETTINGS_MODULE"] == "config.settings.agent"


TEMPLATE = """
metadata:
  labels: {team: net}
spec:
  nodeSelector: {disk: fast}
  terminationGracePeriodSeconds: 60
  tolerations:
    - key: dedicated
      operator: Exists
  containers:
    - name: agent
      image: registry.example/agent:2
      resources:
        limits: {memory: 8Gi, ephemeral-storage: null}
      env:
        - {name: HTTPS_PROXY, value: "http://proxy:3128"}
    - name: sidecar
      image: registry.example/sidecar:1
  volumes:
    - name: work
      emptyDir: null
      persistentVolumeClaim: {claimName: work}
"""


def test_a_template_is_merged_into_the_default():
    pod = build(TEMPLATE)
    spec = pod["spec"]
    assert pod["metadata"]["labels"]["team"] == "net"
    assert pod["metadata"]["labels"]["slipway/pool"] == "pool-id"
    assert (spec["nodeSelector"], spec["terminationGracePeriodSeconds"]) == ({"disk": "fast"}, 60)
    assert [one["name"] for one in spec["containers"]] == ["agent", "sidecar"]
    assert agent(pod)["image"] == "registry.example/agent:2"
    assert agent(pod)["resources"]["limits"] == {"memory": "8Gi"}
    assert agent(pod)["resources"]["requests"]["cpu"] == "500m"
    assert agent(pod)["securityContext"]["readOnlyRootFilesystem"] is True
    assert environment(pod)["HTTPS_PROXY"] == "http://proxy:3128"
    assert environment(pod)["SLIPWAY_URL"]
    work = next(one for one in spec["volumes"] if one["name"] == "work")
    assert work == {"name": "work", "persistentVolumeClaim": {"claimName": "work"}}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("spec: {restartPolicy: Always}", "spec.restartPolicy"),
        ("spec: {serviceAccountName: admin}", "spec.serviceAccountName"),
        ("spec: {automountServiceAccountToken: true}", "automountServiceAccountToken"),
        ("metadata: {labels: {slipway/pool: other}}", "slipway/pool"),
        ("metadata: {name: mine}", "metadata.name"),
        (
            "spec: {containers: [{name: agent, env: [{name: SLIPWAY_POOL_TOKEN, value: x}]}]}",
            "SLIPWAY_POOL_TOKEN",
        ),
        ("spec: {containers: null}", "agent"),
        ("kind: Pod", "“kind”"),
        ("- a", "mapping"),
        ("spec: [a]", "spec must be"),
        ("spec: {containers: {name: agent}}", "spec.containers must be a list"),
        ("spec: {volumes: [{emptyDir: {}}]}", "spec.volumes[0] needs “name”"),
        ("spec: {containers: [{name: agent, env: [x]}]}", "spec.containers[0].env[0]"),
        ("spec:\n  a: [", "line 2"),
        ("a: &a [1]\nspec: *a", "aliases"),
        ("x" * 70_000, "longer"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_with_its_field(template, words):
    with pytest.raises(InvalidInput) as refusal:
        build(template)
    assert words in refusal.value.detail
    assert refusal.value.field == "pod_template"


def test_without_any_image_the_remedy_is_named():
    with pytest.raises(InvalidInput, match="SLIPWAY_AGENT_IMAGE"):
        build(image="")


def test_the_digest_is_that_of_what_pods_have_in_common():
    def digest(*args, **changes):
        return build(*args, **changes)["metadata"]["annotations"]["slipway/template"]

    first = digest()
    assert digest(name="pool-7", row_id="row-9") == first
    assert digest(TEMPLATE) != first
    assert digest(slots=4) != first
    assert digest(url="https://other.example") != first


def test_merging_alters_neither_side():
    base, change = {"a": {"b": [1]}}, {"a": {"b": [2], "c": {"d": None, "e": 1}}}
    assert merge(base, change) == {"a": {"b": [2], "c": {"e": 1}}}
    assert base == {"a": {"b": [1]}}
    assert change == {"a": {"b": [2], "c": {"d": None, "e": 1}}}


def test_only_names_that_dns_takes_may_name_pods():
    assert may_name_pods("pool-1")
    assert not any(map(may_name_pods, ["Pool", "po_ol", "-pool", "pool-", ""]))
