"""Builds the test providers and lays them out as mirrors, into a cache outside the checkout.

    python -m tests.tools.build [unpacked | zipped | large]   prints the mirror's path

The cache is ``SLIPWAY_TOOLS_CACHE``, by default ``~/.cache/slipway-tools``; its entries are keyed
by what they are made of, so that nothing is built twice and nothing old is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parent / "provider"
FAULT = ("registry.terraform.io/slipway/fault", "1.0.0")
FAULT_LARGE = ("registry.terraform.io/slipway/fault-large", "1.0.0")
TIME = ("registry.terraform.io/hashicorp/time", "0.14.2")
TIME_MODULE = "github.com/hashicorp/terraform-provider-time"

LARGE_BYTES = 500 * 1000**2
_BUILD_SECONDS = 1200
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class BuildFailed(Exception):
    """A tool could not be built or installed; the message is the end of what was said."""


def unpacked_mirror() -> Path:
    """Return a mirror of slipway/fault and hashicorp/time, each unpacked."""
    return entry("unpacked", _key(), _lay_out_unpacked)


def zipped_mirror() -> Path:
    """Return the same packages as zip archives."""
    return entry("zipped", _key(), _lay_out_zipped)


def large_mirror() -> Path:
    """Return an unpacked mirror of slipway/fault-large, a package of 500 MB."""
    return entry("large", _key(), _lay_out_large)


def large_zipped_mirror() -> Path:
    """Return slipway/fault-large as a zip archive."""
    return entry("large-zipped", _key(), _lay_out_large_zipped)


def target() -> str:
    """Return this machine's platform as Terraform writes it."""
    return f"{sys.platform}_{_ARCHITECTURES[platform.machine()]}"


def cache() -> Path:
    """Return the cache's folder."""
    default = Path.home() / ".cache" / "slipway-tools"
    return Path(os.environ.get("SLIPWAY_TOOLS_CACHE", default))


# --- entries of the cache ----------------------------------------------------------------------


def entry(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the entry, made under a lock if it is not there; it appears by a rename.

    Args:
        key: differs whenever the entry would be another.
        make: fills an empty folder.
    """
    path = cache() / f"{name}-{key}"
    if path.exists():
        return path
    with _locked():
        if path.exists():
            return path
        half = Path(tempfile.mkdtemp(dir=cache(), prefix=f".{name}-"))
        try:
            make(half)
            half.chmod(0o755)
            half.rename(path)
        finally:
            shutil.rmtree(half, ignore_errors=True)
    return path


def _key() -> str:
    """Digest of all that an entry is made of."""
    digest = hashlib.sha256(json.dumps([FAULT, FAULT_LARGE, TIME, target()]).encode())
    for file in [Path(__file__), *sorted(SOURCE.iterdir())]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


_depth = 0


@contextmanager
def _locked() -> Iterator[None]:
    """Let one process build at a time; an entry may need another one."""
    global _depth
    cache().mkdir(parents=True, exist_ok=True)
    if _depth:
        yield
        return
    with (cache() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


# --- what is in them -----------------------------------------------------------------------------


def _lay_out_unpacked(mirror: Path) -> None:
    binaries = entry("binaries", _key(), _build_binaries)
    for package in (FAULT, TIME):
        directory = mirror / package[0] / package[1] / target()
        directory.mkdir(parents=True)
        shutil.copy2(binaries / _binary(package), directory)


def _lay_out_zipped(mirror: Path) -> None:
    for package in (FAULT, TIME):
        _zip(unpacked_mirror(), mirror, package)


def _lay_out_large(mirror: Path) -> None:
    binaries = entry("binaries", _key(), _build_binaries)
    directory = mirror / FAULT_LARGE[0] / FAULT_LARGE[1] / target()
    directory.mkdir(parents=True)
    binary = directory / _binary(FAULT_LARGE)
    shutil.copy2(binaries / binary.name, binary)
    _write_pad(directory / "pad.bin", LARGE_BYTES - binary.stat().st_size, binary.read_bytes())


def _lay_out_large_zipped(mirror: Path) -> None:
    _zip(large_mirror(), mirror, FAULT_LARGE)


def _zip(unpacked: Path, mirror: Path, package: tuple[str, str]) -> None:
    address, version = package
    (mirror / address).mkdir(parents=True)
    kind = address.rpartition("/")[2]
    archive = mirror / address / f"terraform-provider-{kind}_{version}_{target()}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for file in sorted((unpacked / address / version / target()).iterdir()):
            packed.write(file, file.name)


def _write_pad(path: Path, size: int, code: bytes) -> None:
    """Fill a file with a provider's machine code, which a zip archive shrinks as it does real ones.

    Measured: to 39 %. Bytes that do not shrink would be unpacked by copying them, which makes an
    init from a zipped mirror three times as fast as it is. The copies lie further apart than a
    zip archive looks back.
    """
    with path.open("wb") as file:
        for number in range(size // len(code) + 1):
            # Each copy differs, or a file system could fold them.
            file.write(number.to_bytes(32) + code[32:])
        file.truncate(size)


def _binary(package: tuple[str, str]) -> str:
    return f"terraform-provider-{package[0].rpartition('/')[2]}_v{package[1]}"


def _build_binaries(directory: Path) -> None:
    for package in (FAULT, FAULT_LARGE):
        flags = f"-s -w -X main.address={package[0]}"
        go(
            "build",
            "-trimpath",
            "-ldflags",
            flags,
            "-o",
            str(directory / _binary(package)),
            ".",
            cwd=SOURCE,
        )
    with tempfile.TemporaryDirectory() as name:
        module = Path(name)
        go("mod", "init", "slipway.example/time", cwd=module)
        go("get", f"{TIME_MODULE}@v{TIME[1]}", cwd=module)
        go(
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            str(directory / _binary(TIME)),
            TIME_MODULE,
            cwd=module,
        )


def go(*arguments: str, cwd: Path) -> None:
    """Run the go command in a folder.

    Raises:
        BuildFailed: with the end of what it said.
    """
    environment = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}
    result = subprocess.run(
        ["go", *arguments],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_BUILD_SECONDS,
    )
    if result.returncode:
        raise BuildFailed(f"go {arguments[0]}: {result.stdout[-1500:]}")


if __name__ == "__main__":
    makers = {
        "unpacked": unpacked_mirror,
        "zipped": zipped_mirror,
        "large": large_mirror,
        "large-zipped": large_zipped_mirror,
    }
    print(makers[(sys.argv[1:] or ["unpacked"])[0]]())
