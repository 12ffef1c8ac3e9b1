"""Work directories: one per task, the same absolute path on every agent, locked by its user.

::

    <base>/workspaces/<workspace>/<task>/config/   the configuration: what an apply reads
                                        plan.out   the plan
                                        run/       one folder per command: pid, output, status
    <base>/locks/<task>.lock                       flock; Terraform inherits the descriptor
    <base>/quarantine/, <base>/trash/              renamed directories: changed ones, doomed ones
    <base>/homes/<task>/                           HOME of the run, removed when it is over

Whoever holds the lock owns the directory. An orphaned Terraform holds it too, because it
inherits the descriptor, so its directory is never taken over.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from agents_app.runner.errors import DirectoryInUse
from agents_app.runner.process import has_open

log = logging.getLogger("agent.runner")

_ACQUIRE_PAUSE = 0.05


@dataclass(frozen=True)
class DirectoryFacts:
    """A directory found on disk."""

    workspace_id: UUID
    task_id: UUID
    bytes: int
    last_used_seconds_ago: float


class WorkDirectory:
    """The directory of one task. Methods that change it need the lock."""

    def __init__(self, base: Path, workspace_id: UUID, task_id: UUID) -> None:
        self.base, self.workspace_id, self.task_id = base, workspace_id, task_id
        self.path = base / "workspaces" / str(workspace_id) / str(task_id)
        self.config = self.path / "config"
        self.plan_file = self.path / "plan.out"
        self.run = self.path / "run"
        self.home = base / "homes" / str(task_id)
        self._lock: int | None = None

    @property
    def exists(self) -> bool:
        return self.path.is_dir()

    @property
    def locked(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    @property
    def lock_descriptor(self) -> int:
        """The descriptor for Terraform to inherit."""
        assert self._lock is not None, "acquire the directory first"
        return self._lock

    # --- the lock -------------------------------------------------------------------------

    def acquire(self, patience: float = 0.0) -> None:
        """Take the directory's lock.

        Args:
            patience: for how many seconds to try.

        Raises:
            DirectoryInUse: another process has it.
        """
        until = time.monotonic() + patience
        while True:
            try:
                return self._acquire()
            except DirectoryInUse:
                if time.monotonic() >= until:
                    raise
                time.sleep(_ACQUIRE_PAUSE)

    def _acquire(self) -> None:
        if self._lock is not None:
            return
        _private(self._lock_file.parent)
        while self._lock is None:
            descriptor = _open(self._lock_file)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                raise DirectoryInUse(
                    f"The work directory of task {self.task_id} is still in use by another process."
                ) from None
            if _same_file(descriptor, self._lock_file):
                self._lock = descriptor
            else:  # its last owner removed the file in between
                os.close(descriptor)

    def release(self) -> None:
        """Give the lock back; the directory stays. Without one the lock file goes too."""
        if self._lock is not None:
            if not self.exists:
                self._lock_file.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def users(self) -> list[str]:
        """Return who has the lock's file open, as "program (process id)", as far as we may see."""
        return [
            f"{_program(pid)} (process {pid})"
            for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
            if has_open(pid, os.path.realpath(self._lock_file))
        ]

    @property
    def _lock_file(self) -> Path:
        return self.base / "locks" / f"{self.task_id}.lock"

    # --- the directory --------------------------------------------------------------------

    def create_anew(self) -> None:
        """Make the directory empty; a former one is moved away first."""
        self.discard()
        _private(self.base / "workspaces")
        _private(self.path.parent)
        for path in (self.path, self.config, self.run):
            path.mkdir(mode=0o700)

    def new_run_folder(self, what: str) -> Path:
        """Make a folder for one command; no command before it had the same.

        Args:
            what: the command's name, which becomes the folder's.
        """
        self.run.mkdir(mode=0o700, exist_ok=True)
        name, number = what.replace(" ", ""), 1
        while True:
            folder = self.run / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir(mode=0o700)
            except FileExistsError:
                number += 1
            else:
                return folder

    def quarantine(self) -> Path | None:
        """Move a directory that is not what it should be out of the way, and keep it."""
        if not self.exists:
            return None
        target = _private(self.base / "quarantine") / f"{self.task_id}-{uuid.uuid4().hex[:8]}"
        self.path.rename(target)
        return target

    def discard(self) -> None:
        """Delete the directory: rename first, so that a half-deleted one is never used."""
        if self.exists:
            trash = _private(self.base / "trash") / f"{self.task_id}-{uuid.uuid4().hex[:8]}"
            self.path.rename(trash)
            delete_tree(trash)

    def touch(self) -> None:
        """Note that the directory is in use now."""
        if self.exists:
            os.utime(self.path)


def _open(path: Path) -> int:
    """Open a lock file with a number that no standard stream has, so that it can be inherited."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    if descriptor > 2:
        return descriptor
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "one that has just ended"


def _private(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def delete_tree(path: Path) -> None:
    """Delete a tree without following links, whatever its modes; others may delete it as well.

    Raises:
        OSError: something of it stays.
    """
    tried: set[str] = set()

    def once_more(function, name, error):
        if isinstance(error[1], FileNotFoundError):
            return
        if name in tried:
            raise error[1]
        tried.add(name)
        try:
            os.chmod(os.path.dirname(name), 0o700)
            if stat.S_ISDIR(os.lstat(name).st_mode):
                os.chmod(name, 0o700)
            if function in (os.unlink, os.rmdir):
                function(name)
            else:  # a folder that could not be read
                shutil.rmtree(name, onerror=once_more)
        except FileNotFoundError:
            return

    shutil.rmtree(path, onerror=once_more)


def empty_trash(base: Path) -> None:
    """Delete what a former process left half-deleted; what cannot go yet waits for the next."""
    trash = base / "trash"
    for path in list(trash.iterdir()) if trash.is_dir() else []:
        try:
            delete_tree(path)
        except OSError as error:
            log.warning("%s stays: %s", path, error)


def directories(base: Path) -> Iterator[DirectoryFacts]:
    """Yield the work directories on disk."""
    root = base / "workspaces"
    for workspace in sorted(root.iterdir()) if root.is_dir() else []:
        for task in sorted(workspace.iterdir()):
            try:
                ids = UUID(workspace.name), UUID(task.name)
                age = max(time.time() - task.stat().st_mtime, 0.0)
            except (ValueError, FileNotFoundError):
                continue
            yield DirectoryFacts(*ids, bytes=tree_bytes(task), last_used_seconds_ago=age)


def tree_bytes(path: Path) -> int:
    """Return the bytes of a tree, links not followed."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except FileNotFoundError:
                continue
    return total
