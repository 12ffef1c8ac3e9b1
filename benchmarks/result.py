"""What a benchmark found, and the bars it is held against."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil


class CannotMeasure(Exception):
    """A part is missing or a step failed; the message says what to do."""


@dataclass(frozen=True)
class Bar:
    """A promise: ``value`` must not exceed ``bar``. The unit is part of the name."""

    name: str
    value: float
    bar: float

    @property
    def ok(self) -> bool:
        return self.value <= self.bar


@dataclass(frozen=True)
class Result:
    """The document of ``--json``."""

    name: str
    runs: int
    figures: dict[str, Any]
    bars: list[Bar]
    machine: str = field(default_factory=lambda: machine())

    @property
    def ok(self) -> bool:
        """Whether every bar holds."""
        return all(bar.ok for bar in self.bars)

    def document(self) -> dict[str, Any]:
        """Return what is printed as JSON."""
        return {
            "name": self.name,
            "machine": self.machine,
            "runs": self.runs,
            "figures": self.figures,
            "bars": [asdict(bar) | {"ok": bar.ok} for bar in self.bars],
        }

    def text(self) -> str:
        """Return the same for people."""
        lines = [f"{self.name}: {self.runs} runs on {self.machine}", ""]
        lines += [f"  {line}" for line in _lines(self.figures)]
        lines.append("")
        for bar in self.bars:
            verdict = "ok  " if bar.ok else "MISS"
            lines.append(f"  {verdict}  {bar.name}: {bar.value:g}, at most {bar.bar:g}")
        return "\n".join(lines)


def _lines(figures: dict[str, Any], indent: str = "") -> list[str]:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name:{44 - len(indent)}} {value}")
    return lines


def machine() -> str:
    """Describe this machine and how busy it is: a loaded one gives no figures to rely on."""
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, load {load:.1f}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least ``percent`` of ``values`` do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)  # the ceiling
    return ordered[max(int(rank) - 1, 0)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Return median, p99 and maximum, rounded to 0.1."""
    return {
        "p50": round(statistics.median(values), 1),
        "p99": round(percentile(values, 99), 1),
        "max": round(max(values), 1),
    }
