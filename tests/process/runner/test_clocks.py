"""The machine's clock is set while a run goes on: nothing of it is lost or mistaken."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agents_app.runner import apply
from agents_app.runner.apply import run_apply
from agents_app.runner.process import TerraformProcess
from agents_app.runner.rescue import ERRORED, rescue_state
from agents_app.runner.run import Run
from agents_app.schema import Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.runner import Permit, append, backend, plan


def test_a_state_that_is_older_than_its_apply_by_the_clock_is_rescued(
    make_bench: MakeBench,
    state_server: HttpState,
    counter: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a clock that went wrong by an hour was set back while Terraform ran."""
    bench = make_bench({"main.tf": append(counter)}, backend=backend(state_server.address))
    confirmed = plan(bench)
    state_server.replies["POST"] = 403

    def rescue(run: Run, running: TerraformProcess) -> Path | None:
        state = run.working_directory / ERRORED
        before = state.stat().st_mtime - 3600
        os.utime(state, (before, before))
        return rescue_state(run, running)

    monkeypatch.setattr(apply, "rescue_state", rescue)
    outcome = run_apply(bench.run("apply", confirmed), Permit())
    assert outcome.outcome == Outcome.FAILED, outcome
    assert outcome.recovered_state is not None
    (resource,) = json.loads(outcome.recovered_state.read_text())["resources"]
    assert resource["name"] == "one"
