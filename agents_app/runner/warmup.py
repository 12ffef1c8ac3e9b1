"""A warm-up: everything of an apply that can be done before anybody confirms it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from agents_app.runner.apply import start_held
from agents_app.runner.environment import private_home
from agents_app.runner.hold import HeldApply
from agents_app.runner.ready import make_ready
from agents_app.runner.run import Run
from agents_app.schema import ApplyPath

#: Terraform hashes its providers before it comes to its gate: gigabytes on a slow disk. One that
#: takes longer, in seconds, must not keep a confirmation waiting.
GATE_SECONDS = 120.0
_NOT_ASKED = "holding is switched off on this agent."
_ENGINE = "this engine does not wait at its gate, as a probe at the agent's start found out."


@dataclass
class Warm:
    """What lies ready: a directory that was proven, and perhaps a Terraform that waits in it."""

    restored: bool  # from the server's copy, not the plan's own directory
    held: HeldApply | None = None
    reason: str = ""  # why nothing is held


def warm_up(run: Run, *, may_hold: bool) -> Warm:
    """Make the run's directory ready for its apply, and start Terraform behind its gate.

    A Terraform that does not come to wait is no failure of the warm-up: the directory is ready.

    Raises:
        PlanUnusable, StepFailed: no directory can be made ready; only the former is for good.
        RunCancelled: nobody wants it any more; nothing is left running.
    """
    with ExitStack() as stack:
        home = stack.enter_context(private_home(run.directory.home, run.job))
        path, _ = make_ready(run, home, ahead=True)
        restored = path == ApplyPath.WARMED
        if not (may_hold and run.engine.holds):
            with run.step("read ahead"):
                _read_ahead(run)
            return Warm(restored, reason=_ENGINE if may_hold else _NOT_ASKED)
        with run.step("spawn"):
            held = start_held(run, home)
        try:
            with run.step("gate"):
                why = _why_not_waiting(run, held)
        except BaseException:
            held.reject()
            raise
        if why:
            held.reject()
            return Warm(restored, reason=f"Terraform did not come to wait: {why}.")
        held.keep(stack.pop_all())
        return Warm(restored, held)


def _why_not_waiting(run: Run, held: HeldApply) -> str:
    """Wait until Terraform is held; returns why it is not, "" if it is."""
    until = time.monotonic() + GATE_SECONDS

    def check() -> None:
        run.control.check()
        if time.monotonic() > until:
            raise TimeoutError

    try:
        return "" if held.wait(check) else run.log.redact(held.why_ended())
    except TimeoutError:
        return f"not within {GATE_SECONDS:g} s"


def _read_ahead(run: Run) -> None:
    """Ask the kernel to read the providers; a held Terraform has hashed them, and so read them."""
    providers = run.working_directory / ".terraform" / "providers"
    for package in filter(Path.is_dir, providers.glob("*/*/*/*/*_*")):
        for file in Path(package).iterdir():
            if file.is_file():
                descriptor = os.open(file, os.O_RDONLY)
                try:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(descriptor)
