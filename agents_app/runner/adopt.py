"""After a restart of the agent: what became of a run that a former agent process began.

Nothing is ever run again. A plan or apply that was started is followed to its end, with its
log from the place where its output began; one that was not started is reported so.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agents_app.runner import hold, process
from agents_app.runner.apply import ApplyOutcome, conclude
from agents_app.runner.environment import remembered_secrets, remove_home
from agents_app.runner.errors import DirectoryInUse
from agents_app.runner.plan import PlanOutcome, continue_plan
from agents_app.runner.process import TerraformProcess
from agents_app.runner.run import Run
from agents_app.schema import Outcome

_PAUSE_SECONDS = 0.05
#: How long another agent's look at a directory may hold its lock.
_SWEEP_SECONDS = 5.0
_PLAN_CUT_OFF = "the agent was restarted before Terraform began to plan"
_APPLY_CUT_OFF = "The agent was restarted before the apply began."
_NOT_ASKED = "The agent was restarted before it asked for the permit: nothing was applied."
_APPLY_UNKNOWN = "The agent was cut off; how the apply ended is not known."


def resume(
    run: Run, events: Sequence[Mapping[str, Any]], *, asked: bool = True
) -> PlanOutcome | ApplyOutcome:
    """Say how a run ends that a former agent process began.

    Waits for whatever still runs. Afterwards the run's directory is acquired, unless a process
    that fled its session still holds it.

    Args:
        events: what the run's journal recorded, oldest first.
        asked: whether the apply's permit may have been asked for, without which nothing is applied.
    """
    what = "apply" if run.job.plan is not None else "plan"
    spawning = [event for event in events if event["event"] == "spawning"]
    wanted = [event for event in spawning if event["what"] == what]
    try:
        if not wanted:
            _stop_leftover(run, spawning)
            return _never_began(run)
        if run.job.plan is None:
            return _resume_plan(run, wanted[-1])
        return _resume_apply(run, wanted[-1], asked)
    finally:
        run.log.flush()
        if run.directory.locked:  # else another lease's run may use the same HOME by now
            remove_home(run.directory.home)


def _never_began(run: Run) -> PlanOutcome | ApplyOutcome:
    if run.job.plan is None:
        return PlanOutcome(Outcome.INTERRUPTED, _PLAN_CUT_OFF)
    until = time.monotonic() + _SWEEP_SECONDS
    while not _acquired(run):
        if time.monotonic() > until:
            # Somebody works in there: perhaps what a damaged journal does not name any more.
            return ApplyOutcome(Outcome.INTERRUPTED, _APPLY_UNKNOWN)
        time.sleep(_PAUSE_SECONDS)
    return ApplyOutcome(Outcome.NOT_STARTED, _APPLY_CUT_OFF)


def _resume_plan(run: Run, event: Mapping[str, Any]) -> PlanOutcome:
    running = _process(run, event)
    if running is None:
        return PlanOutcome(Outcome.INTERRUPTED, _PLAN_CUT_OFF)
    _rewind(run, event)
    return continue_plan(run, running)


def _resume_apply(run: Run, event: Mapping[str, Any], asked: bool) -> ApplyOutcome:
    running = _process(run, event)
    same_life = event["machine"] == process.machine_life()
    if same_life and not hold.released(run.directory.run / event["folder"]):
        if running is not None:
            hold.end_orphan(running)
        _acquired(run)
        return ApplyOutcome(Outcome.NOT_STARTED, _APPLY_CUT_OFF if asked else _NOT_ASKED)
    if not asked:  # in a former life of the machine, of which no process is left
        _acquired(run)
        return ApplyOutcome(Outcome.NOT_STARTED, _NOT_ASKED)
    if running is not None and (same_life or running.ran()):
        _rewind(run, event)
        outcome = conclude(run, running)
        remove_home(run.directory.home)
        _acquired(run)
        return outcome
    if same_life and run.directory.locked and (run.directory.run / event["folder"]).is_dir():
        # Nobody holds the lock, and the supervisor never came to write its file.
        return ApplyOutcome(Outcome.NOT_STARTED, _APPLY_CUT_OFF)
    return ApplyOutcome(Outcome.INTERRUPTED, _APPLY_UNKNOWN)


def _process(run: Run, event: Mapping[str, Any]) -> TerraformProcess | None:
    """Return the process of a recorded start; None if it has none, or nobody can know any more.

    Where None is certain, the directory is acquired.
    """
    folder = run.directory.run / event["folder"]
    same_life = event["machine"] == process.machine_life()
    while not run.control.killed:
        running = process.find(folder)
        if running is not None and same_life:
            return running
        if _acquired(run):
            # Whoever was between the record and the start is gone: look for the last time.
            running = process.find(folder)
            return running if same_life or running is None else running.dead()
        time.sleep(_PAUSE_SECONDS)
    return None


def _acquired(run: Run) -> bool:
    try:
        run.directory.acquire()
    except DirectoryInUse:
        return False
    return True


def _rewind(run: Run, event: Mapping[str, Any]) -> None:
    run.log.rewind(event["log_offset"], remembered_secrets(run.directory.home))


def _stop_leftover(run: Run, spawning: Sequence[Mapping[str, Any]]) -> None:
    """End what a former agent process started on the way to the plan or the apply."""
    running = _process(run, spawning[-1]) if spawning else None
    while running is not None and (running.alive() or running.members()):
        running.kill()
        time.sleep(_PAUSE_SECONDS)
    _acquired(run)
