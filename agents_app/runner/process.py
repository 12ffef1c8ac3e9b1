"""One Terraform process: its own session, output into files, exit status by rename.

A tiny shell supervises each command, so that an agent that restarts on the same machine finds
the process and its true result again::

    run/pid      written before Terraform starts: its process id
    run/stdout   Terraform's output, tailed by offset; never a pipe, whose end would kill it
    run/status   the exit code, written to another name and renamed

Terraform gets at most one signal, SIGINT, and gets it alone: a second one, or one to the
whole group, loses resources (terraform-physics §9). Measured: the two shells cost 2 ms.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents_app.runner.workdir import WorkDirectory

# The inner shell becomes the command, so that the file holds Terraform's own pid. The command
# runs in the foreground: a background job would start with SIGINT ignored.
_SUPERVISOR = """
sh -c 'echo $$ > "$0/pid"; exec "$@"' "$@"
echo $? > "$1/status.new"
mv "$1/status.new" "$1/status"
"""
_FILES = ("pid", "stdout", "stderr", "status", "status.new")
_EAGER_SECONDS, _EAGER_PAUSE, _PAUSE = 10.0, 0.005, 0.05


@dataclass(frozen=True)
class ProcessRecord:
    """What identifies a supervised process over a restart of the agent."""

    supervisor: int
    started: str


class TerraformProcess:
    """A running command, started by this agent process or adopted from a former one."""

    def __init__(
        self,
        directory: WorkDirectory,
        record: ProcessRecord,
        popen: subprocess.Popen[bytes] | None,
    ) -> None:
        self.record = record
        self._run = directory.run
        self._popen = popen
        self._interrupted = False

    @property
    def stdout(self) -> Path:
        return self._run / "stdout"

    @property
    def stderr(self) -> Path:
        return self._run / "stderr"

    def interrupt(self) -> None:
        """Ask Terraform once, and it alone, to stop after what it is doing."""
        pid = _read_number(self._run / "pid")
        if self._interrupted or pid is None or not self.alive():
            return
        if _session(pid) == self.record.supervisor:
            self._interrupted = True
            _signal(pid, signal.SIGINT)

    def kill(self) -> None:
        """End everything in the session but the supervisor, which still writes the status."""
        for pid in self.members():
            _signal(pid, signal.SIGKILL)

    def members(self) -> list[int]:
        """Return the processes of the session, without the supervisor."""
        return [
            int(name)
            for name in os.listdir("/proc")
            if name.isdigit()
            and int(name) != self.record.supervisor
            and _session(int(name)) == self.record.supervisor
        ]

    def alive(self) -> bool:
        """Return whether the supervisor runs."""
        if self._popen is not None:
            return self._popen.poll() is None
        return start_time(self.record.supervisor) == self.record.started

    def exit_code(self) -> int | None:
        """Return Terraform's exit code, None if it is not over or its result was lost."""
        return _read_number(self._run / "status")

    def wait(self, each: Callable[[], None]) -> int | None:
        """Wait until the whole process tree is gone, calling ``each`` again and again.

        Returns:
            The exit code; None if the supervisor was killed, so that nobody knows.
        """
        begun = time.monotonic()
        while self.alive() or self.members():
            each()
            eager = time.monotonic() - begun < _EAGER_SECONDS
            time.sleep(_EAGER_PAUSE if eager else _PAUSE)
        each()
        return self.exit_code()


def start(
    directory: WorkDirectory, command: Sequence[str], environment: dict[str, str], cwd: Path
) -> TerraformProcess:
    """Start a command under its supervisor; returns at once.

    Args:
        directory: locked; the command inherits the lock.
    """
    for name in _FILES:
        (directory.run / name).unlink(missing_ok=True)
    with (
        (directory.run / "stdout").open("wb") as stdout,
        (directory.run / "stderr").open("wb") as stderr,
    ):
        popen = subprocess.Popen(
            ["/bin/sh", "-c", _SUPERVISOR, "slipway-supervisor", str(directory.run), *command],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            pass_fds=[directory.lock_descriptor],
        )
    record = ProcessRecord(popen.pid, start_time(popen.pid) or "")
    return TerraformProcess(directory, record, popen)


def find(directory: WorkDirectory, record: ProcessRecord) -> TerraformProcess:
    """Return a process a former agent process started, alive or not."""
    return TerraformProcess(directory, record, None)


def start_time(pid: int) -> str | None:
    """Return a process's start in clock ticks since boot; None if it is gone or a zombie.

    With the pid it names a process for good (proc(5), field 22).
    """
    fields = _stat(pid)
    return None if not fields or fields[0] == "Z" else fields[19]


def _session(pid: int) -> int | None:
    fields = _stat(pid)
    return None if not fields or fields[0] == "Z" else int(fields[3])


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _read_number(path: Path) -> int | None:
    """Return the number in a file that ends with a newline; None if it is not there yet."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") and text.strip().isdigit() else None
