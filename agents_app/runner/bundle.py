"""The plan bundle: what another agent needs, besides the configuration, to apply a plan.

plan.out, the manifest, and every file that is new or changed since the configuration was
unpacked: the lock file, modules, what planning wrote. Packed by the agent that planned, kept
encrypted by the server, restored anywhere at the same absolute path.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from agents_app.runner.errors import PlanUnusable
from agents_app.runner.manifest import Entry, Manifest, to_json

_DAMAGED = "The stored plan bundle is damaged: plan again."
_BROKEN = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
_PLAN, _MANIFEST, _FILES = "plan.out", "manifest.json", "config"


def pack(
    bundle: Path,
    *,
    plan_file: Path,
    config: Path,
    unpacked: Manifest,
    planned: Manifest,
    bytes_max: int,
) -> int | None:
    """Write the bundle.

    Args:
        unpacked: the manifest right after unpacking the configuration.
        planned: the manifest after the plan.

    Returns:
        Its size in bytes; None when it is larger than ``bytes_max`` and was not kept.
    """
    try:
        with (
            bundle.open("wb") as file,
            gzip.GzipFile(
                fileobj=_Limited(file, bytes_max), mode="wb", compresslevel=1, mtime=0
            ) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            _add(tar, _MANIFEST, to_json(planned).encode())
            _add_file(tar, _PLAN, plan_file, 0o644)
            for path, entry in sorted(planned.entries.items()):
                before = unpacked.entries.get(path)
                if before is None or _essence(before) != _essence(entry):
                    _add_entry(tar, f"{_FILES}/{path}", config / path, entry)
    except _TooLarge:
        bundle.unlink()
        return None
    return bundle.stat().st_size


class _TooLarge(Exception):
    pass


class _Limited:
    """A file that refuses to grow beyond a limit."""

    def __init__(self, file: IO[bytes], bytes_max: int) -> None:
        self._file, self._left = file, bytes_max

    def write(self, data: bytes, /) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _add_entry(tar: tarfile.TarFile, name: str, path: Path, entry: Entry) -> None:
    """Add one entry by what the manifest says, never as a hard link to another one."""
    if entry.kind == "file":
        _add_file(tar, name, path, entry.mode)
        return
    info = tarfile.TarInfo(name)
    info.mode = entry.mode or 0o777
    info.type = tarfile.DIRTYPE if entry.kind == "folder" else tarfile.SYMTYPE
    info.linkname = entry.content if entry.kind == "link" else ""
    tar.addfile(info)


def _add_file(tar: tarfile.TarFile, name: str, path: Path, mode: int) -> None:
    with path.open("rb") as content:
        info = tarfile.TarInfo(name)
        info.size, info.mode = os.fstat(content.fileno()).st_size, mode
        tar.addfile(info, content)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _essence(entry: Entry) -> tuple[str, int, str]:
    return entry.kind, entry.mode, entry.content


def restore(bundle: Path, *, plan_file: Path, config: Path, files_gone: set[str]) -> None:
    """Put the plan and the files of a bundle where they were; plan.out by rename.

    Args:
        files_gone: paths the configuration has and the manifest has not: planning removed them.

    Raises:
        PlanUnusable: the bundle is damaged or holds what no bundle holds.
    """
    for path in sorted(files_gone, reverse=True):
        _remove(config / path)
    temporary = plan_file.with_suffix(".new")
    try:
        with tarfile.open(bundle, "r:gz") as tar:
            for member in tar:
                if member.name == _PLAN:
                    _write(tar, member, temporary)
                elif member.name != _MANIFEST:
                    _restore_file(tar, member, config)
    except _BROKEN as error:
        raise PlanUnusable(_DAMAGED) from error
    if not temporary.exists():
        raise PlanUnusable("The stored plan bundle holds no plan: plan again.")
    os.replace(temporary, plan_file)


def read_manifest(bundle: Path) -> str:
    """Return the manifest's text from a bundle.

    Raises:
        PlanUnusable: the bundle is damaged.
    """
    try:
        with tarfile.open(bundle, "r:gz") as tar:
            return _content(tar, tar.getmember(_MANIFEST)).read().decode()
    except (*_BROKEN, KeyError, ValueError) as error:
        raise PlanUnusable(_DAMAGED) from error


def _restore_file(tar: tarfile.TarFile, member: tarfile.TarInfo, config: Path) -> None:
    path = PurePosixPath(member.name)
    if path.parts[:1] != (_FILES,) or len(path.parts) < 2 or ".." in path.parts:
        raise PlanUnusable(f"The stored plan bundle holds a strange path: {member.name[:100]}.")
    target = config.joinpath(*path.parts[1:])
    folders = [config.joinpath(*path.parts[1:end]) for end in range(2, len(path.parts))]
    if any(folder.is_symlink() for folder in folders):
        raise PlanUnusable("The stored plan bundle writes through a link.")
    if not (member.isdir() and target.is_dir() and not target.is_symlink()):
        _remove(target)
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.isfile():
        _write(tar, member, target)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        raise PlanUnusable(f"The stored plan bundle holds a device: {member.name[:100]}.")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = _content(tar, member)
    with target.open("wb") as output:
        while piece := content.read(1 << 20):
            output.write(piece)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        raise PlanUnusable(_DAMAGED)
    return content
