"""The real agent program, that dies at a chosen moment of its work, as at a power cut.

The moments are each record of a lease's journal once it is on disk, each step of a run before it
begins, each start of a Terraform command once it runs, and each release of a held one before and
after it. This counts them:

``SLIPWAY_TEST_MOMENTS``  a file that gets the name of each moment, one a line
``SLIPWAY_TEST_FATAL``    the moment at which the process kills itself: its number, from 1
``SLIPWAY_TEST_STOP``     the name of a moment at which the process stops itself, once
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from django.core.management import execute_from_command_line

from agents_app.agent.journal import LeaseJournal
from agents_app.runner import process
from agents_app.runner.hold import HeldApply
from agents_app.runner.run import Run

MOMENTS, FATAL, STOP = "SLIPWAY_TEST_MOMENTS", "SLIPWAY_TEST_FATAL", "SLIPWAY_TEST_STOP"


class _Counter:
    """Writes the moments down, stops at one of them, and dies at the fatal one."""

    def __init__(self, file: Path, fatal: int, stop: str) -> None:
        self._file, self._fatal, self._stop = file, fatal, stop
        self._lock = threading.Lock()

    def count(self, moment: str) -> None:
        with self._lock:
            with self._file.open("a") as file:
                file.write(f"{moment}\n")
            if len(self._file.read_text().splitlines()) == self._fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            if moment == self._stop:
                self._stop = ""
                # To this thread: it goes no further, the others stop a little later.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _watch(counter: _Counter) -> None:
    """Put the counter around what the agent does."""
    genuine_record, genuine_step, genuine_start = LeaseJournal.record, Run.step, process.start
    genuine_release = HeldApply.release

    def record(self: LeaseJournal, event: str, **facts: Any) -> None:
        genuine_record(self, event, **facts)
        counter.count(f"{event} {facts.get('what', '')}".strip())

    def step(self: Run, name: str) -> AbstractContextManager[None]:
        counter.count(f"step {name}")
        return genuine_step(self, name)

    def start(folder: Path, *arguments: Any, **options: Any) -> process.TerraformProcess:
        started = genuine_start(folder, *arguments, **options)
        counter.count(f"started {folder.name}")
        return started

    def release(self: HeldApply) -> process.TerraformProcess:
        if self.job is None:  # a probe of the engine
            return genuine_release(self)
        counter.count("release")
        released = genuine_release(self)
        counter.count("released")
        return released

    LeaseJournal.record = record  # type: ignore[method-assign]
    Run.step = step  # type: ignore[method-assign, assignment]
    process.start = start
    HeldApply.release = release  # type: ignore[method-assign]


if __name__ == "__main__":
    fatal, stop = int(os.environ.get(FATAL, "0")), os.environ.get(STOP, "")
    _watch(_Counter(Path(os.environ[MOMENTS]), fatal, stop))
    execute_from_command_line(["manage.py", "run_agent", *sys.argv[1:]])
