"""Finding out whether an engine waits at its gate, with engines that behave badly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agents_app.runner import probe, process
from agents_app.runner.engines import LocalEngine
from tests.support.programs import processes_below, wait_until

#: What an engine does with the file that may be its gate, after its plan.
_ENGINES = {
    "it does not wait: it ended with exit code 0": "touch terraform.tfstate",
    "it does not read its variable files in time": "exec sleep 600",
    "it applies what was rejected": "read_gate; touch terraform.tfstate",
    "it does not apply what was released": """
case "$(read_gate)" in
  *"*/"*) exec sleep 600 ;;
esac
exit 1
""",
}
_BEGIN = """
if [ "$1" = plan ]; then touch plan.out; exit; fi
read_gate() { cat slipway-gate-*.auto.tfvars; }
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


@pytest.mark.parametrize("difference", _ENGINES)
def test_an_engine_that_behaves_otherwise_is_found_out_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, difference: str
) -> None:
    """It does not keep the agent from starting either."""
    monkeypatch.setattr(probe, "_SECONDS", 2.0)
    script = tmp_path / "engine"
    script.write_text(_BEGIN + _ENGINES[difference])
    engine = LocalEngine("terraform", "0", ("/bin/sh", str(script)))
    assert probe.waits_at_gate(engine, tmp_path / "scratch") == difference
    assert not processes_below(tmp_path)
