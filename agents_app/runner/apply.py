"""An apply: of exactly the plan that was reviewed, at most once, whatever happens.

From the kept work directory if it is unchanged, else from the server's copy, the normal path.
The server's permit comes last before the start; it is granted once, ever. After the start the
process is followed to its end and its true result is told, never guessed.
"""

from __future__ import annotations

import logging
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from agents_app.runner.environment import PrivateHome, build, private_home
from agents_app.runner.errors import (
    PermitDenied,
    PlanUnusable,
    RunCancelled,
    RunnerError,
    StepFailed,
)
from agents_app.runner.plan import sentence
from agents_app.runner.process import TerraformProcess, reserve_output
from agents_app.runner.ready import make_ready
from agents_app.runner.rescue import not_saved, rescue_state
from agents_app.runner.run import Finished, Run, spawn, watch
from agents_app.schema import ApplyPath, Diagnostic, Outcome

__all__ = ["ApplyOutcome", "PermitCall", "PermitDenied", "conclude", "run_apply"]

logger = logging.getLogger(__name__)

#: Kept free on the disk for Terraform's output, beside twice the state: a full disk then
#: neither swallows a dumped state nor the room for its copy.
_OUTPUT_BYTES = 16 * 1024**2
_CANCELLED = "Cancelled before anything was applied."
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
    path_reason: str = ""  # why this path; for the normal one, why not the kept directory
    recovered_state: Path | None = None  # a file outside the work directory


class PermitCall(Protocol):
    """Asks the server for the one permit."""

    def __call__(
        self, *, plan_hash: str, manifest_digest: str, path: ApplyPath, path_reason: str
    ) -> float:
        """Return for how many seconds from the request the permit is valid.

        Raises:
            PermitDenied: with the server's sentence.
        """
        ...


class _TooLate(RunnerError):
    """The permit was granted, but its time passed before Terraform was started."""


def run_apply(run: Run, permit: PermitCall) -> ApplyOutcome:
    """Apply the job's plan in the run's directory, which the caller has acquired.

    The caller removes the directory afterwards (`WorkDirectory.discard`); what could not be
    saved of the state lies outside it by then.

    Returns:
        NOT_STARTED: provably nothing ran, and another attempt may do better.
        FAILED: before the permit nothing was applied and a new plan is needed; after it,
            Terraform's own verdict.
    """
    made = _Made()
    with ExitStack() as stack:
        try:
            home = stack.enter_context(private_home(run.directory.home, run.job))
            running = _start(run, home, permit, made)
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
    outcome.path, outcome.path_reason = made.path, made.reason
    return outcome


@dataclass
class _Made:
    """How far the preparation came."""

    path: ApplyPath | None = None
    reason: str = ""


def _start(run: Run, home: PrivateHome, permit: PermitCall, made: _Made) -> TerraformProcess:
    reference = run.job.plan
    assert reference is not None, "an apply needs a plan"
    made.path, made.reason = make_ready(run, home)
    environment = build(run.job, home)
    folder = run.directory.new_run_folder("apply")
    reserve_output(folder, _reserve_bytes(run))
    with run.step("permit"):
        asked = time.monotonic()
        valid = permit(
            plan_hash=reference.plan_hash,
            manifest_digest=reference.manifest_digest,
            path=made.path,
            path_reason=made.reason,
        )
    run.log.write(f"{_LOG_LINE[made.path]} {made.reason}\n")
    begun = time.monotonic()
    running = spawn(
        run,
        environment,
        apply_arguments(run),
        what="apply",
        folder=folder,
        check=_starting_allowed(run, asked + valid),
    )
    run.note("spawn", begun)
    return running


_LOG_LINE = {
    ApplyPath.KEPT: "Applying from the kept work directory:",
    ApplyPath.NORMAL: "Applying by the normal path:",
}


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


def _starting_allowed(run: Run, deadline: float) -> Callable[[], None]:
    def check() -> None:
        run.control.check()
        if time.monotonic() >= deadline:
            raise _TooLate("The permit expired before Terraform was started.")

    return check


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
        detail = f" {words[-1]}." if words else ""
        return ApplyOutcome(Outcome.NOT_STARTED, f"Terraform could not be started.{detail}")
    if code == 0 or (code is None and finished.completed):
        return ended(Outcome.APPLIED)
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
