"""Warm-ups that cannot succeed: each ends, says why, and leaves nothing behind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from agents_app.runner import ready
from agents_app.runner.apply import run_apply
from agents_app.runner.errors import PlanUnusable, StepFailed
from agents_app.runner.warmup import warm_up
from agents_app.schema import ApplyPath, Outcome
from tests.process.runner.conftest import MakeBench
from tests.support.programs import processes_below
from tests.support.runner import Permit, append, lines, plan


def test_an_init_that_hangs_fails_the_warm_up_for_now(
    make_bench: MakeBench, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ready, "INIT_SECONDS", 0.5)
    bench = make_bench({"main.tf": append(counter)})
    confirmed, engine = plan(bench), bench.engine
    shutil.rmtree(bench.directory.path)
    hangs = '[ "$1" != init ] || exec sleep 600; exec "$0" "$@"'
    bench.engine = replace(engine, command=("/bin/sh", "-c", hangs, *engine.command))
    with pytest.raises(StepFailed, match=r"^terraform init did not end within 0\.5 s\.$"):
        warm_up(bench.run("hold", confirmed), may_hold=True)
    assert not processes_below(bench.directory.path)
    assert not bench.directory.home.exists()

    bench.close()
    bench.engine = engine
    outcome = run_apply(bench.run("apply", confirmed), Permit())
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.NORMAL), outcome
    assert lines(counter) == 1


def test_an_engine_of_another_name_is_none_for_a_plan_of_the_same_version(
    make_bench: MakeBench, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed, version = plan(bench), bench.engine.version
    bench.engine = replace(bench.engine, engine="other")
    with pytest.raises(PlanUnusable, match=f" {version} and cannot be applied by other {version}"):
        warm_up(bench.run("hold", confirmed), may_hold=True)
    assert lines(counter) == 0
