"""`startup`: how long from the confirmation to Terraform's first action on a resource?

Four ways to start the same apply take turns, with Slipway's own state, on one machine:

- by hand: Terraform in a copy of the directory that Slipway's plan left behind
- kept: Slipway, from the kept work directory
- normal: Slipway, the directory gone, the provider in the agent's mirror
- rebuilt: Slipway, directory and mirror gone, the provider in a zipped mirror

The last is the normal path of a machine that keeps nothing, the baseline of the promise to cut
the start-up; `benchmarks/kinds.py` says what its mirror and lock file are.

Slipway's clock starts when the confirmation is sent; the one by hand, which has Terraform's own
defaults, when the process is started. Both end at the time that Terraform itself writes into its
first `apply_start` message.
"""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks import waiting
from benchmarks.bench import Bench, Samples, engine_command
from benchmarks.harness import running_platform, say
from benchmarks.kinds import KINDS, Kind, zipped_mirror
from benchmarks.result import Bar, Result
from config.client import Api

RUNS = 7
LARGE_RATIO, SMALL_MS, REBUILT_RATIO = 1.2, 60.0, 0.15


def run(runs: int) -> Result:
    """Measure every kind of provider, the ways in turn."""
    command = engine_command()
    mirror = zipped_mirror()
    samples: dict[str, Samples] = {}
    with (
        running_platform(
            SLIPWAY_PROVIDER_MIRROR=str(mirror), SLIPWAY_HOLD_BYTES_MAX="0"
        ) as platform,
        Api(platform) as api,
    ):
        for kind in KINDS:
            say(f"Measuring with {kind.about}")
            bench = Bench(platform, api, kind)
            bench.confirmed(bench.plan(), "kept")  # fills caches, and is not counted
            samples[kind.name] = Samples()
            for number in range(runs):
                say(f"  run {number + 1} of {runs}")
                _turn(bench, kind, samples[kind.name], command)
            samples[kind.name].lock_file_hashes = bench.lock_file_hashes
    return _judge(runs, samples)


def _turn(bench: Bench, kind: Kind, samples: Samples, command: tuple[str, ...]) -> None:
    samples.add("by_hand", bench.by_hand(bench.plan(), command))
    samples.add("kept", bench.confirmed(bench.plan(), "kept"))
    task = bench.plan()
    waiting.cool(bench, task, mirror=False)
    samples.add("normal", bench.confirmed(task, "normal"))
    if kind.provider:
        task = bench.plan()
        waiting.cool(bench, task, mirror=True)
        samples.add("rebuilt", bench.confirmed(task, "normal"))


def _figures(samples: Samples) -> dict[str, Any]:
    return {
        way: {
            "process_ms": round(statistics.median(samples.started[way]), 1),
            "first_action_ms": round(samples.median(way), 1),
            "first_action_max_ms": round(max(samples.first_action[way]), 1),
        }
        for way in samples.first_action
    }


def _judge(runs: int, samples: dict[str, Samples]) -> Result:
    bars = []
    figures: dict[str, Any] = {}
    for kind in KINDS:
        found = samples[kind.name]
        by_hand, kept = found.median("by_hand"), found.median("kept")
        figures[kind.name] = _figures(found) | {
            "kept_to_by_hand": round(kept / by_hand, 2),
            "lock_file_hashes": found.lock_file_hashes,
        }
        if kind.large:
            rebuilt = found.median("rebuilt")
            bars += [
                Bar(f"{kind.name}: kept to by hand", round(kept / by_hand, 3), LARGE_RATIO),
                Bar(
                    f"{kind.name}: kept to rebuilt from a zipped mirror",
                    round(kept / rebuilt, 3),
                    REBUILT_RATIO,
                ),
            ]
        else:
            more = round(kept - by_hand, 1)
            bars.append(Bar(f"{kind.name}: kept more than by hand, ms", more, SMALL_MS))
    return Result(name="startup", runs=runs, figures=figures, bars=bars)
