"""Pods of a cluster without nodes, played: each is a simulated agent in this process.

A pod runs, and its agent registers with the token of its service account, as soon as the API
server has it; the agent ends when the pod is deleted. What a real cluster needs to find a node,
to pull an image and to start a container is no part of what is measured.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agents_app.agent.client import READ_SECONDS
from benchmarks.agents import Fleet, Refused, SimulatedAgent
from benchmarks.result import CannotMeasure
from pods_app.cluster.errors import ClusterError, Expired
from tests.support.namespaces import Space

_THREADS = 4
#: A pod's row may be written a moment after its agent asks; agents try again.
_AGAIN_SECONDS = 0.2


class Kubelet(threading.Thread):
    """Plays the pods of a namespace. Use it as a context manager.

    Args:
        audience: of the agents' tokens.
        agent: makes the agent of a pod from its name and UID.
    """

    def __init__(
        self,
        space: Space,
        fleet: Fleet,
        audience: str,
        agent: Callable[[str, str], SimulatedAgent],
    ) -> None:
        super().__init__(name="simulated kubelet", daemon=True)
        self._space, self._fleet, self._audience, self._agent = space, fleet, audience, agent
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pod")
        self._begun: set[str] = set()  # UIDs of pods
        self._agents: dict[str, asyncio.Task[None]] = {}
        self._gone: dict[str, float] = {}
        self._stop = threading.Event()
        self.problem: Exception | None = None

    def __enter__(self) -> Kubelet:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    @property
    def alive(self) -> int:
        """How many pods the API server has, as far as it has told."""
        return len(self._begun - self._gone.keys())

    def check(self) -> None:
        """Raise CannotMeasure when a pod could not be played, or an agent failed."""
        self._fleet.check()
        if self.problem is not None:
            raise CannotMeasure(f"A pod cannot be simulated: {self.problem!r}")

    def last_gone(self, since: float) -> float:
        """Return when the last pod that was deleted after ``since`` was gone from the API."""
        return max(moment for moment in self._gone.values() if moment >= since)

    def run(self) -> None:
        version = "0"  # whatever there is already, too
        while not self._stop.is_set():
            try:
                for event in self._space.pods.watch_pods("", version):
                    version = event["object"]["metadata"]["resourceVersion"]
                    self._see(event["type"], event["object"])
            except Expired:
                version = "0"
            except ClusterError as error:
                if not self._stop.is_set():
                    self.problem = error
                return

    def _see(self, kind: str, pod: dict[str, Any]) -> None:
        if kind == "BOOKMARK":
            return
        uid = pod["metadata"]["uid"]
        if kind == "DELETED":
            self._gone[uid] = time.time()
            self._threads.submit(self._end, uid)
        elif pod["metadata"].get("deletionTimestamp"):
            self._threads.submit(self._played, self._space.remove, pod)
        elif uid not in self._begun:
            self._begun.add(uid)
            self._threads.submit(self._played, self._begin, pod)

    def _played(self, part: Callable[[dict[str, Any]], None], pod: dict[str, Any]) -> None:
        try:
            part(pod)
        except Exception as error:  # noqa: BLE001  told to the thread that waits
            if pod["metadata"]["uid"] not in self._gone:
                self.problem = self.problem or error

    def _begin(self, pod: dict[str, Any]) -> None:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        self._space.bind(pod)
        self._space.set_status(pod, phase="Running")
        token = self._space.token(
            pod["spec"]["serviceAccountName"], audience=self._audience, pod=pod
        )
        deadline = time.monotonic() + READ_SECONDS
        while uid not in self._gone:
            agent = self._agent(name, uid)
            try:
                self._agents[uid] = self._fleet.call(self._fleet.add(agent, token))
                break
            except Refused as refusal:
                if refusal.status < 500 or time.monotonic() > deadline:
                    raise
            time.sleep(_AGAIN_SECONDS)
        if uid in self._gone:
            self._end(uid)

    def _end(self, uid: str) -> None:
        agent = self._agents.pop(uid, None)
        if agent is not None:
            self._fleet.cancel(agent)
