"""Local processes: a pod is an agent process on this machine, the embedded default.

Agents outlive the controller that started them: each is the leader of its own session, and its
process id and start time in the pod's row let the next controller adopt it. Should a controller
die between starting an agent and noting it, the agent is found by the pod's UID in its
environment.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from django.conf import settings

from pods_app.models import ManagedPod, PodSlot

log = logging.getLogger(__name__)

#: What an agent may inherit: enough to find programs and speak to people.
_INHERITED = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "HOME",
    "TMPDIR",
    "LOG_LEVEL",
    "SSL_CERT_FILE",
    "SLIPWAY_ENGINES",
    "SLIPWAY_PROVIDER_MIRROR",
    "SLIPWAY_CA_BUNDLE",
)
_UID = "SLIPWAY_POD_UID"
_LOG_BYTES_MAX = 10 * 1024**2
_LAST_WORDS_MAX = 200
#: How long killed processes may take to be gone, in seconds.
_KILL_SECONDS = 5.0


class LocalHosting:
    """Runs `manage.py run_agent` for each pod, its files below ``SLIPWAY_AGENTS_DIRECTORY``."""

    kills_at_once = 1

    def __init__(self) -> None:
        # Kept so that dead ones are collected and Python does not warn of running ones.
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def here(self) -> str:
        return socket.gethostname()

    def create(self, pod: ManagedPod, token: str) -> None:
        """Start the agent and note its process in the pod's row."""
        if self.alive(pod):
            return
        self.renew(pod, token)
        _forget_requests(pod)
        directory = _directory(pod)
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {
            "DJANGO_SETTINGS_MODULE": "config.settings.agent",
            "SLIPWAY_URL": settings.SLIPWAY.url,
            "SLIPWAY_POD_NAME": pod.pod_name,
            _UID: pod.pod_uid,
            "SLIPWAY_POOL_TOKEN_FILE": str(directory / "pool-token"),
            "SLIPWAY_AGENT_DIRECTORY": str(_state(pod)),
            "SLIPWAY_SLOTS": str(pod.pool.slots_per_pod),
        }
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "run_agent"]
        with _log(pod).open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=settings.BASE_DIR,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._children[process.pid] = process
        _note(pod, process.pid, start_time(process.pid) or "")

    def renew(self, pod: ManagedPod, token: str) -> None:
        """Put a token where the agent reads it at each registration; never half of one."""
        directory = _directory(pod)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, half = tempfile.mkstemp(dir=directory, prefix="pool-token-")  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            file.write(token)
        os.replace(half, directory / "pool-token")

    def delete(self, pod: ManagedPod) -> bool:
        """Ask the agent once to drain and end: a second signal would mean hurry."""
        if not self.alive(pod) or not pod.process_id:
            return False
        if _first_request(pod):
            os.kill(pod.process_id, signal.SIGTERM)
        return True

    def kill(self, pod: ManagedPod) -> bool:
        """Kill the agent, then every process that has a directory of its tasks.

        Terraform and whatever it started inherited the lock of the task's directory: whoever
        has it open is one of them, also what left the session or survived a former agent.
        """
        if pod.host not in ("", self.here()):
            return False
        tasks = PodSlot.objects.filter(pod=pod).exclude(task=None).values_list("task", flat=True)
        locks = {str(settings.SLIPWAY.work_directory / "locks" / f"{pk}.lock") for pk in tasks}
        patience = time.monotonic() + _KILL_SECONDS
        while True:
            if alive := self.alive(pod) and pod.process_id:
                _kill(pod.process_id)
            holders = _holders(locks)
            for pid in holders:
                _kill(pid)
            if not alive and not holders:
                return True
            if time.monotonic() > patience:
                log.warning("pod %s: %s does not end", pod.pod_name, [pod.process_id, *holders])
                return False
            time.sleep(0.02)

    def alive(self, pod: ManagedPod) -> bool:
        """Return whether the very process of the row still runs, or another of this pod."""
        self._collect()
        if pod.process_id and start_time(pod.process_id) == pod.process_started:
            return True
        found = _find(pod.pod_uid)
        if found is None:
            return False
        _note(pod, *found)
        return True

    def last_words(self, pod: ManagedPod) -> str:
        """Return the last line of the agent's log, cut to what a person reads at a glance."""
        try:
            with _log(pod).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(file.tell() - 4096, 0))
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip()[-_LAST_WORDS_MAX:] if lines else ""

    def forget(self, pod: ManagedPod) -> None:
        """Remove the agent's journal and identity; its log stays for whoever wonders.

        A state that never reached the server stays too, with all that explains it.
        """
        _forget_requests(pod)
        state = _state(pod)
        for pid in _at_work_below(state):
            _kill(pid)  # an engine that an agent tried when it was killed may wait for ever
        saved = next(state.rglob("*.tfstate"), None)
        if saved is not None:
            log.error("pod %s is gone and left a Terraform state at %s", pod.pod_name, saved)
        else:
            shutil.rmtree(state, ignore_errors=True)

    def _collect(self) -> None:
        for pid, process in list(self._children.items()):
            if process.poll() is not None:
                del self._children[pid]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _holders(paths: Collection[str]) -> list[int]:
    """Return the processes that have one of these files open, this one excepted."""
    return [
        int(folder.name)
        for folder in Path("/proc").iterdir()
        if paths
        and folder.name.isdigit()
        and int(folder.name) != os.getpid()
        and _has_open(folder, paths)
    ]


def _has_open(process: Path, paths: Collection[str]) -> bool:
    try:
        with os.scandir(process / "fd") as descriptors:
            return any(os.readlink(one.path) in paths for one in descriptors)
    except OSError:
        return False  # it ended, or is not ours


def _at_work_below(directory: Path) -> list[int]:
    """Return the processes whose current folder is in this directory."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and os.readlink(folder / "cwd").startswith(f"{directory}/"):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended, or is not ours
    return found


def _directory(pod: ManagedPod) -> Path:
    agents: Path = settings.SLIPWAY.agents_directory
    return agents / pod.pod_name


def _state(pod: ManagedPod) -> Path:
    # By UID: a pod that takes the name of a former one must not find the other's journal.
    return _directory(pod) / pod.pod_uid


def _first_request(pod: ManagedPod) -> bool:
    """Note that the agent is asked to end; False if it was, perhaps by a former controller."""
    directory = _directory(pod)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        (directory / f"asked-{pod.process_id}-{pod.process_started}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _forget_requests(pod: ManagedPod) -> None:
    """Remove the notes about processes that are no more."""
    for note in _directory(pod).glob("asked-*"):
        note.unlink(missing_ok=True)


def _log(pod: ManagedPod) -> Path:
    """Return the agent's log, put aside when it has grown too large."""
    log = _directory(pod) / "agent.log"
    try:
        if log.stat().st_size > _LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
    except FileNotFoundError:
        pass
    return log


def _note(pod: ManagedPod, pid: int, started: str) -> None:
    pod.process_id, pod.process_started = pid, started
    ManagedPod.objects.filter(pk=pod.pk).update(process_id=pid, process_started=started)


def start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if there is none.

    Together with the pid it names a process for good (proc(5), field 22). A zombie is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _find(pod_uid: str) -> tuple[int, str] | None:
    """Return pid and start time of the agent of a pod, by its environment.

    Only the leader of a session is one: what an agent starts inherits the environment at most.
    """
    mark = f"{_UID}={pod_uid}".encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        pid = int(folder.name)
        try:
            if mark not in (folder / "environ").read_bytes().split(b"\0"):
                continue
            if b"run_agent" not in (folder / "cmdline").read_bytes().split(b"\0"):
                continue
            if os.getsid(pid) != pid:
                continue
        except OSError:
            continue  # it ended, or is not ours
        started = start_time(pid)
        if started is not None:
            return pid, started
    return None
