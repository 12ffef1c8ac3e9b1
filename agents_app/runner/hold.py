"""A held apply: Terraform has started, has read the plan and waits at its gate.

The gate is a FIFO whose name makes Terraform load it as a variable file. Terraform reads it
after it has opened the plan and hashed the providers, and before it locks or reads the state
(terraform-physics §§2, 12). What stands in the FIFO decides::

    start ──► arming ──────► held ──────► released     Terraform applies; `apply.conclude`
       "/*" written first,     │    "*/"               follows it
       then Terraform starts   │
                 │             │
                 └──────┬──────┘
                        ▼  closed, then killed
                     rejected                          nothing was applied

The gate is armed before Terraform can open it, so whoever dies, and whenever, leaves an
unfinished comment: Terraform ends with a parse error, or waits at a FIFO that nobody opens any
more until it is killed. A held Terraform is never signalled: it would apply after all when it
is released. Once it is held the FIFO loses its name, which would block other commands.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import struct
import termios
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from agents_app.runner.events import EventStream
from agents_app.runner.process import TerraformProcess, release_reserve, reserve_output
from agents_app.runner.run import Run, spawn
from agents_app.schema import Diagnostic, Job

logger = logging.getLogger(__name__)

_PREFIX, _SUFFIX = "slipway-gate-", ".auto.tfvars"
_ARM, _RELEASE = b"/*", b"*/\n"
#: In the command's folder: the gate's path, and that it was released.
_GATE, _RELEASED = "gate", "released"
#: A rejected Terraform ends in 3 to 14 ms; later it is killed.
_END_SECONDS = 2.0
_PAUSE, _LONG_PAUSE, _EAGER_SECONDS = 0.001, 0.02, 1.0


class HeldApply:
    """One `terraform apply` behind its gate. For one thread."""

    def __init__(self, running: TerraformProcess, gate: Path, writer: int) -> None:
        self.running = running
        self.job: Job | None = None  # what it was started for
        self._gate, self._writer = gate, writer
        self._armed = False
        self._resources = ExitStack()

    def keep(self, resources: ExitStack) -> None:
        """Take over what Terraform needs as long as it lives, such as its HOME."""
        self._resources = resources

    @property
    def held(self) -> bool:
        """Whether Terraform lives and waits: it has read what stands in the gate."""
        if not self._armed and self._writer >= 0:
            unread = fcntl.ioctl(self._writer, termios.FIONREAD, struct.pack("i", 0))
            if struct.unpack("i", unread)[0] == 0:
                self._armed = True
                self._gate.unlink(missing_ok=True)
        return self._armed and self.running.alive()

    def wait(self, check: Callable[[], None] = lambda: None) -> bool:
        """Wait until Terraform is held; False if it ended by itself before.

        Args:
            check: called again and again; raises to give up.
        """
        begun = time.monotonic()
        while not self.held:
            if not self.running.alive():
                return False
            check()
            time.sleep(_PAUSE if time.monotonic() - begun < _EAGER_SECONDS else _LONG_PAUSE)
        return True

    def release(self) -> TerraformProcess:
        """Open the gate: from here on Terraform applies.

        Raises:
            OSError: the disk took no note of it; the gate stays closed.
        """
        assert self._armed, "wait until it is held"
        (self.running.folder / _RELEASED).touch()
        # A signal before Terraform goes on would be lost.
        self.running.deaf_bytes = self.running.stdout.stat().st_size
        os.write(self._writer, _RELEASE)
        self._close()
        return self.running

    def reject(self) -> None:
        """Let Terraform go without an apply; returns when its whole process tree is gone."""
        try:
            self._reject()
        finally:
            self.close()  # its HOME has credentials

    def _reject(self) -> None:
        if self.held:
            self._close()
            until = time.monotonic() + _END_SECONDS
            while self.running.alive() and time.monotonic() < until:
                time.sleep(_PAUSE)
        # One that has not come to its gate yet must find it, shut, until nothing of it lives:
        # without the file it would apply.
        _end(self.running)
        self._close()
        self._gate.unlink(missing_ok=True)
        if self.running.exit_code() == 0:
            logger.critical("%s: rejected, but it ended well", self.running.folder)
        release_reserve(self.running.folder)

    def close(self) -> None:
        """Give back what Terraform needed; it has ended."""
        self._close()
        self._resources.close()

    def why_ended(self) -> str:
        """Return why a Terraform ended that nobody released, as far as it said."""
        stream = EventStream(self.running.stdout)
        try:
            for _ in stream.read(last=True):
                pass
        except OSError:
            pass
        errors = [one.summary for one in stream.diagnostics if one.severity == "error"]
        code = self.running.exit_code()
        return errors[0].rstrip(".") if errors else f"it ended with exit code {code}"

    def _close(self) -> None:
        writer, self._writer = self._writer, -1
        if writer >= 0:
            os.close(writer)


def start(
    run: Run,
    environment: dict[str, str],
    arguments: Sequence[str],
    *,
    what: str,
    reserve_bytes: int,
) -> HeldApply:
    """Start Terraform behind an armed gate; returns at once.

    Args:
        arguments: of an apply.
        what: "hold", or "apply" if it is released as soon as it waits; its name in the journal.
        reserve_bytes: room on the disk for its output.

    Raises:
        OSError: nothing was started.
    """
    folder = run.directory.new_run_folder(what)
    reserve_output(folder, reserve_bytes)
    held = behind_gate(
        folder,
        run.working_directory,
        lambda: spawn(run, environment, arguments, what=what, folder=folder),
    )
    held.job = run.job
    return held


def behind_gate(
    folder: Path, working_directory: Path, started: Callable[[], TerraformProcess]
) -> HeldApply:
    """Arm a gate in Terraform's working directory, then start Terraform.

    Args:
        folder: the command's.
    """
    gate = working_directory / f"{_PREFIX}{uuid.uuid4().hex[:12]}{_SUFFIX}"
    (folder / _GATE).write_text(str(gate))
    os.mkfifo(gate, 0o600)
    writer = -1
    try:
        writer = os.open(gate, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        os.write(writer, _ARM)
        return HeldApply(started(), gate, writer)
    except BaseException:
        if writer >= 0:
            os.close(writer)
        gate.unlink(missing_ok=True)
        raise


def stopped_at_gate(folder: Path, diagnostics: Iterable[Diagnostic]) -> bool:
    """Return whether the Terraform of a command's folder ended because its gate was closed.

    Then it applied nothing. Files of the configuration may have a name like a gate's.
    """
    try:
        gate = Path((folder / _GATE).read_text()).name
    except OSError:
        return False
    places = (Path(one.filename).name for one in diagnostics if one.severity == "error")
    return gate in places


def released(folder: Path) -> bool:
    """Return whether the Terraform of a command's folder was let through, or had no gate.

    Known of processes of this life of the machine only.
    """
    return not (folder / _GATE).exists() or (folder / _RELEASED).exists()


def was_applied(run_folder: Path) -> bool:
    """Return whether the plan of a work directory was applied from it, whatever came of it."""
    began = [*run_folder.glob("apply*/supervisor"), *run_folder.glob("hold*/supervisor")]
    return any(released(one.parent) for one in began)


def end_orphan(running: TerraformProcess) -> None:
    """End a Terraform whose holder died before the release: it applies nothing."""
    _end(running)
    try:
        Path((running.folder / _GATE).read_text()).unlink(missing_ok=True)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def remove_gates(folder: Path) -> None:
    """Delete gates that a killed agent left in a configuration folder."""
    for gate in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        if gate.is_fifo():
            gate.unlink(missing_ok=True)


def _end(running: TerraformProcess) -> None:
    running.kill()
    running.wait(running.kill)
