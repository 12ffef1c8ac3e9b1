"""The client against a real API server: preconditions, refusals, time-outs by meaning."""

from __future__ import annotations

import pytest

from pods_app.cluster.builder import build_pod
from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import (
    Changed,
    Forbidden,
    NameTaken,
    QuotaExceeded,
    Rejected,
)
from pods_app.cluster.loop import SELECTOR
from tests.support.clusters import around


@pytest.fixture
def manifest(space):
    return build_pod(
        around=around(namespace=space.name),
        template={},
        pool_id="pool",
        slots=3,
        name="pool-0",
        row_id="r",
    )


@pytest.fixture
def api(slipway):
    return cluster()


def test_the_default_pod_is_accepted_as_it_is(api, space, manifest):
    made = api.create_pod(manifest)
    assert made["metadata"]["namespace"] == space.name
    container = made["spec"]["containers"][0]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert made["spec"]["terminationGracePeriodSeconds"] == 3600


def test_creating_twice_says_that_the_name_is_taken(api, manifest):
    api.create_pod(manifest)
    with pytest.raises(NameTaken):
        api.create_pod(manifest)


def test_a_dry_run_creates_nothing(api, manifest):
    api.create_pod(manifest, dry_run=True)
    assert api.get_pod("pool-0") is None


def test_a_field_that_does_not_exist_is_rejected_by_name(api, manifest):
    with pytest.raises(Rejected, match="restartPolicie"):
        api.create_pod(manifest | {"spec": {"restartPolicie": "Never", "containers": []}})


def test_only_the_very_pod_is_deleted(api, space, manifest):
    made = api.create_pod(manifest)
    with pytest.raises(Changed):
        api.delete_pod("pool-0", uid="another")
    uid, version = made["metadata"]["uid"], made["metadata"]["resourceVersion"]
    api.mark_pod("pool-0", uid=uid, labels={"a": "b"}, annotations={})
    with pytest.raises(Changed):
        api.delete_pod("pool-0", uid=uid, resource_version=version)
    changed = api.get_pod("pool-0")["metadata"]["resourceVersion"]
    assert api.delete_pod("pool-0", uid=uid, resource_version=changed)
    assert not api.delete_pod("pool-0", uid=uid)


def test_a_pod_on_a_node_ends_in_its_grace_period_and_by_force_at_once(api, space, manifest):
    made = api.create_pod(manifest)
    space.bind(made)
    assert api.delete_pod("pool-0", uid=made["metadata"]["uid"])
    waiting = api.get_pod("pool-0")
    assert waiting["metadata"]["deletionGracePeriodSeconds"] == 3600
    assert api.delete_pod("pool-0", uid=made["metadata"]["uid"], grace=0)
    assert api.get_pod("pool-0") is None


def test_only_the_very_pod_is_marked(api, manifest):
    made = api.create_pod(manifest)
    with pytest.raises(Changed):
        api.mark_pod("pool-0", uid="another", labels={"a": "b"}, annotations={})
    assert api.mark_pod("pool-0", uid=made["metadata"]["uid"], labels={"a": "b"}, annotations={})
    assert api.get_pod("pool-0")["metadata"]["labels"]["a"] == "b"
    assert not api.mark_pod("pool-9", uid="x", labels={}, annotations={})


def test_a_missing_right_is_named(api, space):
    role = space.role("slipway-pods")
    role["rules"][0]["verbs"].remove("list")
    space.set_role(role)
    with pytest.raises(Forbidden, match='cannot list resource "pods"'):
        api.list_pods("")


def test_a_quota_is_told_from_a_missing_right(api, space, manifest):
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}},
    }
    made = space.apply(quota)
    space.set_status(made, hard={"pods": "0"}, used={"pods": "0"})
    with pytest.raises(QuotaExceeded, match="pods=1"):
        api.create_pod(manifest)


def test_a_watch_tells_what_happened_since(api, manifest):
    version = api.version(SELECTOR)
    api.create_pod(manifest)
    event = next(api.watch_pods(SELECTOR, version))
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "pool-0")
