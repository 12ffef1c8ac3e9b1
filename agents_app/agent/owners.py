"""Which agent of this machine answers for which work directory.

Agents on one machine share the base, but each directory shall be reported, and so counted and
cleaned up, by one of them. An agent claims what it works in::

    <base>/agents/<pod uid>/lock     held while the agent lives, touched by its heartbeat
    <base>/agents/<pod uid>/<task>   it answers for the directory of this task

What an agent leaves that is gone for good, another one takes over.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import UUID

from agents_app.agent.disk import private_folder

#: An agent that is silent for so many seconds, its lock free, does not come back for its own.
_GONE_SECONDS = 600.0
_LOCK = "lock"


class Owners:
    """The claims of the agent ``pod_uid`` below a base, until :meth:`close` or its end."""

    def __init__(self, base: Path, pod_uid: str) -> None:
        self._root = private_folder(base / "agents")
        self._mine = self._root / pod_uid
        self._held = self._hold()

    def _hold(self) -> int:
        while True:
            path = private_folder(self._mine) / _LOCK
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits only while another one looks
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
            os.close(descriptor)  # taken for gone just now: begin anew

    def claim(self, task_id: UUID) -> None:
        """Answer for a task's directory from now on, alone. Do it before making one."""
        for folder in self._others():
            (folder / str(task_id)).unlink(missing_ok=True)
        (self._mine / str(task_id)).touch(mode=0o600)

    def mine(self, present: Iterable[UUID]) -> set[UUID]:
        """Return which of the directories on disk this agent answers for.

        Claims of others that are gone, and directories that nobody claims, become its own.
        """
        os.utime(self._mine / _LOCK)
        on_disk = set(present)
        claimed = self._claims(self._mine)
        for task_id in claimed - on_disk:
            self._forget(task_id)
        others: set[UUID] = set()
        for folder in self._others():
            if not self._take_over(folder):
                others |= self._claims(folder)
        for task_id in on_disk - others - claimed:
            (self._mine / str(task_id)).touch(mode=0o600)
        return on_disk - others

    def elsewhere(self) -> set[UUID]:
        """Return the tasks whose directories another agent of this machine answers for."""
        return {task_id for folder in self._others() for task_id in self._claims(folder)}

    def _forget(self, task_id: UUID) -> None:
        """Give up a claim whose directory is gone, unless it is young: made before it."""
        claim = self._mine / str(task_id)
        try:
            if time.time() - claim.stat().st_mtime > _GONE_SECONDS:
                claim.unlink()
        except FileNotFoundError:
            pass  # another agent claimed the task just now

    def close(self) -> None:
        """Let the lock go; the claims stay."""
        os.close(self._held)

    def _others(self) -> Iterator[Path]:
        for folder in self._root.iterdir():
            if folder != self._mine and folder.is_dir():
                yield folder

    def _claims(self, folder: Path) -> set[UUID]:
        try:
            names = [path.name for path in folder.iterdir()]
        except FileNotFoundError:
            return set()  # somebody just took over what it had
        found = set()
        for name in names:
            try:
                found.add(UUID(name))
            except ValueError:
                continue
        return found

    def _take_over(self, folder: Path) -> bool:
        """Forget another agent if it is gone for good; its directories are then nobody's."""
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR)
        except FileNotFoundError:
            return False  # it is just beginning, or just being forgotten
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - os.fstat(descriptor).st_mtime < _GONE_SECONDS:
                return False
            shutil.rmtree(folder, ignore_errors=True)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
