"""Programs that a test starts, breaks and surely ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
#: How long anything may take on a loaded machine, in seconds.
PATIENCE = 90.0
_PAUSE = 0.02
_LOG_LINES = 60


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until ``condition()`` holds.

    Raises:
        AssertionError: it did not within ``seconds``; the message says ``what``.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:g} s")
        time.sleep(_PAUSE)


class Program:
    """A process with its output in a file; it can be started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        directory: Path = ROOT,
    ) -> None:
        self.name, self.command, self.log = name, list(command), log
        self.directory = directory
        self.environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.poll()

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it in a session of its own."""
        assert not self.alive, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def stop(self) -> None:
        """SIGSTOP, until each of its threads stands still: on a busy machine some go on."""
        self.signal(signal.SIGSTOP)
        threads = psutil.Process(self.pid).threads()
        stats = [Path(f"/proc/{self.pid}/task/{thread.id}/stat") for thread in threads]
        wait_until(lambda: all(map(_stands_still, stats)), f"{self.name} stands still")

    def kill(self) -> None:
        """SIGKILL, if it runs, and collect it."""
        if self.alive:
            self.signal(signal.SIGKILL)
            self.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; returns the exit code."""
        assert self._process is not None, f"{self.name} was never started"
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {seconds:g} s") from None

    def log_end(self) -> str:
        """Return the end of its output."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            return "(no output)"
        return "\n".join(lines)


def inherited() -> dict[str, str]:
    """Return what every process here needs of this one's environment."""
    names = ("PATH", "HOME", "LANG", "SLIPWAY_TEST_RUN_DIRECTORY", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in names if name in os.environ}


def _stands_still(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return True  # the thread has ended


def processes_below(directory: Path) -> list[psutil.Process]:
    """Return the processes that work in ``directory`` or below it, wherever they came from.

    Terraform and what it starts have their current folder there; agents and servers are told
    of it by their environment.
    """
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _works_below(process, f"{directory}/"):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def _works_below(process: psutil.Process, root: str) -> bool:
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    if f"{process.cwd()}/".startswith(root):
        return True
    environment = process.environ()
    told = ("SLIPWAY_AGENT_DIRECTORY", "SLIPWAY_AGENTS_DIRECTORY")
    return any(f"{environment.get(name, '')}/".startswith(root) for name in told)


def end_processes_below(directory: Path) -> None:
    """SIGKILL what works below ``directory``: agents, Terraform, providers and provisioners."""
    for _ in range(3):  # a killed shell may just have started another process
        found = processes_below(directory)
        for process in found:
            try:
                process.kill()
            except psutil.Error:
                continue
        if not psutil.wait_procs(found, timeout=2)[1] and not found:
            return
