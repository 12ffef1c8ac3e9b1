"""Processes that a former agent process started for a lease, alive or not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from agents_app.agent.journal import Event, LeaseJournal
from agents_app.runner import hold
from agents_app.runner.process import TerraformProcess, find
from agents_app.runner.workdir import WorkDirectory

#: A process that the journal announced started within so many seconds; another lease, even of
#: another agent on this machine, can use the same folder only much later.
_START_SECONDS = 30.0
_PAUSE = 0.5


def alive(directory: WorkDirectory, journal: LeaseJournal) -> bool:
    """Return whether anything of the lease still runs."""
    return any(map(_lives, _processes(directory, journal)))


def stop(directory: WorkDirectory, journal: LeaseJournal, *, kill: bool) -> None:
    """Return when nothing of the lease runs any more.

    Args:
        kill: end it; else wait until it ends by itself.
    """
    for running in list(_processes(directory, journal)):
        while _lives(running):
            if kill:
                running.kill()
            time.sleep(_PAUSE)


def stop_holds(directory: WorkDirectory, journal: LeaseJournal) -> None:
    """End every Terraform that a former agent process held and never released."""
    for running in list(_processes(directory, journal)):
        if not hold.released(running.folder):
            hold.end_orphan(running)


def _processes(directory: WorkDirectory, journal: LeaseJournal) -> Iterator[TerraformProcess]:
    for event in journal.events:
        if event["event"] == "spawning":
            running = find(directory.run / event["folder"])
            if running is not None and _announced(running, event):
                yield running


def _announced(running: TerraformProcess, event: Event) -> bool:
    """Return whether a process is the one that was about to be started."""
    started = int(running.record.started) / os.sysconf("SC_CLK_TCK")
    return -1.0 <= started - float(event["at"]) <= _START_SECONDS


def _lives(running: TerraformProcess) -> bool:
    return running.alive() or bool(running.members())
