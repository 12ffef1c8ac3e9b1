"""`scripts/demo` and platforms of its kind: started as people do, and what they leave behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from config import embedded
from tests.support.programs import ROOT, processes_below

#: The whole of a story on a loaded machine, in seconds.
_SECONDS = 280


def start(directory: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the demo with its files in ``directory`` and its output in pipes."""
    command = [sys.executable, "-m", "config.demo", "--directory", str(directory), *arguments]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**surroundings(), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read_until(program: subprocess.Popen[str], words: str) -> None:
    """Read what the demo says until a line has the words."""
    assert program.stdout is not None
    said = []
    for line in program.stdout:
        said.append(line)
        if words in line:
            return
    raise AssertionError(f"it never said “{words}”: {said}")


def run(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    with start(directory, *arguments, **environment) as program:
        try:
            output, errors = program.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            program.terminate()
            output, errors = program.communicate(timeout=_SECONDS)
            raise AssertionError(f"it did not end:\n{output}\n{errors}") from None
    return subprocess.CompletedProcess(program.args, program.returncode, output, errors)


def surroundings() -> Mapping[str, str]:
    """Return the environment of a person: no database, no settings of the tests."""
    return {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def left(directory: Path) -> list[list[str]]:
    """Return the processes of a platform: those of its environment, and its PostgreSQL."""
    data = str(embedded.data_directory(directory / "postgres"))
    found = [process.cmdline() for process in processes_below(directory)]
    for process in psutil.process_iter(["cmdline", "pid"]):
        words = process.info["cmdline"] or []
        try:
            environment = process.environ()
        except psutil.Error:
            environment = {}
        own = environment.get("SLIPWAY_AGENT_DIRECTORY") or environment.get(
            "SLIPWAY_WORK_DIRECTORY", ""
        )
        if data in words or own.startswith(f"{directory}/"):
            found.append(words)
    return found


def forget(directory: Path) -> None:
    """Stop and delete a platform's database."""
    data = embedded.data_directory(directory / "postgres")
    embedded.stop(directory / "postgres")
    shutil.rmtree(data, ignore_errors=True)
