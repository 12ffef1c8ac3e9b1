"""The manifest: everything besides plan.out that an apply reads, and its digest.

A changed script or template changes what an apply does, while the plan's hash stays the same
(`file()`, `templatefile()`, provisioners). Taken after planning, because planning itself
writes files that the apply reads. Left out are installed providers, which Terraform verifies
against the lock file, and `.terraform`'s notes on backend and workspace, which the plan and
the environment decide.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agents_app.runner.errors import ManifestMismatch, PlanHashMismatch

_READ_BYTES = 1 << 20
_LEFT_OUT = {"providers", "terraform.tfstate", "environment", "plugin_path"}
#: File systems stamp with a clock of up to 10 ms: a file that changed so shortly before it was
#: read could change again and keep its stamp.
_STAMP_NS = 100_000_000


@dataclass(frozen=True)
class Entry:
    """A file, folder or link. ``stamp`` tells cheaply whether it may have changed."""

    kind: str  # file, folder, link
    mode: int
    content: str  # SHA-256 of a file, target of a link
    stamp: tuple[int, int, int, int]  # inode, size, mtime, ctime in ns


@dataclass(frozen=True)
class Manifest:
    """Entries by relative path, with what else an apply depends on."""

    terraform_version: str
    working_directory: str
    entries: dict[str, Entry]
    taken_ns: int  # when the reading began, in ns since 1970

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the stamps, which differ between machines."""
        document = [
            "slipway manifest 1",
            self.terraform_version,
            self.working_directory,
            [[path, e.kind, e.mode, e.content] for path, e in sorted(self.entries.items())],
        ]
        text = json.dumps(document, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def take_manifest(
    config: Path, *, terraform_version: str, working_directory: str, known: Manifest | None = None
) -> Manifest:
    """Read a configuration folder.

    Args:
        known: an earlier manifest of the same folder; files whose inode, size, mtime and ctime
            are as they were then are not hashed again.
    """
    taken_ns = time.time_ns()
    before = _settled(known) if known else {}
    entries = {path: _entry(config / path, before.get(path)) for path in _paths(config, Path())}
    return Manifest(terraform_version, working_directory, entries, taken_ns)


def _settled(known: Manifest) -> dict[str, Entry]:
    """Return the entries whose stamps are old enough to tell."""
    limit = known.taken_ns - _STAMP_NS
    return {path: entry for path, entry in known.entries.items() if entry.stamp[3] < limit}


def paths(config: Path) -> set[str]:
    """Return the relative paths that a manifest of the folder would hold."""
    return set(_paths(config, Path()))


def _paths(config: Path, folder: Path) -> Iterator[str]:
    with os.scandir(config / folder) as found:
        names = sorted(entry.name for entry in found)
    for name in names:
        if folder.name == ".terraform" and name in _LEFT_OUT:
            continue
        path = folder / name
        yield str(path)
        if stat.S_ISDIR(os.lstat(config / path).st_mode):
            yield from _paths(config, path)


def _entry(path: Path, before: Entry | None) -> Entry:
    facts = os.lstat(path)
    stamp = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    if stat.S_ISLNK(facts.st_mode):
        return Entry("link", 0, os.readlink(path), stamp)
    executable = 0o755 if facts.st_mode & 0o100 else 0o644
    if stat.S_ISDIR(facts.st_mode):
        return Entry("folder", 0o755, "", stamp)
    if not stat.S_ISREG(facts.st_mode):
        raise ManifestMismatch(f"{path.name} is neither a file nor a folder nor a link.")
    if before is not None and before.kind == "file" and before.stamp == stamp:
        return Entry("file", executable, before.content, stamp)
    return Entry("file", executable, sha256_file(path), stamp)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def verify_plan_hash(plan_file: Path, expected: str) -> str:
    """Return the SHA-256 of ``plan_file`` if it is the expected one.

    Raises:
        PlanHashMismatch: the file is missing, or another plan.
    """
    try:
        actual = sha256_file(plan_file)
    except OSError:
        raise PlanHashMismatch("plan.out is missing.") from None
    if actual != expected:
        raise PlanHashMismatch("plan.out is not the plan that was reviewed.")
    return actual


def differences(old: Manifest, new: Manifest, limit: int = 3) -> str:
    """Return the first few paths that differ, as words for people."""
    changed = [
        path
        for path in sorted(old.entries.keys() | new.entries.keys())
        if _essence(old.entries.get(path)) != _essence(new.entries.get(path))
    ]
    more = f" and {len(changed) - limit} more" if len(changed) > limit else ""
    return ", ".join(changed[:limit]) + more


def _essence(entry: Entry | None) -> tuple[str, int, str] | None:
    return (entry.kind, entry.mode, entry.content) if entry else None


def to_json(manifest: Manifest) -> str:
    """Return the manifest as text, stamps included."""
    return json.dumps(
        {
            "terraform_version": manifest.terraform_version,
            "working_directory": manifest.working_directory,
            "taken_ns": manifest.taken_ns,
            "entries": {
                path: [e.kind, e.mode, e.content, *e.stamp] for path, e in manifest.entries.items()
            },
        }
    )


def from_json(text: str) -> Manifest:
    """Return what :func:`to_json` wrote.

    Raises:
        ManifestMismatch: the text is damaged.
    """
    try:
        document = json.loads(text)
        entries = {
            path: Entry(kind, mode, content, (inode, size, mtime, ctime))
            for path, (kind, mode, content, inode, size, mtime, ctime) in document[
                "entries"
            ].items()
        }
        return Manifest(
            document["terraform_version"],
            document["working_directory"],
            entries,
            int(document["taken_ns"]),
        )
    except (ValueError, KeyError, AttributeError, TypeError):
        raise ManifestMismatch("The stored manifest is damaged.") from None
