"""Child processes that end with this one, whatever ends it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOG_LINES = 20
_LAST_SECONDS = 10.0
_POSTGRES = "postgres"

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A step or process failed; the message says what to do and ends with its log."""


@dataclass(frozen=True)
class Child:
    """A process that runs until it is stopped."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, seconds: float) -> None:
        """End it: SIGTERM, wait, SIGKILL."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that none gets lost (Linux)."""
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    title: str, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path
) -> str:
    """Run a step to its end; returns its standard output, which may be secret.

    ``log`` gets its standard error.

    Raises:
        Failed: it ended with another code than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        result = subprocess.run(
            list(command),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
            check=False,
        )
    if result.returncode:
        raise Failed(f"{title} failed with exit code {result.returncode}.\n{log_end(log)}")
    return result.stdout.decode()


def start(
    name: str, command: Sequence[str], *, cwd: Path, environment: Mapping[str, str], log: Path
) -> Child:
    """Start a process that ends when this one does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    parent = os.getpid()

    def end_with_parent() -> None:
        if hasattr(_libc, "prctl"):
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it died before we asked
                os._exit(1)

    # A session of its own: Ctrl+C reaches this process alone, which stops the others in order.
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=end_with_parent,  # safe: no other thread runs yet
        )
    return Child(name, process, log)


def end_descendants(
    patience: float, hurry: threading.Event, *, spare: Sequence[Child] = ()
) -> None:
    """Wait for what is left of the descendants, then end it. PostgreSQL is left alone.

    Args:
        patience: seconds in which they may end by themselves (a running apply).
        hurry: set when somebody does not want to wait that long.
        spare: children that go on, with all of theirs.
    """
    if _wait_for_none(spare, patience, hurry):
        return
    for process in _descendants(spare):
        # SIGINT lets Terraform save its state; SIGTERM ends the agents.
        _signal(process, signal.SIGINT if _is_terraform(process) else signal.SIGTERM)
    _wait_for_none(spare, _LAST_SECONDS, threading.Event())
    for process in _descendants(spare):
        _signal(process, signal.SIGKILL)
    _wait_for_none(spare, 1, threading.Event())


def _wait_for_none(spare: Sequence[Child], seconds: float, hurry: threading.Event) -> bool:
    deadline = time.monotonic() + seconds
    while _descendants(spare):
        if hurry.is_set() or time.monotonic() > deadline:
            return False
        hurry.wait(0.1)
    return True


def _descendants(spare: Sequence[Child]) -> list[psutil.Process]:
    """Return the living descendants, and collect the dead ones that nobody waits for."""
    kept = {child.process.pid for child in spare}
    found: list[psutil.Process] = []
    for process in psutil.Process().children():
        if process.pid not in kept:
            found += _family(process)
    return found


def _family(process: psutil.Process) -> list[psutil.Process]:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            _collect(process.pid)
            return []
        if process.name() == _POSTGRES:
            return []
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _collect(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _is_terraform(process: psutil.Process) -> bool:
    try:
        return process.name() in {"terraform", "tofu"}
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        pass


def log_end(log: Path) -> str:
    """Return the end of a log, with its path."""
    try:
        lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    except OSError:
        return f"({log} cannot be read)"
    return "\n".join([f"The end of {log}:", *(f"  {line}" for line in lines)])
