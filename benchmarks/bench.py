"""One workspace that is planned and applied again and again, with the moments of each apply."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from agents_app.runner.engines import discover
from agents_app.runner.errors import EngineMissing
from agents_app.runner.providers import read_lock
from benchmarks.kinds import Kind
from benchmarks.result import CannotMeasure
from config.client import PLAN_ENDS, Api
from config.launch import Platform

PATIENCE_SECONDS = 120.0
#: How often the end of an apply is looked for, where that is measured.
_VISIBLE_PAUSE = 0.02
_SETTLE_SECONDS = 0.5


@dataclass(frozen=True)
class Start:
    """When an apply began, in seconds of the machine's clock: its process or its gate's opening."""

    process: float
    first_action: float


@dataclass(frozen=True)
class Confirmed:
    """An apply from its confirmation to its end, in seconds of the machine's clock."""

    begun: float
    start: Start
    seen: float  # its end was visible over the API


@dataclass
class Samples:
    """Milliseconds from the confirmation by way, of one kind of provider."""

    started: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    first_action: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    visible: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    lock_file_hashes: str = ""

    def add(self, way: str, apply: Confirmed) -> None:
        for values, moment in (
            (self.started, apply.start.process),
            (self.first_action, apply.start.first_action),
            (self.visible, apply.seen),
        ):
            values[way].append((moment - apply.begun) * 1000)

    def median(self, way: str) -> float:
        """Return the median to the first action."""
        return statistics.median(self.first_action[way])


def engine_command() -> tuple[str, ...]:
    """Return the command of the engine that agents of this machine use.

    Raises:
        CannotMeasure: there is none.
    """
    try:
        return discover()[0].command
    except EngineMissing as error:
        raise CannotMeasure(str(error)) from error


class Bench:
    """One workspace with one kind of provider."""

    def __init__(
        self, platform: Platform, api: Api, kind: Kind, *, pool: str | None = None
    ) -> None:
        self._platform, self.api, self._kind = platform, api, kind
        self._names = (f"n{number}" for number in range(10_000))
        #: Of the newest plan: how many of which kind.
        self.lock_file_hashes = ""
        source = platform.directory / "configurations" / kind.name
        source.mkdir(parents=True)
        (source / "main.tf").write_text(kind.configuration)
        facts = {"name": kind.name} | ({"pool": pool} if pool else {})
        self.workspace = api.call("POST", "workspaces/", json=facts)["id"]
        api.upload(self.workspace, source)

    @property
    def _work(self) -> Path:
        return self._platform.directory / "work"

    def plan(self) -> dict[str, Any]:
        """Plan to replace the resource; returns the task, which waits for a confirmation."""
        variable = {"key": "name", "value": next(self._names), "category": "terraform"}
        self.api.call("POST", f"workspaces/{self.workspace}/variables/", json=variable)
        task = self.api.call("POST", f"workspaces/{self.workspace}/plan/", json={})
        planned = self.api.wait(task["id"], PLAN_ENDS, lambda: None)
        if planned["status"] != "apply_pending":
            raise CannotMeasure(f"The plan is {planned['status']}: {planned['error']}")
        self.lock_file_hashes = self._lock_file_hashes(planned)
        return planned

    def _lock_file_hashes(self, task: dict[str, Any]) -> str:
        lock = self.directory(task) / "config" / ".terraform.lock.hcl"
        locked = read_lock(lock.read_text()) if lock.exists() else []
        kinds = sorted(entry.partition(":")[0] for one in locked for entry in one.hashes)
        return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "none"

    def directory(self, task: dict[str, Any]) -> Path:
        return self._work / "workspaces" / self.workspace / task["id"]

    def confirmed(self, task: dict[str, Any], path: str) -> Confirmed:
        """Confirm, wait for the end, and say what happened when.

        Raises:
            CannotMeasure: it was not applied, or by another path.
        """
        _settle()
        with Watch(self.directory(task) / "run") as watch:
            begun = time.time()
            self.api.call(
                "POST", f"tasks/{task['id']}/apply/", json={"plan_hash": task["plan_hash"]}
            )
            start = watch.result(self._platform)
        ended = self.api.wait(
            task["id"], {"applied", "failed", "cancelled"}, lambda: None, pause=_VISIBLE_PAUSE
        )
        seen = time.time()
        if (ended["status"], ended["apply_path"]) != ("applied", path):
            raise CannotMeasure(
                f"The apply is {ended['status']} by the {ended['apply_path']} path "
                f"instead of applied by {path}: {ended['apply_path_reason']} {ended['error']}"
            )
        return Confirmed(begun, start, seen)

    def remove_mirror(self) -> None:
        """Take the agent's providers away, as a new machine has none."""
        for folder in (self._work / "providers").iterdir():
            _delete_read_only(folder)

    def by_hand(self, task: dict[str, Any], command: tuple[str, ...]) -> Confirmed:
        """Start Terraform as the agent would, in a copy of the kept directory."""
        copy = self._platform.directory / "by-hand"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.directory(task), copy, symlinks=True)
        (copy / "home").mkdir()
        stdout = copy / "run-by-hand" / "apply" / "stdout"
        stdout.parent.mkdir(parents=True)
        arguments = [*command, *_ARGUMENTS, str(copy / "plan.out")]
        _settle()
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
            (stdout.parent / "pid").touch()
            with Watch(stdout.parent.parent) as watch:
                start = watch.result(self._platform)
            if process.wait(PATIENCE_SECONDS):
                raise CannotMeasure(f"Terraform by hand failed: {stdout.read_text()[-1000:]}")
        return Confirmed(begun, start, time.time())

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


def _settle() -> None:
    """Let come to rest what planning and the way before left behind: nobody confirms so soon."""
    os.sync()
    time.sleep(_SETTLE_SECONDS)


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
    """Finds Terraform's first action in the files of a work directory, which are deleted later.

    Args:
        run: the directory's folder ``run``, which need not exist yet.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(name="watch", daemon=True)
        self._folder = run
        self._found: Start | None = None
        self._over = threading.Event()

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        # The times are in the files; looking at them seldom leaves the processors to others.
        while self._found is None and not self._over.wait(0.02):
            for stdout in self._folder.glob("*/stdout"):
                self._found = self._found or _first_action(stdout)

    def result(self, platform: Platform) -> Start:
        """Wait for the first action."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._found is None:
            platform.check()
            if time.monotonic() > deadline:
                raise CannotMeasure(f"Terraform took no action; see {self._folder}.")
            self.join(0.05)
        return self._found


def _first_action(stdout: Path) -> Start | None:
    try:
        lines = stdout.read_text().splitlines()
        acted = next((line for line in lines if '"type":"apply_start"' in line), None)
        if acted is None:
            return None
        released = stdout.with_name("released")
        began = released if released.exists() else stdout.with_name("pid")
        return Start(began.stat().st_mtime, seconds(json.loads(acted)["@timestamp"]))
    except (FileNotFoundError, ValueError):
        return None


def seconds(timestamp: str) -> float:
    """Return a time of the API or of Terraform in seconds since 1970."""
    return datetime.fromisoformat(timestamp).timestamp()


def _delete_read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o700)
    shutil.rmtree(folder)
