"""What a run is made of, and how its steps are measured and its commands followed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from agents_app.runner import process
from agents_app.runner.engines import LocalEngine
from agents_app.runner.environment import PrivateHome, build
from agents_app.runner.errors import RunCancelled, StepFailed
from agents_app.runner.events import EventStream, TextStream
from agents_app.runner.log import RunLog
from agents_app.runner.process import TerraformProcess
from agents_app.runner.providers import ProviderMirror
from agents_app.runner.workdir import WorkDirectory
from agents_app.schema import Artifact, Diagnostic, Job, Step

logger = logging.getLogger(__name__)

LOCK_FILE = ".terraform.lock.hcl"


class ArtifactSource(Protocol):
    """Fetches contents from the server into files."""

    def configuration(self, destination: Path) -> None: ...

    def artifact(self, kind: Artifact, destination: Path) -> None: ...


class Journal(Protocol):
    """Remembers facts over a restart of the agent."""

    def record(self, event: str, **facts: Any) -> None:
        """Store a fact; it is on disk when this returns.

        It is given back to `adopt.resume` as the mapping ``{"event": event, **facts}``.
        """
        ...


@dataclass
class RunControl:
    """How other threads stop a run: before a command starts, or while it runs."""

    _interrupt: threading.Event = field(default_factory=threading.Event)
    _kill: threading.Event = field(default_factory=threading.Event)

    def interrupt(self) -> None:
        """Stop at the next step, or by one SIGINT to Terraform."""
        self._interrupt.set()

    def kill(self) -> None:
        """End Terraform at once; an apply may lose resources."""
        self._kill.set()
        self._interrupt.set()

    @property
    def interrupted(self) -> bool:
        return self._interrupt.is_set()

    @property
    def killed(self) -> bool:
        return self._kill.is_set()

    def deliver(self, running: TerraformProcess) -> None:
        """Hand a request to a running process.

        Not before its first output: until then a signal would kill it, since it has not yet
        said what to do with signals. One that was held hears nothing before it goes on.
        """
        if self.killed:
            running.kill()
        elif self.interrupted and running.stdout.stat().st_size > running.deaf_bytes:
            running.interrupt()

    def check(self) -> None:
        """Raise RunCancelled if the run was asked to stop."""
        if self.interrupted:
            raise RunCancelled("Cancelled.")


@dataclass
class Run:
    """One phase of one task on this machine."""

    lease_id: UUID
    epoch: int
    job: Job
    directory: WorkDirectory
    engine: LocalEngine
    mirror: ProviderMirror
    source: ArtifactSource
    log: RunLog
    journal: Journal
    report: Callable[[Step], None]
    bundle_bytes_max: int
    control: RunControl = field(default_factory=RunControl)
    started: float = field(default_factory=time.monotonic)  # when the assignment came
    steps: list[Step] = field(default_factory=list)

    @property
    def working_directory(self) -> Path:
        """Where Terraform is started."""
        return self.directory.config / self.job.working_directory

    @property
    def lock_file(self) -> Path:
        return self.working_directory / LOCK_FILE

    def note(self, name: str, since: float, detail: str = "") -> None:
        """Report a step that began at ``since`` (monotonic) and ends now."""
        step = Step(
            name=name,
            started_ms=(since - self.started) * 1000,
            duration_ms=(time.monotonic() - since) * 1000,
            detail=detail,
        )
        self.steps.append(step)
        try:
            self.report(step)
        except Exception:  # what is only told must never decide a run
            logger.exception("Reporting step %s of task %s", name, self.job.task_id)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure a step; it does not begin if the run was asked to stop."""
        self.control.check()
        begun = time.monotonic()
        yield
        self.note(name, begun)


@dataclass(frozen=True)
class Finished:
    """A command that ended; ``exit_code`` is None when nobody knows it."""

    exit_code: int | None
    ran: bool
    interrupted: bool  # Terraform was asked to stop, which it need not have heeded
    stdout: Path
    stderr: str
    diagnostics: list[Diagnostic]
    completed: bool  # an apply said that it was complete

    @property
    def error(self) -> str:
        """The first error, as one sentence."""
        for diagnostic in self.diagnostics:
            if diagnostic.severity == "error":
                place = (
                    f" ({diagnostic.filename} line {diagnostic.line})" if diagnostic.line else ""
                )
                return f"{diagnostic.summary.rstrip('.')}{place}."
        return ""


def follow(
    run: Run,
    home: PrivateHome,
    arguments: Sequence[str],
    *,
    what: str,
    json_stream: bool = False,
    show: bool = True,
    seconds: float | None = None,
) -> Finished:
    """Run one Terraform command to its end, its output going into the log.

    Args:
        what: its name, in the journal and for its folder.
        json_stream: the output is Terraform's `-json` messages.
        show: whether the output belongs in the log at all.
        seconds: after so long it is killed: only for what changes nothing but this directory.

    Raises:
        StepFailed: it was killed for that.
    """
    run.control.check()
    running = spawn(run, build(run.job, home), arguments, what=what)
    late = threading.Event()

    def end() -> None:
        late.set()
        running.kill()

    killer = threading.Timer(seconds or 0.0, end)
    if seconds is not None:
        killer.start()
    try:
        finished = watch(run, running, json_stream=json_stream, show=show)
    finally:
        killer.cancel()
    if late.is_set() and finished.exit_code != 0:
        raise StepFailed(f"terraform {what} did not end within {seconds:g} s.")
    return finished


def spawn(
    run: Run,
    environment: dict[str, str],
    arguments: Sequence[str],
    *,
    what: str,
    folder: Path | None = None,
    check: Callable[[], None] = lambda: None,
) -> TerraformProcess:
    """Start one Terraform command; the journal knows of it before it can run.

    Args:
        folder: a folder that was made for it alone; by default a new one.
        check: called when nothing is left to be done but to start; raises to prevent it.
    """
    folder = folder or run.directory.new_run_folder(what)
    announce(run, what, folder)
    check()
    return process.start(
        folder,
        [*run.engine.command, *arguments],
        environment,
        run.working_directory,
        lock=run.directory.lock_descriptor,
    )


def announce(run: Run, what: str, folder: Path) -> None:
    """Note in the journal that a command may run from now on."""
    run.log.flush()
    run.journal.record(
        "spawning",
        what=what,
        folder=folder.name,
        log_offset=run.log.size,
        machine=process.machine_life(),
    )


def watch(run: Run, running: TerraformProcess, *, json_stream: bool, show: bool = True) -> Finished:
    """Follow a process, started now or by a former agent process, to its end.

    Whatever goes wrong here with logs and reports, the process is followed to its end.
    """
    stream = EventStream(running.stdout) if json_stream else TextStream(running.stdout)
    begun = time.monotonic()
    acted = False

    def look() -> None:
        nonlocal acted
        try:
            run.control.deliver(running)
            for text in stream.read():
                if show:
                    run.log.write(text)
            if stream.acted and not acted:
                acted = True
                run.note("first_action", begun)
        except Exception:
            logger.exception("Following %s of task %s", running.folder.name, run.job.task_id)

    exit_code = running.wait(look)
    stderr = TextStream(running.stderr)
    errors = ""
    try:
        for text in stream.read(last=True):
            if show:
                run.log.write(text)
        errors = "".join(stderr.read(last=True))
    except OSError:
        logger.exception("The output of %s is gone", running.folder)
    if show and errors:
        run.log.write(errors)
    run.log.flush()
    diagnostics = [
        _redacted(run.log, diagnostic) for diagnostic in stream.diagnostics + stderr.diagnostics
    ]
    return Finished(
        exit_code,
        running.ran(),
        running.interrupted,
        running.stdout,
        run.log.redact(errors),
        diagnostics,
        stream.completed,
    )


def _redacted(log: RunLog, diagnostic: Diagnostic) -> Diagnostic:
    texts = {
        name: log.redact(value)[:8000]
        for name, value in diagnostic.model_dump().items()
        if isinstance(value, str)
    }
    return diagnostic.model_copy(update=texts)


def expect_success(finished: Finished, what: str) -> None:
    """Raise StepFailed unless the command succeeded."""
    if finished.exit_code != 0:
        code = (
            "with an unknown result"
            if finished.exit_code is None
            else f"with exit code {finished.exit_code}"
        )
        raise StepFailed(
            finished.error or f"terraform {what} ended {code}.",
            finished.diagnostics,
            finished.exit_code,
        )
