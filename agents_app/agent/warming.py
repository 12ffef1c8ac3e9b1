"""What one lease has ready before its apply: a proven directory, and a Terraform held in it.

The worker's own thread warms, looks after what is held and hands it over; a thread of its own
tells the server, so that a confirmation never waits for a report.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from agents_app.agent import leftovers
from agents_app.agent.client import Patience, Refused, Unreachable
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.agent.phase import LeaseRuns
from agents_app.agent.uploads import Uploader
from agents_app.runner.environment import secrets_of
from agents_app.runner.errors import PlanUnusable, RunCancelled, RunnerError
from agents_app.runner.hold import HeldApply
from agents_app.runner.log import RunLog
from agents_app.runner.plan import sentence
from agents_app.runner.ready import verify_kept
from agents_app.runner.run import Run
from agents_app.runner.warmup import warm_up
from agents_app.schema import Activity, Job, Phase, ProgressRequest, Step, WarmupReport

log = logging.getLogger("agent.warming")

#: How often a held Terraform is looked at, in seconds, and how often its memory is counted.
LOOK_SECONDS = 1.0
_COUNT_EVERY = 10
#: How often all files of a directory that lies ready are looked at, in seconds.
VERIFY_SECONDS = 60.0
_TOO_LATE = "it was confirmed before anything could be held here."
_MEMORY = "the agent's memory for held applies is used up"


class Warming:
    """The warm-up and the hold of one lease, for its worker's thread."""

    def __init__(self, runs: LeaseRuns) -> None:
        self._runs, self._memory = runs, runs.machine.hold_memory
        self._teller = _Teller(runs.calls, runs.journal.log_file(Phase.WARMUP))
        self._held: HeldApply | None = None
        self._why_not = _TOO_LATE  # nothing is held, or nothing ready
        self._restored = False
        self._looks = 0
        self._ready: Run | None = None  # whose directory was proven
        self._verified = 0.0

    @property
    def look_seconds(self) -> float | None:
        """How long nobody needs to look after what lies ready; None: for ever."""
        if self._held is not None:
            return LOOK_SECONDS
        return VERIFY_SECONDS if self._ready is not None else None

    def warm(self, job: Job, received: float) -> Activity:
        """Make the directory ready, hold Terraform, and tell the server what came of it.

        Returns:
            What the lease does now.
        """
        if self._held is not None and self._held.held and self._held.job == job:
            return Activity.HELD  # the same job came twice
        self.drop("it is started again")
        self._ready = None
        leftovers.stop(self._runs.directory, self._runs.journal, kill=True)
        log_file = self._runs.journal.log_file(Phase.WARMUP)
        run_log = RunLog(log_file, secrets_of(job), self._runs.machine.log_bytes_max)
        try:
            self._warm(job, run_log, received)
        finally:
            run_log.close()
        return Activity.HELD if self._held is not None else Activity.HOLDING

    def _warm(self, job: Job, run_log: RunLog, received: float) -> None:
        steps: list[Step] = []
        try:
            self._runs.acquire()
            run = self._runs.new_run(job, run_log, steps.append, received)
            warm = warm_up(run, may_hold=self._memory.bytes_max > 0)
        except RunCancelled:
            return  # the lease is let go
        except (RunnerError, OSError) as failure:
            self._why_not = run_log.redact(sentence(failure))
            permanent = isinstance(failure, PlanUnusable)
            self._tell(run_log, steps, ready=False, permanent=permanent)
        except Exception:
            log.exception("lease %s: the warm-up failed", self._runs.lease_id)
            self._why_not = "The agent failed while it warmed up; its log says why."
            self._tell(run_log, steps, ready=False)
        else:
            self._held, self._restored = warm.held, warm.restored
            self._ready, self._verified = run, time.monotonic()
            self._why_not = warm.reason
            if self._held is not None:
                self._count()
            self._tell(run_log, steps, ready=True)

    def look(self) -> Activity | None:
        """See whether what lies ready is as it was and may stay; returns a change."""
        if damage := self._damage():
            # The server has it made ready anew, here or elsewhere, and counts how often.
            self._ready = None
            return self._lost(damage.rstrip("."))
        if self._held is None:
            return None
        if not self._held.held:
            assert self._ready is not None
            why = self._ready.log.redact(self._held.why_ended())
            return self._lost(f"it ended while it waited: {why}")
        self._looks += 1
        if self._looks % _COUNT_EVERY == 0:
            self._count()
        if self._memory.must_yield(self._runs.lease_id):
            return self._lost(_MEMORY)
        return None

    def take(self) -> tuple[HeldApply | None, str]:
        """Hand what is held over to the apply, or say why there is nothing."""
        held, self._held = self._held, None
        self._ready = None
        self._memory.forget(self._runs.lease_id)
        return held, self._not_held

    def drop(self, why: str) -> None:
        """Let go what is held: nothing is applied."""
        held, self._held = self._held, None
        self._memory.forget(self._runs.lease_id)
        if held is not None:
            log.info("lease %s: its held apply is let go: %s", self._runs.lease_id, why)
            held.reject()

    def close(self) -> None:
        """Let go, and tell nothing more."""
        try:
            self.drop("the lease is over")
        finally:
            self._teller.close()

    @property
    def _not_held(self) -> str:
        return f"Not held: {self._why_not}" if self._why_not else ""

    def _lost(self, why: str) -> Activity:
        self.drop(why)
        self._why_not = f"{why}."
        self._teller.tell(self._report(ready=self._ready is not None), [])
        return Activity.HOLDING

    def _damage(self) -> str:
        """Return what became of the directory, "" if nothing did."""
        run = self._ready
        if run is None:
            return ""
        now = time.monotonic()
        if run.directory.plan_file.exists() and now < self._verified + VERIFY_SECONDS:
            return ""
        self._verified = now
        assert run.job.plan is not None
        return verify_kept(run, run.job.plan)

    def _count(self) -> None:
        assert self._held is not None
        self._memory.count(self._runs.lease_id, self._held.running.memory_bytes())

    def _tell(
        self, run_log: RunLog, steps: list[Step], *, ready: bool, permanent: bool = False
    ) -> None:
        run_log.flush()
        self._teller.tell(self._report(ready=ready, permanent=permanent), steps)

    def _report(self, *, ready: bool, permanent: bool = False) -> WarmupReport:
        return WarmupReport(
            ready=ready,
            held=self._held is not None,
            restored=self._restored,
            reason=(self._not_held if ready else self._why_not)[:500],
            permanent=permanent,
        )


class _Teller:
    """Tells the server what is ready; only the newest news counts."""

    def __init__(self, calls: LeaseCalls, log_file: Path) -> None:
        self._calls = calls
        self._uploader = Uploader(calls, Phase.WARMUP, log_file)
        self._patience = Patience()
        self._changed = threading.Condition()
        self._news: tuple[WarmupReport, list[Step]] | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def tell(self, report: WarmupReport, steps: list[Step]) -> None:
        """Send soon."""
        with self._changed:
            before = self._news[1] if self._news else []
            self._news = report, before + steps
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="warm-up", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._patience.end()

    def _run(self) -> None:
        while True:
            with self._changed:
                while self._news is None and not self._closed:
                    self._changed.wait()
                if self._closed or self._news is None:
                    return
                (report, steps), self._news = self._news, None
            try:
                self._calls.warmup(report, self._patience)
                self._uploader.complete(self._patience)
                if steps:
                    message = ProgressRequest(phase=Phase.WARMUP, steps=steps)
                    self._calls.progress(message, self._patience)
            except Unreachable:
                return  # closed
            except Refused as refusal:
                log.warning("the server refuses the news of this warm-up: %s", refusal.detail)
            except Exception:
                log.exception("the news of this warm-up could not be sent")
                time.sleep(LOOK_SECONDS)
