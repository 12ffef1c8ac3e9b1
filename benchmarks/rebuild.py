"""`rebuild`: an agent dies; how soon does another one hold its pending apply again?

Two agents in a static pool, a plan with the provider of 500 MB that waits, held on the first.
The first is killed and its work directory deleted, as a pod takes it along. The clock starts when
the agent is declared lost, in database time, and ends when the other one has told that Terraform
waits at its gate, from a directory that it restored from the server's copy:

- mirror: the provider is in the mirror that agents of one machine share
- bare: the mirror is gone too; the provider comes from a zipped one upstream
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import waiting
from benchmarks.bench import PATIENCE_SECONDS, Bench
from benchmarks.harness import running_platform, say
from benchmarks.kinds import KINDS, zipped_mirror
from benchmarks.result import Bar, CannotMeasure, Result
from config.client import Api
from config.launch import BASE_DIR, Platform

RUNS = 7
HELD_AGAIN_SECONDS = 2.0
_POOL = "machines"


def run(runs: int) -> Result:
    """Kill an agent again and again, with and without the mirror in turn."""
    kind = next(kind for kind in KINDS if kind.large)
    mirror = zipped_mirror()
    took: dict[str, list[float]] = defaultdict(list)
    with (
        running_platform(SLIPWAY_HEARTBEAT_SECONDS="1", SLIPWAY_AGENT_LOST_SECONDS="5") as platform,
        Api(platform) as api,
    ):
        agents = _Agents(platform, mirror)
        bench = Bench(platform, api, kind, pool=_POOL)
        with agents.running("first"):  # the mirror is filled, and the run not counted
            task = bench.plan()
            waiting.wait_until_held(task)
            _discard(bench, task)
        for number in range(runs):
            say(f"  run {number + 1} of {runs}")
            for way in ("mirror", "bare"):
                took[way].append(_rebuild(agents, bench, f"{way}-{number}", bare=way == "bare"))
    figures = {
        way: {
            "held_again_s": round(statistics.median(values), 2),
            "held_again_max_s": round(max(values), 2),
        }
        for way, values in took.items()
    }
    slowest = round(max(took["mirror"]), 2)
    bars = [Bar("large: held again, slowest, s after the loss", slowest, HELD_AGAIN_SECONDS)]
    return Result(name="rebuild", runs=runs, figures=figures, bars=bars)


class _Agents:
    """Starts agents of the static pool."""

    def __init__(self, platform: Platform, mirror: Path) -> None:
        from pods_app.models import Pool
        from pods_app.registration import create_pool_token
        from pods_app.states import PoolKind
        from tasks_app.actors import Actor

        pool = Pool.objects.create(name=_POOL, kind=PoolKind.STATIC)
        _, token = create_pool_token(actor=Actor.system("benchmark"), pool=pool, name="agents")
        self._directory = platform.directory / "static-agents"
        self._directory.mkdir()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "SLIPWAY_URL": platform.url,
            "SLIPWAY_POOL_TOKEN": token,
            "SLIPWAY_PROVIDER_MIRROR": str(mirror),
        }

    @contextmanager
    def running(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run an agent for the body, which may kill it."""
        from pods_app.models import ManagedPod
        from pods_app.states import PodPhase

        environment = self._environment | {
            "SLIPWAY_POD_NAME": name,
            "SLIPWAY_AGENT_DIRECTORY": str(self._directory / name),
        }
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "run_agent"],
                cwd=BASE_DIR,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            online = ManagedPod.objects.filter(pod_name=name, phase=PodPhase.ONLINE)
            waiting.wait(
                online.exists, f"agent {name} is not online; see {self._directory / name}.log"
            )
            yield process
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def _rebuild(agents: _Agents, bench: Bench, name: str, *, bare: bool) -> float:
    """Return for how many seconds a plan was not held after its agent was declared lost."""
    from pods_app.models import Lease
    from tasks_app.models import Event

    with agents.running(f"dies-{name}") as first:
        task = bench.plan()
        waiting.wait_until_held(task)
        with agents.running(f"takes-over-{name}"):
            killed = time.time()
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            shutil.rmtree(bench.directory(task))
            if bare:
                bench.remove_mirror()
            held = Lease.objects.filter(
                task=task["id"], ended_at=None, held=True, slot__pod__pod_name__startswith="takes"
            )
            waiting.wait(held.exists, "nobody holds the plan again")
            again = time.time()
            lost = Event.objects.filter(kind="pod.lost").latest("created_at").created_at.timestamp()
            if not killed < lost < again:
                raise CannotMeasure("The agent was not declared lost before its plan was held.")
            _discard(bench, task)
    return again - lost


def _discard(bench: Bench, task: dict[str, Any]) -> None:
    bench.api.call("POST", f"tasks/{task['id']}/discard/", json={})
