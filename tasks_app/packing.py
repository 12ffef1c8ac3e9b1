"""A folder as a configuration archive: the same folder always gives the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tasks_app.exceptions import InvalidInput

IGNORE_FILE = ".terraformignore"
#: Left out whatever the ignore file says; state and working files never belong to it.
_ALWAYS = [".git/", ".terraform/", "*.tfstate", "*.tfstate.*", "crash.log"]


class Ignore:
    """The rules of a ``.terraformignore``: as in ``.gitignore``, the last match decides."""

    def __init__(self, lines: list[str]) -> None:
        self._rules: list[tuple[bool, re.Pattern[str]]] = []
        for line in lines:
            text = line.strip()
            if text and not text.startswith("#"):
                keep = text.startswith("!")
                self._rules.append((keep, _pattern(text.removeprefix("!"))))

    def __call__(self, path: str, *, folder: bool) -> bool:
        """Whether the path, relative and with slashes, is left out."""
        subject = f"{path}/" if folder else path
        left_out = False
        for keep, pattern in self._rules:
            if pattern.fullmatch(subject):
                left_out = not keep
        return left_out


def _pattern(rule: str) -> re.Pattern[str]:
    anchored = "/" in rule.rstrip("/")
    folder_only = rule.endswith("/")
    body = ""
    for part in re.split(r"(\*\*/|\*\*|\*|\?)", rule.strip("/")):
        body += {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}.get(
            part, re.escape(part)
        )
    return re.compile(("" if anchored else "(?:.*/)?") + body + ("/" if folder_only else "/?"))


def pack(folder: Path) -> tuple[IO[bytes], list[str]]:
    """Pack a folder as tar.gz.

    Left out are ``.terraform/``, ``.git/``, state files and what ``.terraformignore`` names.
    Links to files inside the folder become these files.

    Returns:
        The archive at its start, to be closed by the caller, and the packed paths.

    Raises:
        InvalidInput: nothing to pack, or a link that leaves the folder.
    """
    archive: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by the caller
    names: list[str] = []
    root = folder.resolve()
    try:
        with (
            gzip.GzipFile(fileobj=archive, mode="wb", filename="", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in _files(folder):
                name = path.relative_to(folder).as_posix()
                names.append(name)
                _add(tar, name, path, root)
        if not names:
            raise InvalidInput(f"There is nothing to pack in {folder}.")
    except BaseException:
        archive.close()
        raise
    archive.seek(0)
    return archive, names


def _files(folder: Path) -> Iterator[Path]:
    rules = folder / IGNORE_FILE
    lines = rules.read_text(errors="replace").splitlines() if rules.is_file() else []
    ignored = Ignore([*lines, *_ALWAYS])
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(
            name
            for name in folders
            if not ignored((here / name).relative_to(folder).as_posix(), folder=True)
        )
        for name in folders:
            if (here / name).is_symlink():
                raise InvalidInput(f"{here / name} is a link to a folder; pack the folder itself.")
        for name in sorted(files):
            path = here / name
            if not ignored(path.relative_to(folder).as_posix(), folder=False):
                yield path


def _add(tar: tarfile.TarFile, name: str, path: Path, root: Path) -> None:
    if not path.resolve().is_relative_to(root):
        raise InvalidInput(f"{path} is a link that leaves the folder; copy what it points to.")
    if not path.is_file():
        raise InvalidInput(f"{path} is neither a file nor a link to one.")
    content = path.read_bytes()
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
    tar.addfile(member, io.BytesIO(content))
