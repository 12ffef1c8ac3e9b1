"""`startup`: how long from the confirmation to Terraform's first action on a resource?

Four ways to start the same apply take turns, with Slipway's own state, on one machine:

- by hand: Terraform in a copy of the directory that Slipway's plan left behind
- kept: Slipway, from the kept work directory
- normal: Slipway, the directory gone, the provider in the agent's mirror
- rebuilt: Slipway, directory and mirror gone, the provider in a zipped mirror

Slipway's clock starts at the database time of the confirmation, inside its transaction; the one
by hand when the process is started. Both end at the time that Terraform itself writes into its
first `apply_start` message.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from agents_app.runner.engines import discover
from agents_app.runner.errors import EngineMissing
from benchmarks.harness import running_platform, say
from benchmarks.kinds import KINDS, Kind, zipped_mirror
from benchmarks.result import Bar, CannotMeasure, Result
from config.demo import PLAN_ENDS, Api, pack
from config.launch import Platform

RUNS = 7
LARGE_RATIO, SMALL_MS, REBUILT_RATIO = 1.2, 60.0, 0.15
_PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Start:
    """When an apply began to act, in seconds of the machine's clock."""

    process: float
    first_action: float


@dataclass
class Samples:
    """Milliseconds by way, of one kind of provider."""

    process: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    first_action: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, way: str, begun: float, start: Start) -> None:
        self.process[way].append((start.process - begun) * 1000)
        self.first_action[way].append((start.first_action - begun) * 1000)

    def median(self, way: str) -> float:
        return statistics.median(self.first_action[way])

    def figures(self) -> dict[str, Any]:
        return {
            way: {
                "process_ms": round(statistics.median(self.process[way]), 1),
                "first_action_ms": round(self.median(way), 1),
                "first_action_max_ms": round(max(self.first_action[way]), 1),
            }
            for way in self.first_action
        }


class Bench:
    """One workspace with one kind of provider."""

    def __init__(self, platform: Platform, api: Api, kind: Kind) -> None:
        self._platform, self._api, self._kind = platform, api, kind
        self._names = (f"n{number}" for number in range(10_000))
        source = platform.directory / "configurations" / kind.name
        source.mkdir(parents=True)
        (source / "main.tf").write_text(kind.configuration)
        self.workspace = api.call("POST", "workspaces/", json={"name": kind.name})["id"]
        api.call(
            "POST",
            f"workspaces/{self.workspace}/configurations/",
            content=pack(source).getvalue(),
            headers={"Content-Type": "application/gzip"},
        )

    @property
    def _work(self) -> Path:
        return self._platform.directory / "work"

    def plan(self) -> dict[str, Any]:
        """Plan to replace the resource; returns the task, which waits for a confirmation."""
        variable = {"key": "name", "value": next(self._names), "category": "terraform"}
        self._api.call("POST", f"workspaces/{self.workspace}/variables/", json=variable)
        task = self._api.call("POST", f"workspaces/{self.workspace}/plan/", json={})
        planned = self._api.wait(task["id"], PLAN_ENDS, lambda: None)
        if planned["status"] != "apply_pending":
            raise CannotMeasure(f"The plan is {planned['status']}: {planned['error']}")
        return planned

    def directory(self, task: dict[str, Any]) -> Path:
        return self._work / "workspaces" / self.workspace / task["id"]

    def confirmed(self, task: dict[str, Any], path: str) -> tuple[float, Start]:
        """Confirm; returns when, and when Terraform began."""
        folder = self.directory(task) / "run" / "apply"
        with Watch(folder / "stdout", lambda: (folder / "pid").stat().st_mtime) as watch:
            self._api.call(
                "POST", f"tasks/{task['id']}/apply/", json={"plan_hash": task["plan_hash"]}
            )
            start = watch.result(self._platform)
        ended = self._api.wait(task["id"], {"applied", "failed", "cancelled"}, lambda: None)
        if (ended["status"], ended["apply_path"]) != ("applied", path):
            raise CannotMeasure(
                f"The apply is {ended['status']} by the {ended['apply_path']} path "
                f"instead of applied by {path}: {ended['apply_path_reason']} {ended['error']}"
            )
        return _seconds(ended["confirmation"]["created_at"]), start

    def rebuild(self, task: dict[str, Any], *, mirror: bool) -> None:
        """Take the agent's directory away, as a new machine has none; also its mirror?"""
        shutil.rmtree(self.directory(task))
        if mirror:
            for folder in (self._work / "providers").iterdir():
                _delete_read_only(folder)

    def by_hand(self, task: dict[str, Any], command: tuple[str, ...]) -> tuple[float, Start]:
        """Start Terraform as the agent would, in a copy of the kept directory."""
        copy = self._platform.directory / "by-hand"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.directory(task), copy, symlinks=True)
        (copy / "home").mkdir()
        stdout = copy / "stdout"
        arguments = [*command, *_ARGUMENTS, str(copy / "plan.out")]
        with stdout.open("wb") as output:
            begun = time.time()
            process = subprocess.Popen(
                arguments,
                cwd=copy / "config",
                env=self._environment(copy / "home"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            spawned = time.time()
            with Watch(stdout, lambda: spawned) as watch:
                start = watch.result(self._platform)
            if process.wait(_PATIENCE_SECONDS):
                raise CannotMeasure(f"Terraform by hand failed: {stdout.read_text()[-1000:]}")
        return begun, start

    def _environment(self, home: Path) -> dict[str, str]:
        (home / "terraform.rc").write_text("disable_checkpoint = true\n")
        address = f"{self._platform.url}/api/state/v1/{self.workspace}/"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
            "TF_CLI_CONFIG_FILE": str(home / "terraform.rc"),
            "CHECKPOINT_DISABLE": "1",
            "TF_HTTP_ADDRESS": address,
            "TF_HTTP_LOCK_ADDRESS": address,
            "TF_HTTP_UNLOCK_ADDRESS": address,
            "TF_HTTP_USERNAME": "admin",
            "TF_HTTP_PASSWORD": self._platform.token,
        }


#: As `agents_app/runner/apply.py` has them; the plan file follows.
_ARGUMENTS = (
    "apply",
    "-input=false",
    "-no-color",
    "-auto-approve",
    "-json",
    "-lock-timeout=60s",
)


class Watch(threading.Thread):
    """Reads Terraform's messages from a file that is deleted when the apply is over."""

    def __init__(self, stdout: Path, started: Callable[[], float]) -> None:
        super().__init__(name="watch", daemon=True)
        self._stdout, self._process_start = stdout, started
        self._found: Start | None = None
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        # The times are in the file; looking at it seldom leaves the processors to others.
        while self._found is None and not self._over.wait(0.02):
            try:
                lines = self._stdout.read_text().splitlines()
                acted = next((line for line in lines if '"type":"apply_start"' in line), None)
                if acted is not None:
                    moment = _seconds(json.loads(acted)["@timestamp"])
                    self._found = Start(self._process_start(), moment)
            except (FileNotFoundError, ValueError):
                continue

    def result(self, platform: Platform) -> Start:
        """Wait for the first action."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._found is None:
            platform.check()
            if time.monotonic() > deadline:
                raise CannotMeasure(f"Terraform took no action; see {self._stdout}.")
            self.join(0.05)
        return self._found


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _delete_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)


def run(runs: int) -> Result:
    """Measure every kind of provider, the ways in turn."""
    try:
        command = discover()[0].command
    except EngineMissing as error:
        raise CannotMeasure(str(error)) from error
    mirror = zipped_mirror()
    samples: dict[str, Samples] = {}
    with (
        running_platform(SLIPWAY_PROVIDER_MIRROR=str(mirror)) as platform,
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
    return _judge(runs, samples)


def _turn(bench: Bench, kind: Kind, samples: Samples, command: tuple[str, ...]) -> None:
    samples.add("by_hand", *bench.by_hand(bench.plan(), command))
    samples.add("kept", *bench.confirmed(bench.plan(), "kept"))
    task = bench.plan()
    bench.rebuild(task, mirror=False)
    samples.add("normal", *bench.confirmed(task, "normal"))
    if kind.provider:
        task = bench.plan()
        bench.rebuild(task, mirror=True)
        samples.add("rebuilt", *bench.confirmed(task, "normal"))


def _judge(runs: int, samples: dict[str, Samples]) -> Result:
    bars = []
    figures: dict[str, Any] = {}
    for kind in KINDS:
        found = samples[kind.name]
        by_hand, kept = found.median("by_hand"), found.median("kept")
        figures[kind.name] = found.figures() | {"kept_to_by_hand": round(kept / by_hand, 2)}
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
