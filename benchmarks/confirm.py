"""`confirm`: how long from a confirmation over HTTP to Terraform's first action on a resource?

Every path takes its turn with every provider, with Slipway's own state, on one machine:

- by hand: Terraform in a copy of the directory that Slipway's plan left behind
- held: Terraform was started before the confirmation and waits at its gate
- kept: from the plan's own directory; its held Terraform was killed before
- warmed: from a directory that another stay in a slot restored; its held Terraform was killed
- normal: directory and slot are gone and nothing was warmed; the provider in the agent's mirror
- rebuilt: as normal, the mirror gone too, the provider in a zipped one upstream

The clock starts when the confirmation is sent; the one by hand, which has Terraform's own
defaults, when the process is started. It ends at the time that Terraform itself writes into its
first `apply_start` message. Also told: when the end was visible over the API, and how long a plan
took.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks import waiting
from benchmarks.bench import Bench, Confirmed, Samples, engine_command, seconds
from benchmarks.harness import running_platform, say
from benchmarks.kinds import KINDS, Kind, zipped_mirror
from benchmarks.result import Bar, Result, percentile
from config.client import Api

RUNS = 30
HELD_RATIO, KEPT_RATIO = 0.25, 1.2
HELD_P99_MS, STARTED_MS = 250.0, 1000.0
HELD_TO_REBUILT, KEPT_TO_REBUILT = 0.02, 0.15


@dataclass
class PathSamples(Samples):
    """Also how long its plans took."""

    planned: list[float] = field(default_factory=list)

    def p99(self, way: str) -> float:
        return percentile(self.first_action[way], 99)

    def figures(self) -> dict[str, Any]:
        ways = {
            way: {
                "started_ms": round(statistics.median(self.started[way]), 1),
                "started_max_ms": round(max(self.started[way]), 1),
                "first_action_ms": round(self.median(way), 1),
                "first_action_p99_ms": round(self.p99(way), 1),
                "visible_over_api_ms": round(statistics.median(self.visible[way]), 1),
            }
            for way in self.first_action
        }
        return ways | {
            "created_to_apply_pending_ms": round(statistics.median(self.planned), 1),
            "lock_file_hashes": self.lock_file_hashes,
        }


def run(runs: int) -> Result:
    """Measure every kind of provider, the ways in turn."""
    command = engine_command()
    mirror = zipped_mirror()
    samples: dict[str, PathSamples] = {}
    with (
        running_platform(SLIPWAY_PROVIDER_MIRROR=str(mirror)) as platform,
        Api(platform) as api,
    ):
        for kind in KINDS:
            say(f"Measuring with {kind.about}")
            bench = Bench(platform, api, kind)
            found = samples[kind.name] = PathSamples()
            _held(bench, PathSamples())  # fills caches, and is not counted
            for number in range(runs):
                say(f"  run {number + 1} of {runs}")
                found.add("by_hand", _by_hand(bench, found, command))
                for way, measure in _WAYS.items():
                    if way != "rebuilt" or kind.provider:
                        found.add(way, measure(bench, found))
            found.lock_file_hashes = bench.lock_file_hashes
    return _judge(runs, samples)


def _planned(bench: Bench, samples: PathSamples) -> dict[str, Any]:
    task = bench.plan()
    took = seconds(task["planned_at"]) - seconds(task["created_at"])
    samples.planned.append(took * 1000)
    return task


def _by_hand(bench: Bench, samples: PathSamples, command: tuple[str, ...]) -> Confirmed:
    task = _planned(bench, samples)
    waiting.wait_until_held(task)
    return bench.by_hand(task, command)


def _held(bench: Bench, samples: PathSamples) -> Confirmed:
    task = _planned(bench, samples)
    waiting.wait_until_held(task)
    return bench.confirmed(task, "held")


def _kept(bench: Bench, samples: PathSamples) -> Confirmed:
    task = _planned(bench, samples)
    waiting.kill_held(bench, task)
    return bench.confirmed(task, "kept")


def _warmed(bench: Bench, samples: PathSamples) -> Confirmed:
    task = _planned(bench, samples)
    waiting.restored_elsewhere(bench, task)
    waiting.kill_held(bench, task)
    return bench.confirmed(task, "warmed")


def _normal(bench: Bench, samples: PathSamples) -> Confirmed:
    task = _planned(bench, samples)
    waiting.wait_until_held(task)
    waiting.cool(bench, task, mirror=False)
    return bench.confirmed(task, "normal")


def _rebuilt(bench: Bench, samples: PathSamples) -> Confirmed:
    task = _planned(bench, samples)
    waiting.wait_until_held(task)
    waiting.cool(bench, task, mirror=True)
    return bench.confirmed(task, "normal")


_WAYS: dict[str, Callable[[Bench, PathSamples], Confirmed]] = {
    "held": _held,
    "kept": _kept,
    "warmed": _warmed,
    "normal": _normal,
    "rebuilt": _rebuilt,
}
_FAST = ("held", "kept", "warmed")


def _judge(runs: int, samples: dict[str, PathSamples]) -> Result:
    figures: dict[str, Any] = {}
    for kind in KINDS:
        figures[kind.name] = samples[kind.name].figures()
    built_in, large = samples[_name(lambda kind: not kind.provider)], samples[_large()]
    ratio = built_in.median("held") / built_in.median("by_hand")
    figures["held to by hand, built-in (aim: 1)"] = round(ratio, 2)
    slowest = max(max(found.started[way]) for found in samples.values() for way in _FAST)
    bars = [
        Bar("large: held to by hand", _ratio(large, "held", "by_hand"), HELD_RATIO),
        Bar("large: kept to by hand", _ratio(large, "kept", "by_hand"), KEPT_RATIO),
        Bar("large: held to rebuilt", _ratio(large, "held", "rebuilt"), HELD_TO_REBUILT),
        Bar("large: kept to rebuilt", _ratio(large, "kept", "rebuilt"), KEPT_TO_REBUILT),
        Bar(
            "held, every provider: first action p99, ms",
            round(max(found.p99("held") for found in samples.values()), 1),
            HELD_P99_MS,
        ),
        Bar("held, kept, warmed: started, slowest run, ms", round(slowest, 1), STARTED_MS),
    ]
    return Result(name="confirm", runs=runs, figures=figures, bars=bars)


def _ratio(found: PathSamples, way: str, other: str) -> float:
    return round(found.median(way) / found.median(other), 3)


def _large() -> str:
    return _name(lambda kind: kind.large)


def _name(wanted: Callable[[Kind], bool]) -> str:
    return next(kind.name for kind in KINDS if wanted(kind))
