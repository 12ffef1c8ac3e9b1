"""Runs for the runner's tests: a source in memory, a journal on disk, a permit that counts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from agents_app.runner.apply import ApplyOutcome, run_apply
from agents_app.runner.engines import LocalEngine, discover
from agents_app.runner.environment import secrets_of
from agents_app.runner.errors import PermitDenied
from agents_app.runner.log import RunLog
from agents_app.runner.plan import PlanOutcome, run_plan
from agents_app.runner.providers import ProviderMirror
from agents_app.runner.run import Run
from agents_app.runner.workdir import WorkDirectory
from agents_app.schema import (
    ApplyPath,
    Artifact,
    EnvironmentVariable,
    Job,
    Outcome,
    PlanReference,
    StateBackend,
    Step,
    Variable,
)


def tar_gz(files: Mapping[str, str]) -> bytes:
    """Pack files; names ending with * are executable."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.rstrip("*"))
            info.mode = 0o755 if name.endswith("*") else 0o644
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return buffer.getvalue()


@dataclass
class Source:
    """What the server would have."""

    archive: bytes
    artifacts: dict[Artifact, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.archive).hexdigest()

    def configuration(self, destination: Path) -> None:
        destination.write_bytes(self.archive)

    def artifact(self, kind: Artifact, destination: Path) -> None:
        destination.write_bytes(self.artifacts[kind])

    def keep(self, files: Mapping[Artifact, Path]) -> None:
        """Store what a plan left, as an upload would."""
        self.artifacts |= {kind: path.read_bytes() for kind, path in files.items()}


class FileJournal:
    """Lines of JSON; ``hook`` is called before and after each record is on disk."""

    def __init__(self, path: Path, hook: Callable[[str], None] = lambda point: None) -> None:
        self.path, self.hook = path, hook
        path.parent.mkdir(parents=True, exist_ok=True)

    def record(self, event: str, **facts: Any) -> None:
        name = f"{event} {facts.get('what', '')}".strip()
        self.hook(f"before {name}")
        with self.path.open("a") as file:
            file.write(json.dumps({"event": event, **facts}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.hook(f"after {name}")

    def events(self) -> list[dict[str, Any]]:
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]


@dataclass
class Permit:
    """Grants once; afterwards, or when told so, it denies."""

    valid_seconds: float = 60.0
    denial: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    before_grant: Callable[[], None] = lambda: None

    def __call__(
        self,
        *,
        plan_hash: str,
        manifest_digest: str,
        path: ApplyPath,
        path_reason: str,
        environment_digest: str,
    ) -> float:
        self.asked.append({"path": path, "reason": path_reason, "hash": plan_hash})
        if self.denial or len(self.asked) > 1:
            raise PermitDenied(self.denial or "The permit was granted before.")
        self.before_grant()
        return self.valid_seconds


def job(source: Source, **changes: Any) -> Job:
    """Return a job for a source; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "task_id": uuid4(),
        "workspace_id": uuid4(),
        "workspace_name": "net",
        "task_type": "plan_and_apply",
        "engine": "terraform",
        "engine_version": "0",
        "working_directory": "",
        "configuration_digest": source.digest,
        "destroy": False,
        "refresh_only": False,
        "targets": [],
        "replace": [],
        "variables": [],
        "environment": [],
        "credentials": [],
        "proxy": {},
        "ca_bundle": "",
        "backend": None,
        "plan": None,
        "lock_timeout_seconds": 1,
        "environment_digest": "0" * 64,
    }
    return Job(**fields | changes)


def backend(address: str, password: str = "backend-password") -> StateBackend:
    return StateBackend(address=address, username="slipway", password=password)


def variable(name: str, value: str, *, sensitive: bool = False) -> Variable:
    return Variable(name=name, value=value, hcl=False, sensitive=sensitive)


def environment_variable(name: str, value: str, *, sensitive: bool = False) -> EnvironmentVariable:
    return EnvironmentVariable(name=name, value=value, sensitive=sensitive)


def reference(outcome: PlanOutcome) -> PlanReference:
    """Return what a person confirmed of a plan."""
    assert outcome.result is not None, outcome.error
    return PlanReference(
        plan_hash=outcome.result.plan_hash,
        manifest_digest=outcome.result.manifest_digest,
        terraform_version=outcome.result.terraform_version,
        bundle_stored=outcome.result.bundle_stored,
    )


@dataclass
class Bench:
    """One task on one machine: makes the runs of its phases."""

    base: Path
    source: Source
    job: Job
    engine: LocalEngine
    upstream: Path | None = None
    bundle_bytes_max: int = 50_000_000
    lease_id: UUID = field(default_factory=uuid4)
    steps: list[Step] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def close(self) -> None:
        """Give back what the runs hold."""
        for run in self.runs:
            run.log.close()
            run.directory.release()

    @property
    def directory(self) -> WorkDirectory:
        return WorkDirectory(self.base, self.job.workspace_id, self.job.task_id)

    def journal(self, phase: str) -> FileJournal:
        return FileJournal(self.base / "journal" / f"{self.job.task_id}-{phase}")

    def run(
        self,
        phase: str,
        plan: PlanReference | None = None,
        *,
        acquire: bool = True,
        hook: Callable[[str], None] = lambda point: None,
    ) -> Run:
        """Return a run; its directory is acquired unless it shall be adopted."""
        directory = self.directory
        if acquire:
            directory.acquire()
        one = self.job.model_copy(update={"plan": plan})
        journal = self.journal(phase)
        journal.hook = hook
        run = Run(
            lease_id=self.lease_id,
            epoch=1,
            job=one,
            directory=directory,
            engine=self.engine,
            mirror=ProviderMirror(self.base / "mirror", self.upstream),
            source=self.source,
            log=RunLog(self.base / "logs" / f"{phase}.log", secrets_of(one), 10_000_000),
            journal=journal,
            report=self.steps.append,
            bundle_bytes_max=self.bundle_bytes_max,
        )
        self.runs.append(run)
        return run

    def log(self, phase: str) -> str:
        return (self.base / "logs" / f"{phase}.log").read_text()

    def events(self, phase: str) -> Sequence[Mapping[str, Any]]:
        return self.journal(phase).events()


def local_engine(path: str) -> LocalEngine:
    (engine,) = discover([path])
    return engine


def local_state(path: Path) -> str:
    """Return a configuration file that keeps the state at an absolute path."""
    return f'terraform {{\n  backend "local" {{\n    path = "{path}"\n  }}\n}}\n'


def plan(bench: Bench) -> PlanReference:
    """Plan, store what an upload would, and return what a person confirms."""
    run = bench.run("plan")
    outcome = run_plan(run)
    assert outcome.outcome == Outcome.PLANNED, (outcome, bench.log("plan"))
    bench.source.keep(outcome.files)
    run.directory.release()
    return reference(outcome)


def apply_beside(run: Run, permit: Permit) -> tuple[threading.Thread, list[ApplyOutcome]]:
    """Start an apply in a thread; its outcome is in the list once the thread has ended."""
    outcomes: list[ApplyOutcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(run_apply(run, permit)))
    thread.start()
    return thread, outcomes


def append(counter: Path, before: str = "true") -> str:
    """Return a resource whose creation runs ``before`` and then adds a line to a file."""
    return (
        'resource "terraform_data" "one" {\n'
        '  provisioner "local-exec" {\n'
        f'    command = "{before} && echo applied >> {counter}"\n'
        "  }\n}\n"
    )


def lines(path: Path) -> int:
    """Return how many lines a file has; 0 if it is not there."""
    return len(path.read_text().splitlines()) if path.exists() else 0
