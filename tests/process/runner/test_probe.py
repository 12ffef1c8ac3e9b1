"""Finding out whether an engine waits at its gate, with engines that behave badly."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents_app.runner import probe
from agents_app.runner.engines import LocalEngine

_HANGS = """
if [ "$1" = plan ]; then touch plan.out; exit; fi
case "$(cat slipway-gate-*.auto.tfvars)" in
  *"*/"*) exec sleep 600 ;;
esac
exit 1
"""


def test_an_engine_that_hangs_once_it_is_released_does_not_keep_the_agent_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_SECONDS", 2.0)
    script = tmp_path / "engine"
    script.write_text(_HANGS)
    engine = LocalEngine("terraform", "0", ("/bin/sh", str(script)))
    difference = probe.waits_at_gate(engine, tmp_path / "scratch")
    assert difference == "it does not apply what was released"
