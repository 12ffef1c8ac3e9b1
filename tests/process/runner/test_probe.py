"""Finding out whether an engine waits at its gate, with engines that behave badly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents_app.runner import probe, process
from agents_app.runner.engines import LocalEngine
from tests.support.programs import wait_until

_HANGS = """
if [ "$1" = plan ]; then touch plan.out; exit; fi
case "$(cat slipway-gate-*.auto.tfvars)" in
  *"*/"*) exec sleep 600 ;;
esac
exit 1
"""


def test_what_a_killed_agent_left_at_its_gate_is_ended(tmp_path: Path) -> None:
    """It died before its Terraform had opened the gate, which nobody opens any more."""
    scratch = tmp_path / "scratch"
    folder = scratch / "released"
    folder.mkdir(parents=True)
    gate = scratch / "gate"
    os.mkfifo(gate)
    lock = os.open(os.devnull, os.O_RDONLY)
    command = ["/bin/sh", "-c", f"echo begun; cat {gate}"]
    orphan = process.start(folder, command, {"PATH": os.environ["PATH"]}, scratch, lock=lock)
    os.close(lock)
    try:
        wait_until(lambda: orphan.stdout.read_text() == "begun\n", "it waits")
        broken = LocalEngine("terraform", "0", ("/bin/false",))
        assert probe.waits_at_gate(broken, scratch)
        assert not orphan.members() and not orphan.alive()
    finally:
        orphan.kill()


def test_an_engine_that_hangs_once_it_is_released_does_not_keep_the_agent_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 2.0)
    script = tmp_path / "engine"
    script.write_text(_HANGS)
    engine = LocalEngine("terraform", "0", ("/bin/sh", str(script)))
    difference = probe.waits_at_gate(engine, tmp_path / "scratch")
    assert difference == "it does not apply what was released"
