"""A held apply: the traps that every engine is tested for, and what the runner makes of them."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from agents_app.runner import warmup
from agents_app.runner.apply import run_apply
from agents_app.runner.hold import HeldApply
from agents_app.runner.process import TerraformProcess, find
from agents_app.runner.run import Run
from agents_app.runner.warmup import warm_up
from agents_app.schema import ApplyPath, Outcome, PlanReference
from tests.engines.test_hold import (
    MakePlan,
    holder,
    planned,
    test_a_cancel_right_after_the_release_is_not_lost,
    test_a_denied_permit_rejects_it,
    test_a_killed_holder_applies_nothing,
    test_a_plan_swapped_while_it_is_held_is_not_applied,
    test_it_is_armed_before_it_starts_and_held_when_it_has_read_that,
    test_killed_while_it_is_held_another_one_applies,
    test_rejected_it_applies_nothing,
    test_released_it_applies_once,
    test_the_agent_finds_out_that_it_waits,
)
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.programs import wait_until
from tests.support.runner import Bench, Permit, append, backend, lines, plan

__all__ = [
    "holder",
    "planned",
    "test_a_cancel_right_after_the_release_is_not_lost",
    "test_a_denied_permit_rejects_it",
    "test_a_killed_holder_applies_nothing",
    "test_a_plan_swapped_while_it_is_held_is_not_applied",
    "test_it_is_armed_before_it_starts_and_held_when_it_has_read_that",
    "test_killed_while_it_is_held_another_one_applies",
    "test_rejected_it_applies_nothing",
    "test_released_it_applies_once",
    "test_the_agent_finds_out_that_it_waits",
]


def _hold(bench: Bench, confirmed: PlanReference) -> tuple[Run, HeldApply]:
    run = bench.run("apply", confirmed)
    warm = warm_up(run, may_hold=True)
    assert warm.held is not None and warm.held.held, (warm.reason, bench.log("apply"))
    return run, warm.held


def _nothing_applied(held: HeldApply, state: HttpState, counter: Path) -> None:
    assert not held.running.members(), "its whole process tree is gone"
    assert not (held.running.folder / "interrupted").exists(), "it was never signalled"
    assert "LOCK" not in state.calls and lines(counter) == 0


# --- the gate ----------------------------------------------------------------------------


def test_the_gate_lies_in_the_working_directory(
    make_bench: MakeBench, state_server: HttpState, counter: Path
) -> None:
    bench = make_bench(
        {"deep/root/main.tf": append(counter)},
        backend=backend(state_server.address),
        working_directory="deep/root",
    )
    run, held = _hold(bench, plan(bench))
    outcome = run_apply(run, Permit(), held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.HELD), outcome
    assert lines(counter) == 1


def test_a_gate_that_a_killed_agent_left_blocks_nothing(
    holder: Callable[[str], Bench], state_server: HttpState, counter: Path
) -> None:
    bench = holder("before spawning hold")
    confirmed = pickle.loads((bench.base / "description").read_bytes())[1]
    (gate,) = bench.directory.config.glob("*.auto.tfvars")
    assert gate.is_fifo() and not state_server.calls

    run, held = _hold(bench, confirmed)
    outcome = run_apply(run, Permit(), held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.HELD), outcome
    assert lines(counter) == 1


def test_a_file_that_looks_like_a_gate_is_a_change(planned: MakePlan, counter: Path) -> None:
    """Terraform would take its variables from it."""
    bench, confirmed = planned()
    (bench.directory.config / "slipway-gate-0123456789ab.auto.tfvars").write_text("x = 1\n")
    run, held = _hold(bench, confirmed)
    outcome = run_apply(run, Permit(), held)
    assert outcome.outcome == Outcome.APPLIED and lines(counter) == 1
    assert [one.name[:36] for one in (bench.base / "quarantine").iterdir()] == [
        str(bench.job.task_id)
    ]


def test_each_held_terraform_has_a_gate_of_its_own(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    """Neither the other one nor another program keeps the gate open when it is closed."""
    first, confirmed_first = planned()
    second, confirmed_second = planned()
    _, rejected = _hold(first, confirmed_first)
    run, held = _hold(second, confirmed_second)
    with subprocess.Popen(["/bin/sleep", "600"], close_fds=False) as other:
        rejected.reject()
        other.kill()
    assert rejected.running.exit_code() == 1, "it ended by itself, and was not killed"
    assert held.held
    _nothing_applied(rejected, state_server, counter)
    assert run_apply(run, Permit(), held).outcome == Outcome.APPLIED
    assert lines(counter) == 1


def test_without_its_supervisor_it_is_held_no_longer(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    os.kill(held.running.record.supervisor, signal.SIGKILL)
    wait_until(lambda: not held.held, "it counts as dead")
    assert held.running.members(), "Terraform itself lives on"
    outcome = run_apply(run, Permit(), held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert not held.running.members()
    assert lines(counter) == 1 and state_server.calls.count("LOCK") == 1


def test_a_terraform_that_never_comes_to_its_gate_costs_the_hold_alone(
    planned: MakePlan, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warmup, "GATE_SECONDS", 0.3)
    bench, confirmed = planned()
    engine = bench.engine
    bench.engine = replace(engine, command=["/bin/sh", "-c", "exec sleep 600", "terraform"])
    warm = warm_up(bench.run("apply", confirmed), may_hold=True)
    assert warm.held is None
    assert warm.reason == "Terraform did not come to wait: not within 0.3 s."

    bench.close()
    bench.engine = engine
    assert run_apply(bench.run("apply", confirmed), Permit()).outcome == Outcome.APPLIED
    assert lines(counter) == 1


def test_an_engine_that_does_not_wait_is_started_after_the_permit(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    bench.engine = replace(bench.engine, holds=False)
    run = bench.run("apply", confirmed)
    warm = warm_up(run, may_hold=True)
    assert warm.held is None and "does not wait at its gate" in warm.reason

    def nothing_runs() -> None:
        assert not list(bench.directory.run.glob("apply*/pid"))

    outcome = run_apply(run, Permit(before_grant=nothing_runs), why_not_held=warm.reason)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert lines(counter) == 1 and state_server.calls.count("LOCK") == 1


def test_where_nothing_is_held_the_providers_are_read_ahead(
    planned: MakePlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package in the mirror, to which the directory has a link."""
    bench, confirmed = planned()
    package = tmp_path / "mirror"
    package.mkdir()
    provider = package / "terraform-provider-x"
    provider.write_text("gigabytes")
    linked = bench.directory.config / ".terraform/providers/registry.io/a/x/1.0.0/linux_amd64"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(package)
    read: list[str] = []

    def advise(descriptor: int, *what: int) -> None:
        assert what == (0, 0, os.POSIX_FADV_WILLNEED)
        read.append(os.readlink(f"/proc/self/fd/{descriptor}"))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    warm = warm_up(bench.run("apply", confirmed), may_hold=False)
    assert (warm.held, warm.reason) == (None, "holding is switched off on this agent.")
    assert read == [str(provider)]
    assert "read ahead" in [step.name for step in bench.steps]


def test_rejected_before_it_came_to_its_gate_it_cannot_pass_it(
    planned: MakePlan,
    state_server: HttpState,
    counter: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A foreign backend would lock for it: on a busy machine it comes there before its kill."""
    bench, confirmed = planned()
    terraform = bench.engine.command
    slow = ["/bin/sh", "-c", 'sleep 0.5; exec "$0" "$@"', *terraform]
    bench.engine = replace(bench.engine, command=slow)
    kill = TerraformProcess.kill

    def late(self: TerraformProcess) -> None:
        monkeypatch.setattr(TerraformProcess, "kill", kill)
        until = time.monotonic() + 3
        while self.alive() and time.monotonic() < until:
            time.sleep(0.01)
        kill(self)

    monkeypatch.setattr(TerraformProcess, "kill", late)
    outcome = run_apply(bench.run("apply", confirmed), Permit(denial="The plan was discarded."))
    assert outcome.outcome == Outcome.NOT_STARTED, outcome
    assert not list(bench.directory.config.glob("*.auto.tfvars"))
    assert "LOCK" not in state_server.calls and lines(counter) == 0


# --- the permit --------------------------------------------------------------------------


@pytest.mark.parametrize("held_before", [True, False])
@pytest.mark.parametrize("why", ["denied", "expired", "cancelled"])
def test_without_a_valid_permit_a_started_terraform_applies_nothing(
    planned: MakePlan, state_server: HttpState, counter: Path, why: str, held_before: bool
) -> None:
    bench, confirmed = planned()
    if held_before:
        run, held = _hold(bench, confirmed)
    else:
        run, held = bench.run("apply", confirmed), None
    started: list[TerraformProcess] = []

    def look() -> None:
        (folder,) = bench.directory.run.glob("hold" if held_before else "apply")
        wait_until(lambda: find(folder), "it was started before the permit")
        running = find(folder)
        assert running is not None and running.alive()
        started.append(running)
        if why == "cancelled":
            run.control.interrupt()

    permit = Permit(before_grant=look, valid_seconds=0.0 if why == "expired" else 60.0)
    if why == "denied":
        permit = Permit(denial="The plan was discarded.")
    outcome = run_apply(run, permit, held)
    wanted = Outcome.CANCELLED if why == "cancelled" else Outcome.NOT_STARTED
    assert outcome.outcome == wanted, outcome
    assert len(permit.asked) == 1
    for running in started:
        assert not running.alive() and not running.members()
        assert not (running.folder / "interrupted").exists(), "it was never signalled"
    assert not list(bench.directory.config.glob("*.auto.tfvars"))
    assert "LOCK" not in state_server.calls and lines(counter) == 0


def test_a_permit_expires_while_the_machine_is_suspended(
    planned: MakePlan, state_server: HttpState, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend of its own would lock the state for an apply that wakes up hours later."""
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    awake, slept = time.clock_gettime, [0.0]
    monkeypatch.setattr(time, "clock_gettime", lambda clock: awake(clock) + slept[0])
    permit = Permit(before_grant=lambda: slept.append(slept.pop() + 3600.0))
    outcome = run_apply(run, permit, held)
    assert outcome.outcome == Outcome.NOT_STARTED, outcome
    assert "expired" in outcome.error
    _nothing_applied(held, state_server, counter)


def test_a_hold_that_dies_under_its_permit_is_replaced_under_the_same(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    permit = Permit(before_grant=lambda: _kill_and_wait(held))
    outcome = run_apply(run, permit, held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert "But it ended while it waited" in outcome.path_reason
    assert [one["path"] for one in permit.asked] == [ApplyPath.HELD]
    assert lines(counter) == 1 and state_server.calls.count("LOCK") == 1


def test_what_was_held_with_other_variables_or_credentials_is_not_released(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    run.job = run.job.model_copy(update={"environment_digest": "1" * 64})
    permit = Permit()
    outcome = run_apply(run, permit, held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert "variables or credentials that have changed" in outcome.path_reason
    assert [one["path"] for one in permit.asked] == [ApplyPath.KEPT]
    assert held.running.exit_code() == 1, "it was let go"
    assert lines(counter) == 1 and state_server.calls.count("LOCK") == 1


def test_a_held_apply_whose_directory_is_deleted_takes_the_normal_path_at_once(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    shutil.rmtree(bench.directory.path)
    permit = Permit()
    outcome = run_apply(run, permit, held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.NORMAL), outcome
    assert "not on this agent any more" in outcome.path_reason
    assert not held.running.members() and len(permit.asked) == 1
    assert lines(counter) == 1 and state_server.calls.count("LOCK") == 1


# --- the release -------------------------------------------------------------------------


def test_the_gate_stays_closed_if_the_disk_takes_no_note_of_its_opening(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    (held.running.folder / "released").symlink_to("/nonexistent/folder")
    outcome = run_apply(run, Permit(), held)
    assert outcome.outcome == Outcome.NOT_STARTED, outcome
    _nothing_applied(held, state_server, counter)


def _kill_and_wait(held: HeldApply) -> None:
    os.kill(int((held.running.folder / "pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not held.running.alive(), "its end")
