"""What happened with a lease, on disk before anything follows from it.

One folder a lease, below the agent's own directory::

    leases/<lease>/journal.jsonl   one fact a line, the last line perhaps torn by a crash
    leases/<lease>/plan.log        the redacted log of a phase, until the server has it all
    leases/<lease>/apply.log

No secrets: a lease's job is asked for again after a restart. Each fact has its time as ``at``,
in seconds since the machine's boot, as processes have theirs.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from agents_app.agent.disk import private_folder, sync_folder

log = logging.getLogger("agent.journal")

_FILE = "journal.jsonl"
#: Facts that another one follows on disk before anything comes of them: they need not wait for
#: the disk themselves, on the way from a confirmation to Terraform's start.
_FOLLOWED = {"begun", "permit_granted"}

Event = dict[str, Any]


class LeaseJournal:
    """The facts of one lease, oldest first. Implements `runner.run.Journal`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        if not folder.is_dir():
            private_folder(folder)
            sync_folder(folder.parent)
        path = folder / _FILE
        self._events = _read(path)
        fresh = not path.exists()
        self._file: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        if fresh:
            sync_folder(folder)

    @property
    def events(self) -> list[Event]:
        """The facts so far; each is a dictionary with its name as ``event``."""
        with self._lock:
            return list(self._events)

    def record(self, event: str, **facts: Any) -> None:
        """Store a fact; it is on disk when this returns."""
        line = _line(event, facts)
        with self._lock:
            assert self._file is not None, "the journal is closed"
            written = os.write(self._file, line)
            if written < len(line):  # a full disk: half a fact would hide all that follow it
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if event not in _FOLLOWED:
                os.fdatasync(self._file)
            self._events.append(json.loads(line))

    def note(self, event: str, **facts: Any) -> None:
        """Store a fact, or keep it in memory alone where the disk takes nothing more."""
        try:
            self.record(event, **facts)
        except OSError as error:
            log.error("lease %s: %r is not on disk: %s", self.folder.name, event, error.strerror)
            with self._lock:
                self._events.append(json.loads(_line(event, facts)))

    def last(self, event: str) -> Event | None:
        """Return the newest fact of a name."""
        return next((e for e in reversed(self.events) if e["event"] == event), None)

    def since(self, event: str) -> list[Event]:
        """Return the newest fact of a name and all that came after it."""
        events = self.events
        for index in range(len(events) - 1, -1, -1):
            if events[index]["event"] == event:
                return events[index:]
        return []

    def log_file(self, phase: str) -> Path:
        """Return where the redacted log of a phase lies."""
        return self.folder / f"{phase}.log"

    def kept(self, path: Path) -> Path:
        """Return where a file goes that must outlive its lease: ``recovered/`` beside them all."""
        return self.folder.parent.parent / "recovered" / f"{self.folder.name}-{path.name}"

    def keep(self, path: Path) -> Path:
        """Move a file there; returns where it is now."""
        target = self.kept(path)
        private_folder(target.parent)
        shutil.move(path, target)
        sync_folder(target.parent)
        return target

    def close(self) -> None:
        """Record no more; what is on disk stays."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
            self._file = None

    def remove(self) -> None:
        """The lease is over and the server knows it: forget all of it, but for a lost state."""
        for state in self.folder.glob("*.tfstate"):
            self.keep(state)
        self.close()
        (self.folder / _FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def _line(event: str, facts: dict[str, Any]) -> bytes:
    at = round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)
    return json.dumps({"event": event, "at": at, **facts}, default=str).encode() + b"\n"


def _read(path: Path) -> list[Event]:
    """Return the facts of a file, and cut off a last line that a crash tore."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    events: list[Event] = []
    good = 0
    for line in content.splitlines(keepends=True):
        try:
            event = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n") or not isinstance(event, dict):
            break
        events.append(event)
        good += len(line)
    if good < len(content):
        os.truncate(path, good)
    return events


def journals(directory: Path) -> Iterator[tuple[UUID, LeaseJournal]]:
    """Yield the leases that a former agent process left; remains of forgotten ones go."""
    folder = private_folder(directory / "leases")
    for path in sorted(folder.iterdir()):
        try:
            lease_id = UUID(path.name)
        except ValueError:
            continue
        if not (path / _FILE).exists():
            shutil.rmtree(path, ignore_errors=True)
            continue
        yield lease_id, LeaseJournal(path)


def new_journal(directory: Path, lease_id: UUID) -> LeaseJournal:
    """Return the journal of a lease that just came."""
    return LeaseJournal(private_folder(directory / "leases") / str(lease_id))
