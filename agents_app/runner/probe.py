"""Does an engine wait at its gate? Found out by doing it, when the agent starts.

A plan of one output is applied twice: rejected it must apply nothing, released it must apply.
Measured with Terraform 1.11.4: a third of a second.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from agents_app.runner import process
from agents_app.runner.engines import LocalEngine
from agents_app.runner.hold import HeldApply, behind_gate, end_orphan

_CONFIGURATION = 'output "probe" {\n  value = 1\n}\n'
_PLAN, _STATE = "plan.out", "terraform.tfstate"
_SECONDS = 20.0


class _Differs(Exception):
    """The engine does something else; the words say what."""


def waits_at_gate(engine: LocalEngine, scratch: Path) -> str:
    """Try it in a folder of its own, which is removed afterwards.

    Returns:
        What the engine does instead, "" if it waits.
    """
    try:
        _end_former(scratch)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        (scratch / "main.tf").write_text(_CONFIGURATION)
        _plan(engine, scratch)
        _reject(engine, scratch)
        _release(engine, scratch)
    except (_Differs, OSError, subprocess.SubprocessError) as difference:
        return str(difference)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return ""


def _end_former(scratch: Path) -> None:
    """End what an agent left that was killed while it tried: it may wait at its gate for ever."""
    for file in scratch.glob("*/supervisor"):
        running = process.find(file.parent)
        if running is not None:
            end_orphan(running)


def _environment(scratch: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(scratch),
        "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1",
        "TF_INPUT": "0",
    }


def _plan(engine: LocalEngine, scratch: Path) -> None:
    subprocess.run(
        [*engine.command, "plan", "-input=false", f"-out={_PLAN}"],
        cwd=scratch,
        env=_environment(scratch),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_SECONDS,
    )


def _held(engine: LocalEngine, scratch: Path, name: str) -> HeldApply:
    folder = scratch / name
    folder.mkdir()
    lock = os.open(os.devnull, os.O_RDONLY)  # no directory to hold
    command = [*engine.command, "apply", "-input=false", "-auto-approve", "-json", _PLAN]
    try:
        held = behind_gate(
            folder,
            scratch,
            lambda: process.start(folder, command, _environment(scratch), scratch, lock=lock),
        )
    finally:
        os.close(lock)
    until = time.monotonic() + _SECONDS

    def in_time() -> None:
        if time.monotonic() > until:
            raise _Differs("it does not read its variable files in time")

    try:
        if not held.wait(in_time):
            raise _Differs(f"it does not wait: {held.why_ended()}")
    except BaseException:
        held.reject()
        raise
    return held


def _reject(engine: LocalEngine, scratch: Path) -> None:
    held = _held(engine, scratch, "rejected")
    held.reject()
    if held.running.exit_code() == 0 or (scratch / _STATE).exists():
        raise _Differs("it applies what was rejected")


def _release(engine: LocalEngine, scratch: Path) -> None:
    running = _held(engine, scratch, "released").release()
    until = time.monotonic() + _SECONDS

    def in_time() -> None:
        if time.monotonic() > until:
            running.kill()

    if running.wait(in_time) != 0 or not (scratch / _STATE).exists():
        raise _Differs("it does not apply what was released")
