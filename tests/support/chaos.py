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
            (2, "worker dies", lambda: _kill_family(self._worker)),
            (2, "server dies", lambda: _kill_family(self._platform.server)),
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
        return _kill_family(self._dice.choice(self._controllers))


def _kill_family(program: Program) -> str:
    """Kill a process with its children, as the end of a container does; it is started again.

    All are stopped first: django-q2 replaces a worker that ends.
    """
    if program.alive:
        known, family = -1, [psutil.Process(program.pid)]
        while known != (known := len(family)):
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.suspend()
            family = [family[0], *_children(family[0])]
        for one in family[1:]:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        program.kill()
    program.start()
    return program.name


def _children(process: psutil.Process) -> list[psutil.Process]:
    """Return the children of its own session: agents of local pods outlive a controller."""
    found = []
    for one in process.children(recursive=True):
        with suppress(ProcessLookupError):
            if os.getsid(one.pid) == process.pid:
                found.append(one)
    return found
