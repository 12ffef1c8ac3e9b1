"""One phase of a lease on this machine: the runner's call, and its end on disk."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from agents_app.agent.journal import Event, LeaseJournal
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.agent.machine import Machine
from agents_app.agent.permit import PermitDesk
from agents_app.agent.report import note_failure, note_outcome
from agents_app.agent.uploads import Uploader
from agents_app.runner.adopt import resume
from agents_app.runner.apply import ApplyOutcome, run_apply
from agents_app.runner.engines import choose
from agents_app.runner.environment import secrets_of
from agents_app.runner.errors import DirectoryInUse, EngineMissing
from agents_app.runner.hold import HeldApply
from agents_app.runner.log import RunLog
from agents_app.runner.plan import PlanOutcome, run_plan
from agents_app.runner.run import Run, RunControl
from agents_app.runner.workdir import WorkDirectory
from agents_app.schema import Job, Outcome, Phase, Step

log = logging.getLogger("agent.phase")

#: How long to wait for a directory that somebody else, perhaps an orphan, still uses, in seconds.
IN_USE_SECONDS = 60.0
_IN_USE_PAUSE = 0.5


@dataclass
class LeaseRuns:
    """What the phases of one lease share.

    Args:
        applying: called when the permit was granted.
        take_held: hands over what was held for the apply, or says why there is nothing.
    """

    lease_id: UUID
    epoch: int
    machine: Machine
    calls: LeaseCalls
    journal: LeaseJournal
    directory: WorkDirectory
    permit: PermitDesk
    applying: Callable[[], None]
    take_held: Callable[[], tuple[HeldApply | None, str]] = lambda: (None, "")
    control: RunControl = field(default_factory=RunControl)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Stop what runs, or waits for its directory or for a download."""
        self._stopped.set()
        self.control.interrupt()
        self.calls.stop_downloads()

    def acquire(self, tell: Callable[[str], None] = log.warning) -> None:
        """Take the directory's lock, which an orphan of an earlier lease may still hold.

        Args:
            tell: called once, with a sentence, if that takes a while.

        Raises:
            DirectoryInUse: for too long.
        """
        until = time.monotonic() + IN_USE_SECONDS
        told = False
        while True:
            try:
                self.directory.acquire()
                return
            except DirectoryInUse as error:
                if not told:
                    tell(f"Waits for its work directory: {self._explained(error)}")
                    told = True
                if time.monotonic() > until or self._stopped.wait(_IN_USE_PAUSE):
                    raise DirectoryInUse(self._explained(error)) from None

    def _explained(self, error: DirectoryInUse) -> str:
        """Say who has the directory, for which every process is looked at."""
        users = self.directory.users()
        if not users:
            return str(error)
        return (
            f"{error} It is {', '.join(users)}. If an agent that was killed left it, start that "
            "agent again, or end the process."
        )

    def run(
        self, phase: Phase, job: Job, events: list[Event], uploader: Uploader, received: float
    ) -> None:
        """Run a phase to its end, and put the end on disk.

        Args:
            events: what a former agent process noted of it; then it is not run again.
            received: when the assignment came, monotonic.
        """
        run_log = RunLog(self.journal.log_file(phase), secrets_of(job), self.machine.log_bytes_max)
        try:
            uploader.start()
            if not events:
                self.acquire(lambda why: run_log.write(f"{why}\n"))
            run = self.new_run(job, run_log, uploader.note, received)
            outcome = self._outcome(phase, run, events)
        except (DirectoryInUse, EngineMissing) as error:
            run_log.close()
            note_failure(self.journal, phase, Outcome.NOT_STARTED, str(error), run_log)
        except Exception:
            log.exception("lease %s: the %s failed", self.lease_id, phase)
            run_log.close()
            ended = Outcome.INTERRUPTED if self.permit.granted else Outcome.FAILED
            sentence = "The agent failed while it worked; its log says why."
            note_failure(self.journal, phase, ended, sentence, run_log)
        else:
            run_log.close()
            note_outcome(self.journal, phase, outcome, run)

    def new_run(
        self, job: Job, run_log: RunLog, report: Callable[[Step], None], received: float
    ) -> Run:
        """Return a run of this lease.

        Raises:
            EngineMissing: the machine has not the engine.
        """
        return Run(
            lease_id=self.lease_id,
            epoch=self.epoch,
            job=job,
            directory=self.directory,
            engine=choose(self.machine.engines, job.engine, job.engine_version),
            mirror=self.machine.mirror,
            source=self.calls,
            log=run_log,
            journal=self.journal,
            report=report,
            bundle_bytes_max=self.machine.bundle_bytes_max,
            control=self.control,
            started=received,
        )

    def _outcome(self, phase: Phase, run: Run, events: list[Event]) -> PlanOutcome | ApplyOutcome:
        if events:
            return resume(run, events, asked=self.permit.asked)
        if phase == Phase.PLAN:
            return run_plan(run)
        held, why_not = self.take_held()
        return run_apply(run, self._ask_permit, held, why_not_held=why_not)

    def _ask_permit(self, **asked: Any) -> float:
        seconds = self.permit(**asked)
        self.applying()
        return seconds
