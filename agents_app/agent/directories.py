"""The work directories on this machine's disk: reported to the server, deleted at its wish."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from agents_app.agent.owners import Owners
from agents_app.runner.errors import DirectoryInUse
from agents_app.runner.workdir import WorkDirectory, delete_tree, tree_bytes
from agents_app.schema import DirectoryReport

log = logging.getLogger("agent.directories")

#: The size of a directory that changes is counted again after so many seconds.
_COUNT_SECONDS = 30.0
#: Directories set aside, as evidence, go after so many seconds.
QUARANTINE_SECONDS = 7 * 86400.0


@dataclass(frozen=True)
class _Size:
    bytes: int
    changed: float
    counted: float


class Directories:
    """The directories below one base. Used by one thread."""

    def __init__(self, base: Path, owners: Owners) -> None:
        self._base, self._owners = base, owners
        self._sizes: dict[Path, _Size] = {}
        self._strange: set[Path] = set()

    def reports(self) -> list[DirectoryReport]:
        """Return the work directories on disk that this agent answers for."""
        reports, sizes = [], {}
        now = time.time()
        found = list(self._found())
        mine = self._owners.mine(directory.task_id for directory in found)
        for directory in found:
            if directory.task_id not in mine:
                continue
            path = directory.path
            try:
                changed = path.stat().st_mtime
            except FileNotFoundError:
                continue
            sizes[path] = size = self._size(path, changed)
            reports.append(
                DirectoryReport(
                    workspace_id=directory.workspace_id,
                    task_id=directory.task_id,
                    bytes=size.bytes,
                    last_used_seconds_ago=max(now - changed, 0.0),
                )
            )
        self._sizes = sizes
        return reports

    def _found(self) -> Iterator[WorkDirectory]:
        root = self._base / "workspaces"
        for workspace in sorted(root.iterdir()) if root.is_dir() else []:
            for task in self._in(workspace):
                try:
                    found = WorkDirectory(self._base, UUID(workspace.name), UUID(task.name))
                except ValueError:
                    continue
                if found.exists:
                    yield found

    def _in(self, workspace: Path) -> list[Path]:
        """Return what lies in a folder; one stray thing must not hide all the others."""
        try:
            return sorted(workspace.iterdir())
        except FileNotFoundError:
            pass  # its last directory went just now
        except OSError as error:
            if workspace not in self._strange:
                log.warning("%s is passed over: %s; remove it", workspace, error.strerror)
            self._strange.add(workspace)
        return []

    def _size(self, path: Path, changed: float) -> _Size:
        known, now = self._sizes.get(path), time.monotonic()
        if known and known.changed == changed and now - known.counted < _COUNT_SECONDS:
            return known
        return _Size(tree_bytes(path), changed, now)

    def delete(self, task_ids: Iterable[UUID], in_use: Iterable[UUID]) -> list[UUID]:
        """Delete what the server wants gone, except what is in use after all.

        Args:
            in_use: tasks of this agent's leases.

        Returns:
            The tasks whose directories are not here any more.
        """
        wanted = set(task_ids) - set(in_use)
        gone = set(wanted)
        for directory in self._found():
            if directory.task_id not in wanted:
                continue
            try:
                directory.acquire()
                directory.discard()
                log.info("deleted the work directory of task %s", directory.task_id)
            except (DirectoryInUse, OSError) as error:
                gone.discard(directory.task_id)
                log.warning("the directory of task %s stays: %s", directory.task_id, error)
            finally:
                directory.release()
        return sorted(gone)

    def clear_quarantine(self) -> None:
        """Delete what was set aside long ago."""
        aside = self._base / "quarantine"
        for path in list(aside.iterdir()) if aside.is_dir() else []:
            try:
                if time.time() - path.lstat().st_ctime > QUARANTINE_SECONDS:
                    delete_tree(path)
            except OSError as error:
                log.warning("%s stays: %s", path, error)
