"""A stand-in for the agent process, killed by SIGKILL at a named point.

    python -m tests.process.runner.agent_child <description> <phase> <point>

``description`` is a pickled Bench; ``point`` is a journal point ("before spawning apply"), a
step's end ("step verify"), "permit asked" or "permit granted"; with "closed" it lives on and
writes its outcome to a file.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from agents_app.runner.apply import ApplyOutcome, run_apply
from agents_app.runner.plan import PlanOutcome, run_plan
from agents_app.schema import ApplyPath, PlanReference
from tests.support.runner import Bench


def main(description: str, phase: str, point: str) -> None:
    bench: Bench
    confirmed: PlanReference | None
    bench, confirmed = pickle.loads(Path(description).read_bytes())

    def reach(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    outcome: PlanOutcome | ApplyOutcome
    run = bench.run(phase, confirmed, hook=reach)
    run.report = lambda step: reach(f"step {step.name}")
    if phase == "plan":
        outcome = run_plan(run)
    else:
        outcome = run_apply(run, _permit(bench.base / "permits", reach))
    if point == "closed":
        (bench.base / "outcome").write_text(str(outcome.outcome))


def _permit(granted: Path, reach: Callable[[str], None]) -> Callable[..., float]:
    def ask(*, path: ApplyPath, **asked: str) -> float:
        reach("permit asked")
        with granted.open("a") as file:
            file.write(f"{path}\n")
        reach("permit granted")
        return 60.0

    return ask


if __name__ == "__main__":
    main(*sys.argv[1:])
