"""A scheduler and kubelet for tests: makes pods of a namespace run as processes of this machine.

It binds pods, starts the container's command with the environment of the pod spec (references
and mounted paths resolved), writes status, and honours deletion: SIGTERM, the grace period,
SIGKILL, then the object goes. A pod removed by force lives on until a test says otherwise, as
it does in production until its kubelet hears of it, or for ``hears_after`` seconds.
"""

from __future__ import annotations

import fcntl
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import psutil

from pods_app.cluster.errors import ClusterError
from tests.support import fatal_agent
from tests.support.namespaces import Space
from tests.support.programs import Program, inherited

_PAUSE_SECONDS = 0.1
NODE = "node-1"
MOMENTS = "moments"


@dataclass
class Running:
    """A pod that this kubelet has started."""

    pod: dict[str, Any]
    directory: Path
    program: Program
    family: dict[int, float] = field(default_factory=dict)  # pid: when it was created
    ending_since: float | None = None
    removed_at: float | None = None

    @property
    def work(self) -> Path:
        """Where it keeps work directories: agents are told this path by the server."""
        (container,) = self.pod["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        return Path(mounts["work"])

    @property
    def name(self) -> str:
        found: str = self.pod["metadata"]["name"]
        return found

    @property
    def moments(self) -> list[str]:
        """The moments so far, of an agent that counts them."""
        file = self.directory / MOMENTS
        return file.read_text().splitlines() if file.exists() else []

    def look(self) -> None:
        """Remember the processes that came from the agent, before they lose their parent."""
        for pid in [self.program.pid, *self.family]:
            try:
                for one in psutil.Process(pid).children(recursive=True):
                    self.family.setdefault(one.pid, one.create_time())
            except psutil.Error:
                continue

    def kill(self) -> None:
        """End everything in the pod, as the end of its container does.

        All is stopped first, so that nothing is born while it is looked for.
        """
        self.look()
        known = -1
        while known != (known := len(self.family)):
            self._each(psutil.Process.suspend)
            self.look()
        self.program.kill()
        self._each(psutil.Process.kill)

    def _each(self, act: Callable[[psutil.Process], None]) -> None:
        if self.program.alive:
            act(psutil.Process(self.program.pid))
        for pid, created in list(self.family.items()):
            try:
                process = psutil.Process(pid)
                if process.create_time() == created:
                    act(process)
            except psutil.Error:
                continue


class Machine(Protocol):
    """What keeps the programs that are started, for the report of a failed test."""

    programs: list[Program]


#: What a pod meets instead of running: its status, or None to leave it alone.
Fate = Callable[[dict[str, Any]], dict[str, Any] | None]


class Kubelet:
    """Use it as a context manager; everything it started is gone afterwards.

    Args:
        directory: for the pods' volumes and logs.
        platform: whose agents they are; ``programs`` gets what is started.
    """

    def __init__(self, space: Space, directory: Path, platform: Machine) -> None:
        self.space, self.directory, self.platform = space, directory, platform
        self.pods: dict[str, Running] = {}  # by UID
        self.survivors: list[Running] = []  # of pods that were removed by force
        self.fate: Fate | None = None
        self.confirms_ends = True
        self.spared: set[str] = set()  # ids of workspaces whose agents are no pods
        self.stop_at = ""  # the moment at which the agent of the next pod stops (fatal_agent)
        self.hears_after: float | None = None  # of a removal by force; None: never
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="test kubelet", daemon=True)

    def __enter__(self) -> Kubelet:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        for running in [*self.pods.values(), *self.survivors]:
            running.kill()

    def of(self, name: str) -> Running:
        """Return what runs for the pod of this name."""
        return next(one for one in self.pods.values() if one.name == name)

    # --- the loop -------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_SECONDS):
            try:
                self._pass()
            except ClusterError:
                continue  # the server restarts, or the object changed: look again

    def _pass(self) -> None:
        pods = {pod["metadata"]["uid"]: pod for pod in self.space.all_pods()}
        for uid, running in list(self.pods.items()):
            running.look()
            if uid not in pods:
                running.removed_at = time.monotonic()
                self.survivors.append(self.pods.pop(uid))
        self._end_survivors()
        for uid, pod in pods.items():
            if (pod.get("status") or {}).get("phase") in {"Failed", "Succeeded"}:
                continue
            if uid not in self.pods:
                self._begin(pod)
            elif pod["metadata"].get("deletionTimestamp"):
                self._end(self.pods[uid], pod)
            elif not self.pods[uid].program.alive:
                self._report_end(self.pods[uid])

    def _begin(self, pod: dict[str, Any]) -> None:
        if self.fate is not None and (status := self.fate(pod)) is not None:
            if status and any(pod["status"].get(key) != status[key] for key in status):
                self.space.set_status(pod, **status)
            return
        if pod["metadata"].get("deletionTimestamp"):
            self.space.remove(pod)
            return
        if not pod["spec"].get("nodeName"):
            self.space.bind(pod, NODE)
            return
        self.pods[pod["metadata"]["uid"]] = running = self._start(pod)
        state = {"running": {"startedAt": _now()}}
        self._write(running, "Running", state, ready=True)

    def _end(self, running: Running, pod: dict[str, Any]) -> None:
        grace = pod["metadata"].get("deletionGracePeriodSeconds") or 0
        if not grace:
            return  # removed by force: the server marks it so at the moment before it is gone
        now = time.monotonic()
        if running.ending_since is None:
            running.ending_since = now
            if running.program.alive:
                running.program.signal(signal.SIGTERM)
        if running.program.alive and now - running.ending_since < grace:
            return
        if self.confirms_ends:
            self._clear(running)
            self.space.remove(running.pod)

    def _report_end(self, running: Running) -> None:
        code = running.program.exit_code or 0
        ended: dict[str, Any] = {"exitCode": code if code >= 0 else 128 - code}
        if code < 0:
            ended["signal"] = -code
        self._clear(running)
        phase = "Failed" if code else "Succeeded"
        self._write(running, phase, {"terminated": ended}, ready=False)

    def _end_survivors(self) -> None:
        """End what was removed by force so long ago that this kubelet has heard of it."""
        for running in list(self.survivors):
            removed = running.removed_at or 0.0
            if self.hears_after is not None and time.monotonic() - removed > self.hears_after:
                self.survivors.remove(running)
                self._clear(running)

    def _clear(self, running: Running) -> None:
        """End what is left of a pod and remove its disk: all pods share this machine's."""
        running.kill()
        self.pods.pop(running.pod["metadata"]["uid"], None)
        self._remove_orphaned_directories(running.work)
        shutil.rmtree(running.directory / "volumes", ignore_errors=True)

    def _remove_orphaned_directories(self, work: Path) -> None:
        for folder in (work / "workspaces").glob("*/*"):
            if folder.parent.name in self.spared:
                continue
            lock = work / "locks" / f"{folder.name}.lock"
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock.open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # of a pod that lives
                shutil.rmtree(folder, ignore_errors=True)

    # --- one pod --------------------------------------------------------------------------

    def _start(self, pod: dict[str, Any]) -> Running:
        metadata, spec = pod["metadata"], pod["spec"]
        (container,) = spec["containers"]
        directory = self.directory / f"{metadata['name']}-{metadata['uid'][:8]}"
        mounts = self._volumes(pod, directory, container)
        environment = {**inherited(), "LOG_LEVEL": "DEBUG"}
        for variable in container.get("env", []):
            environment[variable["name"]] = _inside(_value(pod, variable), mounts)
        command = [sys.executable if word == "python" else word for word in container["command"]]
        if self.stop_at:
            command = [sys.executable, "-m", "tests.support.fatal_agent"]
            environment[fatal_agent.STOP], self.stop_at = self.stop_at, ""
            environment[fatal_agent.MOMENTS] = str(directory / MOMENTS)
        program = Program(metadata["name"], command, environment, directory / "agent.log")
        self.platform.programs.append(program)
        program.start()
        return Running(pod, directory, program)

    def _volumes(
        self, pod: dict[str, Any], directory: Path, container: dict[str, Any]
    ) -> dict[str, Path]:
        """Make the pod's volumes; returns where on this machine each mounted path is."""
        folders = {}
        for volume in pod["spec"].get("volumes", []):
            folder = folders[volume["name"]] = directory / "volumes" / volume["name"]
            folder.mkdir(parents=True, mode=0o700)
            for source in volume.get("projected", {}).get("sources", []):
                token = source["serviceAccountToken"]
                account = pod["spec"]["serviceAccountName"]
                text = self.space.token(account, audience=token["audience"], pod=pod)
                (folder / token["path"]).write_text(text)
        return {mount["mountPath"]: folders[mount["name"]] for mount in container["volumeMounts"]}

    def _write(self, running: Running, phase: str, state: dict[str, Any], *, ready: bool) -> None:
        (container,) = running.pod["spec"]["containers"]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": _now()}
        self.space.set_status(
            running.pod, phase=phase, containerStatuses=[status], conditions=[condition]
        )


def _value(pod: dict[str, Any], variable: dict[str, Any]) -> str:
    if "valueFrom" not in variable:
        plain: str = variable.get("value", "")
        return plain
    _, name = variable["valueFrom"]["fieldRef"]["fieldPath"].split(".")
    found: str = pod["metadata"][name]
    return found


def _inside(value: str, mounts: dict[str, Path]) -> str:
    """Return a path in the container as it is on this machine."""
    for path, folder in mounts.items():
        if value == path or value.startswith(f"{path}/"):
            return f"{folder}{value[len(path) :]}"
    return value


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
