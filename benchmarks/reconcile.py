"""A pass over a pool of 1,000 pods and 3,000 slots, with a real Kubernetes API server.

Nothing runs in the pods: their nodes and status are written as a kubelet would. What is measured
is what the controller does every few seconds when nothing has changed: list the pods, judge each,
read the rows, decide.
"""

from __future__ import annotations

import os
import secrets
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.cluster import running_cluster
from benchmarks.harness import say
from benchmarks.result import Bar, CannotMeasure, Result, summary
from config import embedded
from config.launch import BASE_DIR, fresh_directory
from tests.support.namespaces import Space

if TYPE_CHECKING:
    from pods_app.models import Pool

RUNS = 5
PODS, FEW, SLOTS = 1000, 10, 3
_DIRECTORY = BASE_DIR / "var" / "benchmarks"
_THREADS = 8


def run(runs: int) -> Result:
    """Measure ``runs`` passes over 1,000 pods, and their queries beside those for ten."""
    with running_cluster() as space, _database(space):
        from pods_app.models import Pool

        pool = Pool.objects.create(name="pool", kind="kubernetes", slots_per_pod=SLOTS)
        _fill(space, pool, FEW)
        _, few = _pass(pool)
        say(f"Creating {PODS} pods")
        making = _fill(space, pool, PODS)
        say(f"Looking at them {runs} times")
        passes = [_pass(pool) for _ in range(runs)]
        listing = [_listing() for _ in range(runs)]
    took = summary([seconds * 1000 for seconds, _ in passes])
    queries = max(number for _, number in passes)
    return Result(
        name="reconcile",
        runs=runs,
        figures={
            "pods": PODS,
            "slots": PODS * SLOTS,
            "pass_ms": took,
            "of_it_the_list_ms": summary([seconds * 1000 for seconds in listing]),
            "queries": queries,
            "queries_for_ten_pods": few,
            "creating_per_second": round((PODS - FEW) / making, 1),
        },
        bars=[
            Bar("a pass over 1,000 pods, median ms", took["p50"], 1000.0),
            Bar("queries beyond those for ten pods", float(queries - few), 0.0),
        ],
    )


def _pass(pool: Pool) -> tuple[float, int]:
    """Return how long a pass took in seconds and its queries; there must be nothing to do."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    from pods_app.cluster.reconcile import reconcile_cluster

    with CaptureQueriesContext(connection) as captured:
        begun = time.perf_counter()
        changes = reconcile_cluster([pool])
        took = time.perf_counter() - begun
    if changes:
        raise CannotMeasure(f"The pool was not at rest: {changes[0]}")
    return took, len(captured)


def _listing() -> float:
    from pods_app.cluster.connection import cluster

    begun = time.perf_counter()
    cluster().list_pods("")
    return time.perf_counter() - begun


def _fill(space: Space, pool: Pool, number: int) -> float:
    """Bring the pool to so many online pods; returns the seconds that creating them took."""
    from pods_app.cluster.reconcile import reconcile_cluster
    from pods_app.models import ManagedPod

    pool.min_pods = pool.max_pods = number
    pool.save()
    begun = time.perf_counter()
    reconcile_cluster([pool])
    took = time.perf_counter() - begun

    def put_on_a_node(pod: dict[str, Any]) -> None:
        space.bind(pod)
        space.set_status(pod, phase="Running")

    waiting = [pod for pod in space.all_pods() if "nodeName" not in pod["spec"]]
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(put_on_a_node, waiting))
    ManagedPod.objects.update(phase="online", phase_reason="", host="node-1")
    reconcile_cluster([pool])
    return took


@contextmanager
def _database(space: Space) -> Iterator[None]:
    """An empty database, with Django set up for it and for the cluster."""
    import django
    from django.core.management import call_command

    directory = fresh_directory(_DIRECTORY) / "postgres"
    try:
        os.environ.update(
            {
                "DATABASE_URL": embedded.start(directory, throw_away=True),
                "DJANGO_SETTINGS_MODULE": "config.settings.server",
                "SECRET_KEY": secrets.token_urlsafe(50),
                "SLIPWAY_ENCRYPTION_KEYS": f"k1:{b64encode(secrets.token_bytes(32)).decode()}",
                "LOG_LEVEL": "WARNING",
                "SLIPWAY_KUBECONFIG": str(space.kubeconfig("slipway-controller")),
                "SLIPWAY_CLUSTER_NAMESPACE": space.name,
                "SLIPWAY_AGENT_IMAGE": "slipway.example/agent:1",
            }
        )
        django.setup()
        call_command("migrate", verbosity=0, interactive=False)
        yield
    finally:
        embedded.stop(directory)
