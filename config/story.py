"""`scripts/demo --story`: the life of a pool, from zero pods to zero pods.

Ten plans make a pool grow, their applies are held, three are confirmed, the pool is not scaled
down while it keeps the others ready, it is frozen, and afterwards everything is warm again.
Whatever is done is done by the REST API and management commands, as people do it, and a step
counts only when the API's answers show that it holds.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from config import processes
from config.client import Api, first_action_ms
from config.launch import BASE_DIR, Platform
from config.pool_client import PoolClient, Say
from config.processes import Failed

EXAMPLE = BASE_DIR / "examples" / "pool"
POOL = "story"
KINDS = {"local": "processes of this machine", "kubernetes": "Kubernetes"}
PLANS, CONFIRMED, PODS, SLOTS = 10, 3, 4, 3
#: A pod without work goes after so long: what keeps the pods here is not the delay.
_DELAY_SECONDS = 2
#: So long it is watched that nothing happens; the controller looks at pods every 5 s at least.
_WATCH_SECONDS = 8.0
#: Of the image that pods in Kubernetes run, unless the environment names another.
_IMAGE = "slipway-agent"

#: What was seen in a step, in words and as data.
Seen = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Step:
    """A step that held; ``facts`` say what was seen as data."""

    name: str
    seen: str
    seconds: float
    facts: dict[str, Any]


@dataclass
class Told:
    """The document of ``--json``; ``status`` is complete if every step held, else error."""

    kind: str
    status: str = "error"
    steps: list[Step] = field(default_factory=list)
    total_seconds: float = 0.0
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether every step held."""
        return self.status == "complete"


def surroundings(kubeconfig: Path | None, namespace: str) -> dict[str, str]:
    """Return what the platform's environment must say for pods in Kubernetes; else nothing."""
    if kubeconfig is None:
        return {}
    return {
        "SLIPWAY_KUBECONFIG": str(kubeconfig.resolve()),
        "SLIPWAY_CLUSTER_NAMESPACE": namespace,
        "SLIPWAY_AGENT_IMAGE": os.environ.get("SLIPWAY_AGENT_IMAGE", _IMAGE),
    }


def tell(platform: Platform, api: Api, say: Say, kind: str) -> Told:
    """Play the story on a running platform; a step that does not hold ends it.

    Args:
        say: gets a line for each step, and what is seen meanwhile.
        kind: of the pool, from `KINDS`.
    """
    told, began = Told(kind), time.monotonic()
    try:
        for name, step in _Story(platform, api, say, kind).steps().items():
            started = time.monotonic()
            try:
                seen, facts = step()
            except Failed as error:
                raise Failed(f"{name.replace('_', ' ').capitalize()}: {error}") from error
            told.steps.append(Step(name, seen, round(time.monotonic() - started, 1), facts))
            say(f"✓ {told.steps[-1].seconds:5.1f} s  {seen}")
        told.status = "complete"
    except Failed as error:
        told.error = str(error)
    finally:
        if kind == "kubernetes" and told.steps and not told.ok:
            _remove_pods(platform, say)
    told.total_seconds = round(time.monotonic() - began, 1)
    return told


def report(told: Told, logs: Path) -> str:
    """Return what people read at the end; the steps were said as they came."""
    if told.ok:
        return f"\nEvery step held: {len(told.steps)} steps, {told.total_seconds} s\n"
    return f"""
{told.error}

The story ended there, after {told.total_seconds} s. A busy machine may only have been too slow:
then run it again. Every log is in {logs}; scripts/server starts such a platform to look around.
"""


def _remove_pods(platform: Platform, say: Say) -> None:
    """Leave nothing in the cluster when the story ends early: its database will be deleted."""
    say("Removing the pods from the cluster")
    command = [sys.executable, "manage.py", "freeze", POOL, "--reason", "the story ended early"]
    log = platform.directory / "logs" / "setup.log"
    try:
        processes.run(
            "Freezing the pool",
            command,
            cwd=BASE_DIR,
            environment=platform.environment,
            log=log,
        )
    except Failed as error:
        say(f"{error}\nPods labelled app.kubernetes.io/managed-by=slipway may be left; delete them")


class _Story:
    """The steps. Each waits until it holds, and returns what was seen."""

    def __init__(self, platform: Platform, api: Api, say: Say, kind: str) -> None:
        self._platform, self._api, self._kind = platform, api, kind
        self._pool = PoolClient(platform, api, say, POOL)
        self._ledger = platform.directory / "ledger"  # what was really created, by local pods
        self._applied: list[str] = []  # ids of tasks
        self._confirmed_late = self._planned_late = ""  # during the freeze

    def steps(self) -> Mapping[str, Callable[[], Seen]]:
        """Return the steps by name, in their order."""
        return {
            "pool_from_zero": self._pool_from_zero,
            "ten_plans": self._ten_plans,
            "pods_created": self._pods_created,
            "applies_held": self._applies_held,
            "three_confirmed": self._three_confirmed,
            "scale_down_refused": self._scale_down_refused,
            "freeze_entered": self._freeze_entered,
            "work_waits": self._work_waits,
            "freeze_left": self._freeze_left,
            "warm_again": self._warm_again,
            "applied_once": self._applied_once,
            "back_to_zero": self._back_to_zero,
        }

    # --- growing --------------------------------------------------------------------------

    def _pool_from_zero(self) -> Seen:
        for pool in self._api.call("GET", "pools/")["results"]:
            # The pool that the platform begins with takes no part, and keeps no pod either.
            values = {"min_pods": 0, "scale_down_delay_seconds": 0}
            self._api.call("PATCH", f"pools/{pool['id']}/", json=values)
        self._pool.create(
            kind=self._kind,
            min_pods=0,
            max_pods=PODS,
            slots_per_pod=SLOTS,
            scale_down_delay_seconds=_DELAY_SECONDS,
        )

        def look() -> tuple[bool, str]:
            pods = self._api.call("GET", "pods/")["results"]
            return not pods, f"the pod of another pool ends: {len(pods)} left"

        self._pool.until("no pod is there", look)
        scaling = self._pool.scaling()
        self._pool.check(scaling["desired"] == 0, f"without work it wants pods: {scaling}")
        seen = f"Pool {POOL} ({KINDS[self._kind]}; 0 to {PODS} pods, {SLOTS} slots each) is empty"
        return f"{seen}: “{scaling['reason']}”", {"pods": 0, "reason": scaling["reason"]}

    def _ten_plans(self) -> Seen:
        ledger = {"ledger": str(self._ledger)} if self._kind == "local" else {}
        names = [f"{POOL}-{number:02}" for number in range(1, PLANS + 1)]
        workspaces = [
            self._pool.add_workspace(name, EXAMPLE, {"name": name, **ledger}) for name in names
        ]
        for workspace in workspaces:
            self._pool.plan(workspace)
        scaling: dict[str, Any] = {}

        def look() -> tuple[bool, str]:
            nonlocal scaling
            self._pool.check_tasks()
            scaling = self._pool.scaling()
            return scaling["desired"] == PODS, f"{scaling['desired']} pods wanted"

        self._pool.until(f"the pool wants {PODS} pods", look)
        facts = {"plans": len(workspaces), "desired": PODS, "reason": scaling["reason"]}
        return f"{PLANS} workspaces, a plan asked of each: “{scaling['reason']}”", facts

    def _pods_created(self) -> Seen:
        def look() -> tuple[bool, str]:
            self._pool.check_tasks()
            pods = self._pool.pods()
            online = sum(pod["phase"] == "online" for pod in pods)
            why = sorted({pod["phase_reason"] for pod in pods if pod["phase_reason"]})
            seen = " · ".join([f"{online} of {len(pods)} pods online", *why])
            return online == len(pods) == PODS, seen

        self._pool.until(f"{PODS} pods are online", look)
        slots = {pod["pod_name"]: len(pod["slots"]) for pod in self._pool.pods()}
        self._pool.check(set(slots.values()) == {SLOTS}, f"a pod has not {SLOTS} slots: {slots}")
        return f"{PODS} pods created and online: {', '.join(sorted(slots))}", {"slots": slots}

    def _applies_held(self) -> Seen:
        self._pool.until_held(PLANS)
        held = {pod: len(tasks) for pod, tasks in sorted(self._pool.held_by_pod().items())}
        words = ", ".join(f"{number} on {pod}" for pod, number in held.items())
        seen = f"{PLANS} plans wait for a person, each with its apply held: {words}"
        return seen, {"held": PLANS, "by_pod": held}

    # --- confirming -----------------------------------------------------------------------

    def _three_confirmed(self) -> Seen:
        by_pod = self._pool.held_by_pod()
        for _ in range(CONFIRMED):
            fullest = max(by_pod.values(), key=len)  # so that no pod becomes empty
            self._applied.append(fullest.pop()["id"])
        for task in self._applied:
            self._pool.confirm(task)
        self._pool.until_tasks(self._applied, "applied")
        tasks = [self._pool.task(task) for task in self._applied]
        paths = [task["apply_path"] for task in tasks]
        whys = [task["apply_path_reason"] for task in tasks]
        self._pool.check(paths == ["held"] * CONFIRMED, f"another path was taken: {paths} {whys}")
        times = [first_action_ms(task) for task in tasks]
        words = ", ".join("?" if value is None else f"{value:.0f}" for value in times)
        seen = (
            f"{CONFIRMED} confirmed, and applied by the path “held”: {words} ms from the "
            "confirmation to the first resource action"
        )
        return seen, {"paths": paths, "confirm_to_first_action_ms": times}

    def _scale_down_refused(self) -> Seen:
        kept = PLANS - CONFIRMED
        wanted = -(-kept // SLOTS)
        before = {pod["id"] for pod in self._pool.pods()}
        scaling: dict[str, Any] = {}
        staying: dict[str, str] = {}

        def look() -> tuple[bool, str]:
            nonlocal scaling, staying
            scaling = self._pool.scaling()
            staying = {one["pod"]: one["reason"] for one in scaling["staying"]}
            keeping = [why for why in staying.values() if why.startswith("Keeps ")]
            there = {pod["id"] for pod in self._pool.pods() if not pod["draining"]}
            right = scaling["desired"] == wanted and len(keeping) == PODS and there == before
            return right, f"{scaling['desired']} pods wanted, {len(there)} there: {staying}"

        self._pool.until(f"{wanted} pods are wanted, and {PODS} stay for what they keep", look)
        self._pool.stays(_WATCH_SECONDS, look)
        held = sum(map(len, self._pool.held_by_pod().values()))
        self._pool.check(held == kept, f"{held} applies are held, not {kept}")
        words = ", ".join(f"{pod} {why.lower()}" for pod, why in sorted(staying.items()))
        facts = {"desired": wanted, "reason": scaling["reason"], "pods": PODS, "staying": staying}
        return f"{wanted} pods would do, but it is not scaled down: {words}", facts

    # --- freezing -------------------------------------------------------------------------

    def _freeze_entered(self) -> Seen:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
        self._platform.manage(
            *("Freezing the pool", "freeze", POOL),
            *("--reason", "the story", "--until", until.isoformat()),
        )

        def look() -> tuple[bool, str]:
            state = self._pool.freeze_state()
            pods = self._pool.pods()
            stopped = state["state"] == "frozen" and state["confirmed_stopped"] and not pods
            return bool(stopped), f"{state['state']}, {len(pods)} pods"

        self._pool.until("the pool is frozen and known to be stopped", look)
        held = self._pool.held_by_pod()
        self._pool.check(not held, f"applies are held without a pod: {held}")
        reason = self._pool.freeze_state()["reason"]
        facts = {"pods": 0, "held": 0, "waiting": len(self._pool.waiting()), "reason": reason}
        return f"{reason}: no pod is left, {facts['waiting']} plans wait on, none is held", facts

    def _work_waits(self) -> Seen:
        until = self._pool.freeze_state()["reason"].partition(" (")[0].removeprefix("Frozen ")
        self._confirmed_late = self._pool.waiting()[0]["id"]
        self._pool.confirm(self._confirmed_late)
        self._planned_late = self._pool.plan(self._pool.task(self._applied[0])["workspace"])
        reasons: list[str] = []

        def look() -> tuple[bool, str]:
            nonlocal reasons
            confirmed = self._pool.task(self._confirmed_late)
            planned = self._pool.task(self._planned_late)
            reasons = [confirmed["waiting_reason"], planned["waiting_reason"]]
            told = all(f"is frozen {until}" in reason for reason in reasons)
            idle = (confirmed["status"], planned["status"]) == ("confirmed", "pending")
            pods = self._pool.pods()
            seen = f"{confirmed['status']} and {planned['status']}, {len(pods)} pods: {reasons}"
            return told and idle and not pods, seen

        self._pool.until(f"both say that they wait {until}", look)
        self._pool.stays(_WATCH_SECONDS, look)
        scaling = self._pool.scaling()
        self._pool.check(scaling["desired"] == 0, f"frozen, it wants pods: {scaling}")
        seen = f"Another plan confirmed and a new one asked for; both wait: “{reasons[0]}”"
        return seen, {"waiting_reasons": reasons}

    def _freeze_left(self) -> Seen:
        self._platform.manage("Unfreezing the pool", "unfreeze", POOL, "--reason", "it goes on")

        def look() -> tuple[bool, str]:
            state, pods = self._pool.freeze_state()["state"], self._pool.pods()
            online = sum(pod["phase"] == "online" for pod in pods)
            return state == "open" and online > 0, f"{state}, {online} of {len(pods)} pods online"

        self._pool.until("the pool is open and has a pod", look)
        self._pool.until_tasks([self._confirmed_late], "applied")
        self._applied.append(self._confirmed_late)
        self._pool.until_tasks([self._planned_late], "planned_and_finished")
        path = self._pool.task(self._confirmed_late)["apply_path"]
        seen = (
            f"Open again: the confirmed plan is applied (path “{path}”), and the new one finds "
            "nothing to change"
        )
        return seen, {"path": path}

    def _warm_again(self) -> Seen:
        held = PLANS - CONFIRMED - 1
        self._pool.until_held(held)
        pods = sorted(pod["pod_name"] for pod in self._pool.pods())
        seen = f"Everything is warm again: all {held} plans that wait are held, on {len(pods)} pods"
        return seen, {"held": held, "pods": pods}

    # --- the end --------------------------------------------------------------------------

    def _applied_once(self) -> Seen:
        waiting = [task["id"] for task in self._pool.waiting()]
        expected = dict.fromkeys(self._applied, 1) | dict.fromkeys(waiting, 0)
        self._pool.check(len(expected) == PLANS, f"{len(expected)} tasks are left of {PLANS}")
        for task, times in expected.items():
            self._check_applied(task, times)
        seen = f"{len(self._applied)} applied once each, {len(waiting)} not at all"
        facts: dict[str, Any] = {"applied": len(self._applied), "waiting": len(waiting)}
        if self._kind == "local":
            created = sorted(self._ledger.read_text().split())
            names = sorted(self._pool.task(task)["workspace_name"] for task in self._applied)
            self._pool.check(created == names, f"really created were {created}, not {names}")
            facts["created"] = created
        return seen, facts

    def _check_applied(self, task_id: str, times: int) -> None:
        """Check by its events and the state that a task was applied so many times."""
        task = self._pool.task(task_id)
        name, query = task["workspace_name"], {"page_size": 200}
        events = self._api.call("GET", f"tasks/{task_id}/events/", params=query)["results"]
        for status in ("applying", "applied"):
            found = sum(event["to_status"] == status for event in events)
            self._pool.check(found == times, f"{name} was {status} {found} times, not {times}")
        path = f"workspaces/{task['workspace']}/state-versions/"
        states = self._api.call("GET", path)["results"]
        authors = {state["task"] for state in states}
        wanted = {task_id} if times else set()
        self._pool.check(authors == wanted, f"{name} has states of tasks {authors}")
        counts = [state["resource_count"] for state in states[:1]]
        self._pool.check(counts == [1] * times, f"the state of {name} has {counts} resources")

    def _back_to_zero(self) -> Seen:
        waiting = self._pool.waiting()
        for task in waiting:
            self._pool.discard(task["id"])

        def look() -> tuple[bool, str]:
            pods = self._pool.pods()
            return not pods, f"{len(pods)} pods"

        self._pool.until("the pool is empty", look)
        return f"{len(waiting)} plans discarded: the pool is empty again", {"pods": 0}
