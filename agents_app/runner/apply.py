"""An apply: of exactly the plan that was reviewed, at most once, whatever happens.

By the fastest path that is left: a Terraform that was held since before the confirmation, the
kept or warmed work directory if it is unchanged, else the server's copy, the normal path. Every
path ends at the same gate (`hold.py`): Terraform starts while the server is asked for its
permit, which is granted once, ever, and goes on when it is there. After that the process is
followed to its end and its true result is told, never guessed.
"""

from __future__ import annotations

import logging
import time
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agents_app.runner import hold
from agents_app.runner.environment import PrivateHome, build, private_home
from agents_app.runner.errors import (
    PermitDenied,
    PlanUnusable,
    RunCancelled,
    RunnerError,
    StepFailed,
)
from agents_app.runner.hold import HeldApply
from agents_app.runner.plan import sentence
from agents_app.runner.process import TerraformProcess, reserve_output
from agents_app.runner.ready import make_ready, verify_kept
from agents_app.runner.rescue import not_saved, rescue_state
from agents_app.runner.run import Finished, Run, announce, spawn, watch
from agents_app.schema import ApplyPath, Diagnostic, Outcome

__all__ = ["ApplyOutcome", "PermitCall", "PermitDenied", "conclude", "run_apply", "start_held"]

logger = logging.getLogger(__name__)

#: Kept free on the disk for Terraform's output, beside twice the state: a full disk then
#: neither swallows a dumped state nor the room for its copy.
_OUTPUT_BYTES = 16 * 1024**2
_CANCELLED = "Cancelled before anything was applied."
_NOT_RELEASED = "The held Terraform was let go before it was released; nothing was applied."
_UNLOCK_FAILED = "Error releasing the state lock"
#: The supervisor's codes for a program that cannot be started.
_SHELL_CANNOT_START = {126, 127}
#: The codes with which Terraform ends by itself; any other is a crash or a kill.
_CONTROLLED = {0, 1}


@dataclass
class ApplyOutcome:
    """How an apply ended, and where the state is if the backend has not got it."""

    outcome: Outcome
    error: str = ""
    exit_code: int | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    path: ApplyPath | None = None
    path_reason: str = ""  # why this path, and why not the faster ones
    recovered_state: Path | None = None  # a file outside the work directory


class PermitCall(Protocol):
    """Asks the server for the one permit."""

    def __call__(
        self,
        *,
        plan_hash: str,
        manifest_digest: str,
        path: ApplyPath,
        path_reason: str,
        environment_digest: str,
    ) -> float:
        """Return for how many seconds from the request the permit is valid.

        Raises:
            PermitDenied: with the server's sentence.
        """
        ...


class _TooLate(RunnerError):
    """The permit was granted, but its time passed before Terraform was started."""


def run_apply(
    run: Run, permit: PermitCall, held: HeldApply | None = None, *, why_not_held: str = ""
) -> ApplyOutcome:
    """Apply the job's plan in the run's directory, which the caller has acquired.

    The caller removes the directory afterwards (`WorkDirectory.discard`); what could not be
    saved of the state lies outside it by then.

    Args:
        held: a Terraform that waits for this, which is released or gone afterwards.
        why_not_held: why there is none, in words.

    Returns:
        NOT_STARTED: provably nothing ran, and another attempt may do better.
        FAILED: before the permit nothing was applied and a new plan is needed; after it,
            Terraform's own verdict.
    """
    start = _Start(run, permit, reason=why_not_held)
    with start.resources:
        try:
            running = start(held)
        except RunCancelled:
            outcome = ApplyOutcome(Outcome.CANCELLED, _CANCELLED)
        except (PlanUnusable, StepFailed) as failure:
            outcome = _not_applied(run, failure)
        except (RunnerError, OSError) as failure:
            outcome = ApplyOutcome(Outcome.NOT_STARTED, run.log.redact(sentence(failure)))
        else:
            # From here on Terraform runs: nothing but its own end is a result.
            outcome = conclude(run, running)
    run.log.flush()
    outcome.path, outcome.path_reason = start.path, start.reason
    return outcome


@dataclass
class _Start:
    """The way to the start of one apply; ``path`` and ``reason`` say how far it came."""

    run: Run
    permit: PermitCall
    path: ApplyPath | None = None
    reason: str = ""
    resources: ExitStack = field(default_factory=ExitStack)  # until Terraform has ended
    _waiting: HeldApply | None = None
    _folder: Path | None = None  # of a Terraform that does not wait
    _environment: dict[str, str] = field(default_factory=dict)
    _valid_until: float = 0.0

    def __call__(self, held: HeldApply | None) -> TerraformProcess:
        self._waiting = held
        try:
            if held is None or not self._trusts(held):
                self._prepare()
            return self._go()
        except BaseException:
            if self._waiting is not None:
                self._waiting.reject()
            raise

    def _trusts(self, held: HeldApply) -> bool:
        """Return whether the held Terraform would apply exactly what was confirmed."""
        self.resources.callback(held.close)
        with self.run.step("verify"):
            obstacle = self._obstacle(held)
        if obstacle:
            held.reject()
            self._waiting = None
            self._add(f"Not from the held Terraform: {obstacle}")
            return False
        self.path = ApplyPath.HELD
        self._say("Terraform was started before the confirmation and waited at its gate.")
        return True

    def _obstacle(self, held: HeldApply) -> str:
        if held.job != self.run.job:
            return "it was started with variables or credentials that have changed since."
        if not held.wait(self.run.control.check):
            return self._why_ended(held)
        assert self.run.job.plan is not None
        return verify_kept(self.run, self.run.job.plan)

    def _why_ended(self, held: HeldApply) -> str:
        return f"it ended while it waited: {self.run.log.redact(held.why_ended())}."

    def _add(self, words: str) -> None:
        self.reason = f"{self.reason} {words}".strip()

    def _say(self, words: str) -> None:
        """Put the path into the log, ahead of Terraform's output."""
        assert self.path is not None
        self._add(words)
        self.run.log.write(f"{_LOG_LINE[self.path]} {self.reason}\n")

    def _prepare(self) -> None:
        """Make the directory ready and start Terraform at once, if its engine waits."""
        home = self._home()
        self.path, reason = make_ready(self.run, home)
        self._say(reason)
        self._environment = build(self.run.job, home)
        if self.run.engine.holds:
            self._start_waiting()
        else:
            self._folder = self.run.directory.new_run_folder("apply")
            reserve_output(self._folder, _reserve_bytes(self.run))

    def _home(self) -> PrivateHome:
        return self.resources.enter_context(private_home(self.run.directory.home, self.run.job))

    def _start_waiting(self) -> HeldApply:
        with self.run.step("spawn"):
            waiting = self._waiting = _start_held(self.run, self._environment, "apply")
        return waiting

    def _go(self) -> TerraformProcess:
        if self.path == ApplyPath.HELD and self._waiting is not None:
            # The journal knows it as a hold; from now on it may apply.
            announce(self.run, "apply", self._waiting.running.folder)
        self._ask()
        if self._waiting is None:
            with self.run.step("spawn"):
                return self._plainly()
        with self.run.step("gate"):
            return self._released(self._waiting)

    def _ask(self) -> None:
        reference = self.run.job.plan
        assert reference is not None and self.path is not None
        with self.run.step("permit"):
            asked = _now()
            valid = self.permit(
                plan_hash=reference.plan_hash,
                manifest_digest=reference.manifest_digest,
                path=self.path,
                path_reason=self.reason,
                environment_digest=self.run.job.environment_digest,
            )
        self._valid_until = asked + valid

    def _plainly(self) -> TerraformProcess:
        return spawn(
            self.run,
            self._environment,
            apply_arguments(self.run),
            what="apply",
            folder=self._folder,
            check=self._check,
        )

    def _released(self, waiting: HeldApply) -> TerraformProcess:
        """Let Terraform through under the permit.

        Raises:
            StepFailed: it ended by itself before; it applied nothing.
        """
        if waiting.wait(self._check):
            self._check()
            return waiting.release()
        if self.path == ApplyPath.HELD:
            return self._released(self._instead(waiting))
        finished = watch(self.run, waiting.running, json_stream=True)
        raise StepFailed(
            finished.error or "Terraform ended before it applied anything.",
            finished.diagnostics,
            finished.exit_code,
        )

    def _instead(self, held: HeldApply) -> HeldApply:
        """Use the permit of a held Terraform that has died for a new one, in its directory."""
        self.path = ApplyPath.KEPT
        self._say(f"But {self._why_ended(held)}")
        held.reject()
        self._waiting = None
        self._environment = build(self.run.job, self._home())
        return self._start_waiting()

    def _check(self) -> None:
        self.run.control.check()
        if _now() >= self._valid_until:
            raise _TooLate("The permit expired before Terraform was started.")


def _now() -> float:
    """Return seconds that pass even while the machine is suspended, as those of a permit do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


_LOG_LINE = {
    ApplyPath.HELD: "Starting from the held Terraform:",
    ApplyPath.KEPT: "Starting from the kept work directory:",
    ApplyPath.WARMED: "Starting from the warmed work directory:",
    ApplyPath.NORMAL: "Starting by the normal path:",
}


def start_held(run: Run, home: PrivateHome) -> HeldApply:
    """Start Terraform behind its gate in a directory that is ready."""
    return _start_held(run, build(run.job, home), "hold")


def _start_held(run: Run, environment: dict[str, str], what: str) -> HeldApply:
    return hold.start(
        run, environment, apply_arguments(run), what=what, reserve_bytes=_reserve_bytes(run)
    )


def apply_arguments(run: Run) -> list[str]:
    """Return the arguments of `terraform apply`."""
    return [
        "apply",
        "-input=false",
        "-no-color",
        "-auto-approve",
        "-json",
        f"-lock-timeout={run.job.lock_timeout_seconds}s",
        str(run.directory.plan_file),
    ]


def _reserve_bytes(run: Run) -> int:
    with zipfile.ZipFile(run.directory.plan_file) as archive:
        states = [one.file_size for one in archive.infolist() if one.filename == "tfstate"]
    return _OUTPUT_BYTES + 3 * sum(states)


def _not_applied(run: Run, failure: RunnerError) -> ApplyOutcome:
    diagnostics = failure.diagnostics if isinstance(failure, StepFailed) else []
    if run.control.interrupted:
        return ApplyOutcome(Outcome.CANCELLED, _CANCELLED, diagnostics=diagnostics)
    return ApplyOutcome(Outcome.FAILED, run.log.redact(str(failure)), diagnostics=diagnostics)


# --- after the start ---------------------------------------------------------------------


def conclude(run: Run, running: TerraformProcess) -> ApplyOutcome:
    """Follow a started apply to its end, secure its state and say what became of it."""
    begun = time.monotonic()
    finished = watch(run, running, json_stream=True)
    run.note("apply", begun)
    lost = ""
    recovered = None
    try:
        if finished.ran:
            recovered = rescue_state(run, running)
    except OSError as error:
        logger.exception("A state of task %s could not be copied", run.job.task_id)
        lost = f"The state could not be saved, nor copied: {error.strerror or error}."
    outcome = _verdict(run, finished)
    errors = [one.summary for one in finished.diagnostics if one.severity == "error"]
    if recovered is not None:
        outcome.recovered_state = recovered
        if outcome.outcome != Outcome.INTERRUPTED:
            outcome.outcome = Outcome.FAILED
            outcome.error = "The state could not be saved to its backend; the agent has kept it."
    elif lost or (not_saved(errors) and outcome.outcome != Outcome.INTERRUPTED):
        outcome.outcome = Outcome.INTERRUPTED
        outcome.error = lost or (
            "The state could not be saved, and Terraform left no copy that the agent can read."
        )
    return outcome


def _verdict(run: Run, finished: Finished) -> ApplyOutcome:
    """Return what Terraform's end means, its state apart."""
    code = finished.exit_code
    errors = [one.summary for one in finished.diagnostics if one.severity == "error"]

    def ended(outcome: Outcome, error: str = "") -> ApplyOutcome:
        return ApplyOutcome(outcome, error, code, finished.diagnostics)

    if not finished.ran or code in _SHELL_CANNOT_START:
        words = finished.stderr.strip().splitlines()
        detail = f" {words[-1].rstrip('.')}." if words else ""
        return ApplyOutcome(Outcome.NOT_STARTED, f"Terraform could not be started.{detail}")
    if code == 0 or (code is None and finished.completed):
        return ended(Outcome.APPLIED)
    if hold.stopped_at_gate(finished.stdout.parent, finished.diagnostics):
        return ApplyOutcome(Outcome.NOT_STARTED, _NOT_RELEASED, code)
    if code == 1 and errors and set(errors) == {_UNLOCK_FAILED}:
        # The state is saved, which Terraform does before (F4).
        run.log.write("The apply is complete; only the lock of its state was not released.\n")
        return ended(Outcome.APPLIED)
    if code not in _CONTROLLED:
        what = "The apply was killed" if run.control.killed else "Terraform ended unexpectedly"
        return ended(Outcome.INTERRUPTED, f"{what}; what it had applied by then is not known.")
    if finished.interrupted:
        return ended(
            Outcome.CANCELLED, "The apply was cancelled while it ran; a part may be applied."
        )
    return ended(Outcome.FAILED, finished.error or "terraform apply failed.")
