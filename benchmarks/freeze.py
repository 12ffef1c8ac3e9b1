"""`freeze`: a pool of 100 pods with 300 held applies is frozen, and goes on afterwards.

With a real Kubernetes API server, and nodes and agents that are simulated (`pods.py`): a pod's
agent registers with its pod's token as soon as the API server has the pod, and a warm-up takes no
longer than its messages. So this is what Slipway adds to what a cluster and Terraform need.

- entering: from the start of the freeze's window until the API server has no pod any more
- leaving: from a person's ending it until every plan is held again, by pods that were made anew;
  of these warm-ups, at most `SLIPWAY_WARMUPS_PER_PASS` begin in one pass
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from benchmarks import waiting
from benchmarks.agents import SLOTS, Fleet
from benchmarks.cluster import KUBECONFIG, running_cluster
from benchmarks.harness import running_platform, say
from benchmarks.holding import Diary, HoldingAgent
from benchmarks.load import Load
from benchmarks.pods import Kubelet
from benchmarks.population import administrator, held, make_workspaces, plan_and_hold
from benchmarks.result import Bar, Result
from config.launch import Platform

if TYPE_CHECKING:
    from pods_app.models import FreezeWindow, Pool

RUNS = 3
PODS = 100
ENTERING_SECONDS = 30.0
#: From the making of a window to its start.
_AHEAD_SECONDS = 3.0
#: How soon a deleted pod's agent is ended at the latest; until then it may be refused something.
_DELETED_SECONDS = 5.0
_PAUSE_SECONDS, _PATIENCE_SECONDS = 0.1, 600.0


class PodAgent(HoldingAgent):
    """The agent of a pod, which may be deleted under it."""

    async def live(self) -> None:
        try:
            await super().live()
        except ExceptionGroup:
            await asyncio.sleep(_DELETED_SECONDS)
            raise


def run(runs: int) -> Result:
    """Enter and leave a freeze ``runs`` times."""
    sys.setswitchinterval(0.001)  # as in `slots`
    seconds: dict[str, list[float]] = defaultdict(list)
    environment = {
        "SLIPWAY_KUBECONFIG": str(KUBECONFIG),
        "SLIPWAY_AGENT_IMAGE": "slipway.example/agent:1",
    }
    with (
        running_platform(**environment) as platform,
        # Inside: a platform that stops ends whatever this process has started.
        running_cluster() as space,
        Fleet(platform) as fleet,
    ):
        diary = Diary()

        def agent(name: str, uid: str) -> PodAgent:
            return PodAgent(platform.url, fleet.context, diary, name, uid)

        with Kubelet(space, fleet, platform.url, agent) as kubelet:
            pool, tasks = _filled_pool(kubelet)
            for number in range(runs):
                say(f"  freeze {number + 1} of {runs}")
                shares = _one(platform, pool, tasks, kubelet, seconds)
    figures: dict[str, Any] = {"pods": PODS, "held_applies": len(tasks)}
    for name, values in seconds.items():
        figures[name] = {
            "median": round(statistics.median(values), 2),
            "max": round(max(values), 2),
        }
    slowest = round(max(seconds[_GONE]), 2)
    return Result(
        name="freeze",
        runs=runs,
        figures=figures | {"cores_used": shares},
        bars=[Bar("entering, slowest, s until all pods are gone", slowest, ENTERING_SECONDS)],
    )


_GONE = "entering_all_pods_gone_s"
_CLEARED = "entering_all_slots_free_s"
_BACK = "leaving_all_pods_online_s"
_HELD = "leaving_all_applies_held_again_s"


def _filled_pool(kubelet: Kubelet) -> tuple[Pool, list[UUID]]:
    """Make the pool and hold as many plans as it has slots; returns it and the tasks."""
    from pods_app.models import Pool
    from pods_app.states import PoolKind

    pool = Pool.objects.create(
        name="benchmark",
        kind=PoolKind.KUBERNETES,
        slots_per_pod=SLOTS,
        min_pods=PODS,
        max_pods=PODS,
    )
    say(f"Waiting for {PODS} pods")
    _wait(kubelet, lambda: _online(pool) == PODS, "not every pod is online")
    # From now on they are there, and come back, for what is planned.
    Pool.objects.filter(pk=pool.pk).update(min_pods=0)
    say(f"Planning and holding {PODS * SLOTS} applies")
    return pool, plan_and_hold(make_workspaces(pool, PODS * SLOTS))


def _one(
    platform: Platform,
    pool: Pool,
    tasks: list[UUID],
    kubelet: Kubelet,
    seconds: dict[str, list[float]],
) -> dict[str, Any]:
    """Freeze the pool and let it go on; returns who used the processors in both."""
    from pods_app.freeze.services import end_early

    window, edge = _window(pool)
    time.sleep(max(edge - time.time(), 0))
    load = Load(platform)
    _wait(kubelet, lambda: not kubelet.alive, "the API server still has pods")
    seconds[_GONE].append(kubelet.last_gone(edge) - edge)
    _wait(kubelet, lambda: _is_cleared(pool), "the frozen pool still has work")
    seconds[_CLEARED].append(time.time() - edge)
    shares = {"entering": load.shares()}

    load, ended = Load(platform), time.time()
    end_early(actor=administrator(), window=window, reason="benchmark")
    _wait(kubelet, lambda: _online(pool) == PODS, "not every pod is back")
    seconds[_BACK].append(time.time() - ended)
    _wait(kubelet, lambda: held(tasks) == len(tasks), "not every apply is held again")
    seconds[_HELD].append(time.time() - ended)
    return shares | {"leaving": load.shares()}


def _window(pool: Pool) -> tuple[FreezeWindow, float]:
    """Make a window that begins in a moment; returns it and when, in seconds since 1970."""
    from pods_app.freeze.services import create_window, database_now

    start = database_now() + timedelta(seconds=_AHEAD_SECONDS)
    name = f"benchmark {start:%H:%M:%S}"
    window = create_window(
        actor=administrator(),
        pools=[pool],
        confirm=name,
        name=name,
        reason="benchmark",
        time_zone="UTC",
        first_day=start.date(),
        start_time=start.time(),
        lead_minutes=0,
        grace_seconds=0,
    )
    return window, start.timestamp()


def _wait(kubelet: Kubelet, condition: Callable[[], bool], what: str) -> None:
    def looked() -> bool:
        kubelet.check()
        return condition()

    waiting.wait(looked, what, pause=_PAUSE_SECONDS, patience=_PATIENCE_SECONDS)


def _online(pool: Pool) -> int:
    from pods_app.states import PodPhase

    return pool.pods.filter(phase=PodPhase.ONLINE).count()


def _is_cleared(pool: Pool) -> bool:
    from pods_app.leases import unended
    from pods_app.states import PodPhase

    if pool.pods.exclude(phase=PodPhase.GONE).exists():
        return False
    return not unended().filter(slot__pod__pool=pool).exists()
