"""The loop that follows the cluster, across restarts of the API server and compaction."""

from __future__ import annotations

import dataclasses
import signal
import threading

import httpx
import pytest

from pods_app.cluster import client, loop, transport
from pods_app.cluster.client import Cluster
from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import Expired, Unreachable
from pods_app.cluster.loop import SELECTOR, ClusterLoop
from pods_app.models import ManagedPod, Pool
from pods_app.states import PodPhase, PoolKind
from tests.support.factories import make_pool
from tests.support.kube import ApiServer
from tests.support.namespaces import Space
from tests.support.programs import wait_until
from tests.tools import apiserver


@pytest.fixture
def server(api_server, tmp_path):
    """An API server of this test's own, to be restarted."""
    made = ApiServer(tmp_path / "apiserver", apiserver.programs())
    made.start()
    yield made
    made.stop()


@pytest.fixture
def own_space(server, settings):
    space = Space(server.access)
    settings.SLIPWAY = dataclasses.replace(
        settings.SLIPWAY,
        kubeconfig=str(space.kubeconfig("slipway-controller")),
        cluster_namespace=space.name,
        agent_image="slipway.example/agent:test",
    )
    return space


@pytest.fixture
def following(monkeypatch, transactional_db):
    """Return a function that starts the loop; passes come from events alone."""
    monkeypatch.setattr(loop, "PASS_SECONDS", 600.0)
    monkeypatch.setattr(loop, "_PAUSE_MAX", 0.5)
    stop = threading.Event()
    made = []

    def start():
        made.append(ClusterLoop(stop, lambda: True))
        made[0].start()
        return made[0]

    yield start
    stop.set()
    for one in made:
        one.join(20)


def compact(server):
    """Forget the history of etcd, as Kubernetes does every five minutes."""
    answer = httpx.post(f"{server.etcd_url}/v3/kv/range", json={"key": "AA=="}).json()
    revision = answer["header"]["revision"]
    body = {"revision": revision, "physical": True}
    assert httpx.post(f"{server.etcd_url}/v3/kv/compaction", json=body).is_success


def outdate(server, space):
    """Make every version so far too old to watch from."""
    for number in range(3):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}}
        space.apply(body)
    compact(server)
    server.server.kill()  # its cache of recent versions goes too
    server.start()


def test_a_version_from_before_a_compaction_is_expired(server, own_space):
    version = cluster().version("")
    outdate(server, own_space)
    with pytest.raises(Expired):
        for _ in cluster().watch_pods(SELECTOR, version):
            pass


@pytest.fixture
def expired(monkeypatch):
    """The resourceVersions that were too old to watch from."""
    versions, watch_pods = [], Cluster.watch_pods

    def noted(self, selector, version):
        try:
            yield from watch_pods(self, selector, version)
        except Expired:
            versions.append(version)
            raise

    monkeypatch.setattr(Cluster, "watch_pods", noted)
    return versions


def test_nothing_is_missed_across_a_restart_and_a_compaction(server, own_space, following, expired):
    make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)
    following().wake()
    wait_until(own_space.all_pods, "the pod is made")
    (made,) = own_space.all_pods()

    server.server.kill()
    server.start()
    own_space.bind(made)
    own_space.set_status(made, phase="Running")
    wait_until(lambda: ManagedPod.objects.get().host == "node-1", "what happened since is seen")
    expired.clear()  # a server that has just started may know no version so old either

    outdate(server, own_space)
    own_space.set_status(made, phase="Failed", reason="Evicted", message="disk")
    wait_until(
        lambda: ManagedPod.objects.filter(phase=PodPhase.GONE).exists(), "the eviction is seen"
    )
    wait_until(lambda: own_space.all_pods() and own_space.all_pods() != [made], "replaced")
    assert len(expired) == 1, "and not asked for again"


def test_a_cluster_that_is_away_is_told_and_nothing_is_concluded(server, own_space, following):
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)
    loop_ = following()
    loop_.wake()
    wait_until(own_space.all_pods, "the pod is made")
    server.server.kill()
    loop_.wake()
    wait_until(lambda: Pool.objects.get(pk=pool.pk).trouble, "the trouble is shown")
    assert ManagedPod.objects.get().phase == PodPhase.STARTING
    server.start()
    loop_.wake()
    wait_until(lambda: not Pool.objects.get(pk=pool.pk).trouble, "it is over")
    assert len(own_space.all_pods()) == 1


def test_a_frozen_server_does_not_hang_the_client(server, own_space, monkeypatch):
    """``timeoutSeconds`` is kept by the server only; the client has a time-out of its own."""
    monkeypatch.setattr(transport, "READ_SECONDS", 0.3)
    monkeypatch.setattr(client, "_WATCH_READ_SECONDS", 1.0)
    version = cluster().version(SELECTOR)
    events = cluster().watch_pods(SELECTOR, version)
    server.server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(Unreachable):
            list(events)
        with pytest.raises(Unreachable):
            cluster().list_pods("")
    finally:
        server.server.signal(signal.SIGCONT)


def test_refusals_are_asked_again_ever_more_slowly():
    pauses = loop.Pauses()
    waits = [pauses.failed() for _ in range(12)]
    assert 0.5 <= waits[0] <= 1.0
    assert 30.0 <= waits[-1] <= 60.0
    pauses.went_well()
    assert pauses.failed() <= 1.0


def test_it_stands_by_while_another_controller_is_the_active_one(own_space, transactional_db):
    make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)
    stop = threading.Event()
    standing_by = ClusterLoop(stop, lambda: False)
    standing_by.start()
    standing_by.wake()
    stop.wait(1.5)
    stop.set()
    standing_by.join(10)
    assert own_space.all_pods() == []
