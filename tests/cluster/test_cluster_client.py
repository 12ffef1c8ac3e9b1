"""The client against a real API server: preconditions, refusals, time-outs by meaning."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from pods_app.cluster import connection
from pods_app.cluster.builder import build_pod
from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import (
    Changed,
    Forbidden,
    NameTaken,
    NotConfigured,
    QuotaExceeded,
    Rejected,
    Unauthorized,
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


def test_inside_the_cluster_the_pods_own_account_is_used(space, settings, monkeypatch, tmp_path):
    """By the files and variables that every pod has; the token is read anew each minute."""
    from kubernetes.config import incluster_config

    token, certificate, namespace = (tmp_path / name for name in ("token", "ca.crt", "namespace"))
    token.write_text("expired")
    authority = space.access.directory / "certificates" / "apiserver.crt"
    certificate.write_text(authority.read_text())
    namespace.write_text(space.name)
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))
    monkeypatch.setattr(connection, "_OWN_NAMESPACE", namespace)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(space.access.port))
    settings.SLIPWAY = dataclasses.replace(settings.SLIPWAY, kubeconfig="", cluster_namespace="")
    connection._cluster.cache_clear()
    api = cluster()
    assert api.namespace == space.name
    with pytest.raises(Unauthorized, match="service account"):
        api.list_pods("")
    token.write_text(space.token("slipway-controller"))
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=2)):
        assert api.list_pods("")[0] == []
    connection._cluster.cache_clear()


def test_without_any_cluster_the_remedy_is_named(settings, tmp_path):
    for path in ("", str(tmp_path / "absent"), __file__):
        settings.SLIPWAY = dataclasses.replace(settings.SLIPWAY, kubeconfig=path)
        with pytest.raises(NotConfigured, match="SLIPWAY_KUBECONFIG"):
            cluster()
