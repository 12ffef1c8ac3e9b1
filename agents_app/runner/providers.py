"""Providers: one unpacked mirror per agent, read-only, filled by the first init that needs one.

Packages are published by rename, so that a reader never sees half of one, and nothing is ever
changed in place: Terraform's own plugin cache is not safe with parallel runs
(terraform-physics §10). Terraform links to an unpacked mirror instead of copying.

Lock files made on another platform hold ``zh:`` hashes and a foreign ``h1:``, which an
unpacked package does not satisfy. So the ``zh:`` hashes of each package are kept beside it, and
its ``h1:`` is added to a lock file that holds one of them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agents_app.runner.manifest import sha256_file
from agents_app.runner.workdir import tree_bytes

_HALF, _HALF_SECONDS = ".new-", 24 * 3600
_BLOCK = re.compile(r'provider\s+"(?P<address>[^"]+)"\s*\{(?P<body>.*?)\n\}', re.DOTALL)
_VERSION = re.compile(r'^\s*version\s*=\s*"([^"]+)"', re.MULTILINE)
_HASHES = re.compile(r"hashes\s*=\s*\[(.*?)\]", re.DOTALL)
_HASH = re.compile(r'"((?:h1|zh):[^"]+)"')


@dataclass(frozen=True)
class LockedProvider:
    """A provider as a dependency lock file names it."""

    address: str
    version: str
    hashes: frozenset[str]


def read_lock(text: str) -> list[LockedProvider]:
    """Return the providers of a `.terraform.lock.hcl`."""
    found = []
    for block in _BLOCK.finditer(text):
        version = _VERSION.search(block.group("body"))
        if version:
            hashes = _HASH.findall(block.group("body"))
            found.append(
                LockedProvider(block.group("address"), version.group(1), frozenset(hashes))
            )
    return found


class ProviderMirror:
    """The agent's mirror at ``path``.

    Args:
        upstream: a filesystem mirror to install from instead of the registries.
    """

    def __init__(self, path: Path, upstream: Path | None = None) -> None:
        self.path, self.upstream = path, upstream
        self._hashes = path.with_name(path.name + "-hashes")
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._hashes.mkdir(exist_ok=True, mode=0o700)
        for half in path.glob(f"{_HALF}*"):  # of a process that was killed long ago
            if time.time() - half.stat().st_mtime > _HALF_SECONDS:
                shutil.rmtree(half, ignore_errors=True)

    def packages(self) -> list[str]:
        """Return what the mirror holds, as "address version"."""
        return sorted(
            f"{'/'.join(folder.parts[-5:-2])} {folder.parts[-2]}"
            for folder in self.path.glob("*/*/*/*/*_*")
            if not folder.name.startswith(".")
        )

    def holds(self, locked: list[LockedProvider]) -> bool:
        """Return whether every locked provider is here."""
        have = set(self.packages())
        return all(f"{one.address} {one.version}" in have for one in locked)

    def link(self, locked: list[LockedProvider], folder: Path) -> bool:
        """Link the locked packages into ``.terraform/providers``, as init would.

        Returns:
            False, with nothing linked, if one is not here as the lock file has it.
        """
        links = []
        for one in locked:
            known = self._known_hashes(one)
            packages = list(self.path.joinpath(*one.address.split("/"), one.version).glob("*_*"))
            if known is None or known["h1"] not in one.hashes or len(packages) != 1:
                return False
            links.append(packages[0])
        for package in links:
            link = folder.joinpath(*package.parts[-5:])
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(package)
        return True

    def cli_config(self, *, own_only: bool) -> str:
        """Return Terraform's CLI configuration for an installation from here, or from upstream."""
        methods = [f'filesystem_mirror {{\n    path = "{self.path}"\n  }}']
        if not own_only:
            methods.append(
                f'filesystem_mirror {{\n    path = "{self.upstream}"\n  }}'
                if self.upstream
                else "direct {}"
            )
        body = "\n  ".join(methods)
        return f"disable_checkpoint = true\nprovider_installation {{\n  {body}\n}}\n"

    def complete_lock(self, lock_file: Path) -> None:
        """Add this platform's hashes to a lock file made elsewhere for the same packages."""
        if not lock_file.exists():
            return
        text = lock_file.read_text()
        for locked in read_lock(text):
            known = self._known_hashes(locked)
            if known and known["h1"] not in locked.hashes and set(known["zh"]) & locked.hashes:
                text = _with_hash(text, locked.address, known["h1"])
        if text != lock_file.read_text():
            lock_file.write_text(text)

    def _known_hashes(self, locked: LockedProvider) -> dict | None:
        path = self._hashes / f"{locked.address.replace('/', '~')}~{locked.version}.json"
        return json.loads(path.read_text()) if path.exists() else None

    def publish(self, terraform_folder: Path, lock_file: Path) -> list[str]:
        """Take over what an init installed into ``.terraform``, and link it there instead.

        Returns:
            What was new, as "address version".
        """
        locked = {
            (one.address, one.version): one
            for one in (read_lock(lock_file.read_text()) if lock_file.exists() else [])
        }
        published = []
        for package in _installed(terraform_folder / "providers"):
            address, version = "/".join(package.parts[-5:-2]), package.parts[-2]
            target = self.path.joinpath(*package.parts[-5:])
            if package.resolve() == target.resolve():
                continue
            if not target.exists() and self._take(package, target):
                self._keep_hashes(package, target, locked.get((address, version)))
                published.append(f"{address} {version}")
            if target.exists():
                _replace_by_link(package, target)
        return published

    def _take(self, package: Path, target: Path) -> bool:
        """Publish a package by rename; False if somebody else was faster."""
        temporary = self.path / f"{_HALF}{uuid.uuid4().hex}"
        # What a link leads to is somebody's mirror: a copy, so that its files stay their own.
        copy = shutil.copy2 if package.is_symlink() else _link_or_copy
        shutil.copytree(package.resolve(), temporary, copy_function=copy)
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(0o555)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.rename(target)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            return False
        return True

    def _keep_hashes(self, package: Path, target: Path, locked: LockedProvider | None) -> None:
        zipped = {one for one in (locked.hashes if locked else ()) if one.startswith("zh:")}
        address, version, platform = package.parts[-5:-2], package.parts[-2], package.parts[-1]
        name = f"terraform-provider-{address[2]}_{version}_{platform}.zip"
        archive = self.upstream.joinpath(*address, name) if self.upstream else None
        if archive and archive.exists():
            zipped.add(f"zh:{sha256_file(archive)}")
        path = self._hashes / f"{'~'.join(address)}~{version}.json"
        temporary = path.with_suffix(f".{uuid.uuid4().hex}")
        temporary.write_text(json.dumps({"h1": package_hash(target), "zh": sorted(zipped)}))
        temporary.rename(path)

    def bytes(self) -> int:
        """Return the size of the mirror."""
        return tree_bytes(self.path)


def package_hash(package: Path) -> str:
    """Return a package's ``h1:`` (golang.org/x/mod/sumdb/dirhash, Hash1)."""
    names = sorted(
        os.path.relpath(os.path.join(folder, name), package)
        for folder, _, files in os.walk(package)
        for name in files
    )
    lines = "".join(f"{sha256_file(package / name)}  {name}\n" for name in names)
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def _installed(providers: Path) -> Iterator[Path]:
    """Yield the package folders (or links to them) below `.terraform/providers`.

    OpenTofu leaves a file `<platform>.lock` beside each.
    """
    yield from sorted(path for path in providers.glob("*/*/*/*/*_*") if path.is_dir())


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def _replace_by_link(package: Path, target: Path) -> None:
    if package.is_symlink():
        package.unlink()
    else:
        shutil.rmtree(package)
    package.symlink_to(target)


def _with_hash(text: str, address: str, one: str) -> str:
    """Return the lock file's text with a hash more in a provider's block."""
    for block in _BLOCK.finditer(text):
        if block.group("address") == address:
            body = block.group(0)
            start = _HASHES.search(body)
            if start:
                at = block.start() + start.start(1)
                return text[:at] + f'\n    "{one}",' + text[at:]
    return text
