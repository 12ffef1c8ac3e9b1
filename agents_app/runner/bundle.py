"""The plan bundle: what another agent needs, besides the configuration, to apply a plan.

plan.out, the manifest, and every file that is new or changed since the configuration was
unpacked: the lock file, modules, what planning wrote. Packed by the agent that planned, kept
encrypted by the server, restored anywhere at the same absolute path.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path, PurePosixPath

from agents_app.runner.errors import PlanUnusable
from agents_app.runner.manifest import Entry, Manifest, to_json

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
    with tarfile.open(bundle, "w:gz", compresslevel=1) as tar:
        text = to_json(planned).encode()
        info = tarfile.TarInfo(_MANIFEST)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        tar.add(plan_file, _PLAN, recursive=False)
        for path, entry in sorted(planned.entries.items()):
            before = unpacked.entries.get(path)
            if before is None or _essence(before) != _essence(entry):
                tar.add(config / path, f"{_FILES}/{path}", recursive=False, filter=_plain)
            if bundle.stat().st_size > bytes_max:
                break
    size = bundle.stat().st_size
    if size > bytes_max:
        bundle.unlink()
        return None
    return size


def _essence(entry: Entry) -> tuple[str, int, str]:
    return entry.kind, entry.mode, entry.content


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def restore(bundle: Path, *, plan_file: Path, config: Path, files_gone: set[str]) -> None:
    """Put the plan and the files of a bundle where they were; plan.out by rename.

    Args:
        files_gone: paths the configuration has and the manifest has not: planning removed them.

    Raises:
        PlanUnusable: the bundle is damaged or holds what no bundle holds.
    """
    temporary = plan_file.with_suffix(".new")
    try:
        with tarfile.open(bundle, "r:gz") as tar:
            for member in tar:
                if member.name == _PLAN:
                    _write(tar, member, temporary)
                elif member.name != _MANIFEST:
                    _restore_file(tar, member, config)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise PlanUnusable("The stored plan bundle is damaged; plan again.") from error
    for path in sorted(files_gone, reverse=True):
        target = config / path
        if target.is_dir() and not target.is_symlink():
            target.rmdir()
        else:
            target.unlink()
    if not temporary.exists():
        raise PlanUnusable("The stored plan bundle holds no plan; plan again.")
    os.replace(temporary, plan_file)


def read_manifest(bundle: Path) -> str:
    """Return the manifest's text from a bundle.

    Raises:
        PlanUnusable: the bundle is damaged.
    """
    try:
        with tarfile.open(bundle, "r:gz") as tar:
            member = tar.extractfile(_MANIFEST)
            assert member is not None
            return member.read().decode()
    except (tarfile.TarError, KeyError, EOFError, OSError, AssertionError) as error:
        raise PlanUnusable("The stored plan bundle is damaged; plan again.") from error


def _restore_file(tar: tarfile.TarFile, member: tarfile.TarInfo, config: Path) -> None:
    path = PurePosixPath(member.name)
    if path.parts[:1] != (_FILES,) or ".." in path.parts or path.is_absolute():
        raise PlanUnusable(f"The stored plan bundle holds a strange path: {member.name[:100]}.")
    target = config.joinpath(*path.parts[1:])
    folders = [config.joinpath(*path.parts[1:end]) for end in range(2, len(path.parts))]
    if any(folder.is_symlink() for folder in folders):
        raise PlanUnusable("The stored plan bundle writes through a link.")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_symlink() or target.exists():
        target.unlink()
    if member.issym():
        target.symlink_to(member.linkname)
    elif member.isfile():
        _write(tar, member, target)
        target.chmod(0o755 if member.mode & 0o100 else 0o644)
    else:
        raise PlanUnusable(f"The stored plan bundle holds a device: {member.name[:100]}.")


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = tar.extractfile(member)
    assert content is not None  # a regular file
    with target.open("wb") as output:
        while piece := content.read(1 << 20):
            output.write(piece)
