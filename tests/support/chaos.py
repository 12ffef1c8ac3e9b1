"""Kills of everything a platform in a cluster consists of, drawn from a seed."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress

import psutil

from pods_app.models import ManagedPod
from pods_app.states import PodPhase, PoolKind
from tests.support.kubelet import Kubelet, Running
from tests.support.platform import Platform
from tests.support.programs import Program


class Chaos:
    """Strikes one thing at a time; ``strikes`` tells what, for a failed test.

    Args:
        controllers: the platform's, of which one is active.
        worker: django-q2's cluster.
    """

    def __init__(
        self,
        platform: Platform,
        kubelet: Kubelet,
        controllers: list[Program],
        worker: Program,
        dice: random.Random,
    ) -> None:
        self._platform, self._kubelet, self._dice = platform, kubelet, dice
        self._controllers, self._worker = controllers, worker
        self.strikes: list[str] = []
        #: Pods and agents hold the work, so they are struck more often than the processes
        #: that can only forget it.
        self._victims: list[tuple[int, str, Callable[[], str]]] = [
            (4, "pod dies", self._kill_pod),
            (3, "pod removed by force", self._remove_pod),
            (2, "pod asked to end", self._end_pod),
            (4, "local agent dies", self._kill_local_agent),
            (2, "worker dies", lambda: _kill_session(self._worker)),
            (2, "server dies", lambda: _kill_session(self._platform.server)),
            (2, "controller dies", self._kill_controller),
        ]

    def strike(self) -> None:
        """End something that there is at this moment."""
        weights = [weight for weight, _, _ in self._victims]
        struck = ""
        while not struck:
            _, name, act = self._dice.choices(self._victims, weights)[0]
            struck = act()
        self.strikes.append(f"{name}: {struck}")

    # --- what is struck -------------------------------------------------------------------

    def _kill_pod(self) -> str:
        running = self._some_pod()
        if running is None:
            return ""
        running.kill()
        return running.name

    def _remove_pod(self) -> str:
        return self._delete_pod(grace=0)

    def _end_pod(self) -> str:
        return self._delete_pod(grace=None)

    def _delete_pod(self, grace: int | None) -> str:
        running = self._some_pod()
        if running is None:
            return ""
        uid = running.pod["metadata"]["uid"]
        self._kubelet.space.pods.delete_pod(running.name, uid=uid, grace=grace)
        return running.name

    def _some_pod(self) -> Running | None:
        running = sorted(self._kubelet.pods.values(), key=lambda one: one.name)
        return self._dice.choice(running) if running else None

    def _kill_local_agent(self) -> str:
        """The agent alone: its Terraform lives on, and the next agent of the pod adopts it."""
        pods = ManagedPod.objects.filter(kind=PoolKind.LOCAL, process_id__isnull=False)
        pods = pods.exclude(phase=PodPhase.GONE).order_by("pod_name")
        pod = self._dice.choice(list(pods)) if pods else None
        if pod is None or pod.process_id is None:
            return ""
        with suppress(ProcessLookupError):
            os.kill(pod.process_id, signal.SIGKILL)
        return pod.pod_name

    def _kill_controller(self) -> str:
        return _kill_session(self._dice.choice(self._controllers))


def _kill_session(program: Program) -> str:
    """Kill a process with all of its session, as the end of a container does, and start it again.

    Until nobody is left: django-q2 replaces a worker that ends. Agents of local pods are in
    sessions of their own, and outlive a controller.
    """
    if program.alive:
        while members := [pid for pid in psutil.pids() if _is_in_session(pid, program.pid)]:
            for pid in members:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            program.kill()
    program.start()
    return program.name


def _is_in_session(pid: int, session: int) -> bool:
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
