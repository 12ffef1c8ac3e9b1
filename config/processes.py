"""Child processes that end with this one, whatever ends it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LOG_LINES = 20
#: How long interrupted applies may take to stop what they do and save their state.
_INTERRUPT_SECONDS = 60.0
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
    name: str,
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    log: Path,
    descriptors: Sequence[int] = (),
) -> Child:
    """Start a process that ends when this one does.

    Args:
        descriptors: open files and sockets that it gets under the same numbers.
    """
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
            pass_fds=descriptors,
            preexec_fn=end_with_parent,  # safe: no other thread runs yet
        )
    return Child(name, process, log)


def end_descendants(
    patience: float,
    hurry: threading.Event,
    cut: threading.Event,
    *,
    say: Callable[[str], None],
    spare: Sequence[Child] = (),
) -> None:
    """Wait for what is left of the descendants, then end it. PostgreSQL is left alone.

    Only agents are signalled, and each sends Terraform its one SIGINT: a second signal, or one
    to a provider or supervisor, would lose the resource that is being made.

    Args:
        patience: seconds in which they may end by themselves (a running apply).
        hurry: set when somebody does not want to wait that long.
        cut: set when somebody does not want to wait for interrupted applies either.
        say: tells people what is done to a running Terraform.
        spare: children that go on, with all of theirs.
    """
    if _wait_for_none(spare, patience, hurry):
        return
    if any(_is_supervisor(process) for process in _descendants(spare)):
        say("Interrupting Terraform, which saves its state; Ctrl+C again cuts it")
    for agent in filter(_is_agent, psutil.Process().children()):
        # Two signals mean hurry, however many it had. They differ, or might count as one.
        _signal(agent, signal.SIGTERM)
        _signal(agent, signal.SIGINT)
    if _wait_for_none(spare, _INTERRUPT_SECONDS, cut):
        return
    rest = _descendants(spare)
    if any(_is_supervisor(process) for process in rest):
        say("A running Terraform was CUT: compare its workspace with what really exists")
    for process in rest:
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


def _is_agent(process: psutil.Process) -> bool:
    return "run_agent" in _words(process)


def _is_supervisor(process: psutil.Process) -> bool:
    return "slipway-supervisor" in _words(process)


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


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
