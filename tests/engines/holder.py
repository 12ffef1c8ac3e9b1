"""A stand-in for an agent that holds an apply, until it is killed at a named point.

    python -m tests.engines.holder <description> <point>

``description`` is a pickled Bench with what was confirmed of its plan; ``point`` is a journal
point or a step's end, at which it dies by SIGKILL; with "held" it says so and waits.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from pathlib import Path

from agents_app.runner.warmup import warm_up
from agents_app.schema import PlanReference
from tests.support.runner import Bench


def main(description: str, point: str) -> None:
    bench: Bench
    confirmed: PlanReference
    bench, confirmed = pickle.loads(Path(description).read_bytes())

    def reach(name: str) -> None:
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)

    run = bench.run("hold", confirmed, hook=reach)
    run.report = lambda step: reach(f"step {step.name}")
    warm = warm_up(run, may_hold=True)
    print("held" if warm.held else warm.reason, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
