"""The agent is killed at every point: never two applies, and the true result afterwards."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agents_app.runner import process
from agents_app.runner.adopt import resume
from agents_app.runner.apply import ApplyOutcome, run_apply
from agents_app.runner.plan import PlanOutcome
from agents_app.runner.process import TerraformProcess
from agents_app.schema import ApplyPath, Outcome, PlanReference
from tests.process.runner.conftest import MakeBench
from tests.support.programs import wait_until
from tests.support.runner import Bench, Permit, append, lines, plan, reference

_SECONDS = 60


def _child(bench: Bench, phase: str, point: str, confirmed: PlanReference | None) -> None:
    """Run a phase in an agent process that is killed at the point."""
    bench.close()
    bench.runs.clear()
    description = bench.base / "description"
    description.parent.mkdir(exist_ok=True)
    description.write_bytes(pickle.dumps((bench, confirmed)))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.process.runner.agent_child", description, phase, point],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    assert ended.returncode == -signal.SIGKILL, (point, ended)


def _resume(
    bench: Bench, phase: str, confirmed: PlanReference | None, *, asked: bool = True
) -> object:
    bench.close()
    run = bench.run(phase, confirmed, acquire=False)
    outcome = resume(run, bench.events(phase), asked=asked)
    assert run.directory.locked
    assert not run.directory.home.exists()
    return outcome


def _apply_outcome(bench: Bench, confirmed: PlanReference, *, asked: bool = True) -> ApplyOutcome:
    outcome = _resume(bench, "apply", confirmed, asked=asked)
    assert isinstance(outcome, ApplyOutcome)
    return outcome


_BEFORE = ["step verify", "step spawn", "permit asked", "permit granted", "step permit"]
_BETWEEN = ["before spawning apply", "after spawning apply"]
_STARTED = ["step gate", "step first_action"]


@pytest.mark.parametrize("point", [*_BEFORE, *_BETWEEN])
def test_killed_before_the_start_nothing_was_applied(
    make_bench: MakeBench, counter: Path, point: str
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    _child(bench, "apply", point, confirmed)
    outcome = _apply_outcome(bench, confirmed)
    assert outcome.outcome == Outcome.NOT_STARTED, outcome
    assert lines(counter) == 0


@pytest.mark.parametrize("point", _STARTED)
def test_killed_after_the_start_the_true_result_is_told(
    make_bench: MakeBench, counter: Path, point: str
) -> None:
    bench = make_bench({"main.tf": append(counter, "sleep 0.5")})
    confirmed = plan(bench)
    _child(bench, "apply", point, confirmed)
    outcome = _apply_outcome(bench, confirmed)
    assert (outcome.outcome, outcome.exit_code) == (Outcome.APPLIED, 0), outcome
    assert lines(counter) == 1
    # Told again, it is the same, and nothing runs again.
    assert _apply_outcome(bench, confirmed).outcome == Outcome.APPLIED
    assert lines(counter) == 1


@pytest.mark.parametrize("point", ["step restore", "before spawning init", "after spawning init"])
def test_killed_on_the_normal_path(make_bench: MakeBench, counter: Path, point: str) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    bench.directory.quarantine()
    _child(bench, "apply", point, confirmed)
    outcome = _apply_outcome(bench, confirmed)
    assert outcome.outcome == Outcome.NOT_STARTED and lines(counter) == 0
    bench.close()
    # The next attempt, of another lease, applies it once.
    bench.journal("apply").path.unlink(missing_ok=True)
    again = run_apply(bench.run("apply", confirmed), Permit())
    assert (again.outcome, again.path) == (Outcome.APPLIED, ApplyPath.NORMAL), again
    assert lines(counter) == 1


def test_a_failure_is_told_after_a_restart(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter, "sleep 0.5 && false")})
    confirmed = plan(bench)
    _child(bench, "apply", "step gate", confirmed)
    outcome = _apply_outcome(bench, confirmed)
    assert outcome.outcome == Outcome.FAILED
    assert outcome.error.startswith("local-exec provisioner error")


def test_the_log_is_the_same_byte_for_byte(make_bench: MakeBench, counter: Path) -> None:
    bench = make_bench({"main.tf": append(counter, "echo one && sleep 0.5 && echo two")})
    confirmed = plan(bench)
    _child(bench, "apply", "step first_action", confirmed)
    log = bench.base / "logs" / "apply.log"
    begun = log.read_bytes()
    _apply_outcome(bench, confirmed)
    whole = log.read_bytes()
    assert begun and whole.startswith(begun) and len(whole) > len(begun)
    assert "Starting from the kept work directory" in bench.log("apply")
    _apply_outcome(bench, confirmed)
    assert log.read_bytes() == whole


def _all_killed(running: TerraformProcess) -> bool:
    """Kill what lives, also what was forked meanwhile; returns whether nothing did."""
    living = running.members() + ([running.record.supervisor] if running.alive() else [])
    for pid in living:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not living


def test_killed_with_everything_else_the_result_is_unknown(
    make_bench: MakeBench, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.5)
    bench = make_bench({"main.tf": append(counter, "sleep 600")})
    confirmed = plan(bench)
    _child(bench, "apply", "step first_action", confirmed)
    running = process.find(bench.directory.run / "apply")
    assert running is not None
    wait_until(lambda: _all_killed(running), "nothing of it lives")
    outcome = _apply_outcome(bench, confirmed)
    assert outcome.outcome == Outcome.INTERRUPTED, outcome
    assert lines(counter) == 0


def test_after_a_reboot_without_a_trace_nobody_claims_that_nothing_ran(
    make_bench: MakeBench, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    _child(bench, "apply", "after spawning apply", confirmed)
    monkeypatch.setattr(process, "machine_life", lambda: "another boot")
    assert _apply_outcome(bench, confirmed).outcome == Outcome.INTERRUPTED


def test_after_a_reboot_nothing_was_applied_if_no_permit_was_asked_for(
    make_bench: MakeBench, counter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    _child(bench, "apply", "after spawning apply", confirmed)
    monkeypatch.setattr(process, "machine_life", lambda: "another boot")
    outcome = _apply_outcome(bench, confirmed, asked=False)
    assert outcome.outcome == Outcome.NOT_STARTED, outcome
    assert "before it asked for the permit: nothing was applied" in outcome.error
    assert lines(counter) == 0


def test_a_cancel_before_the_restart_is_told_as_one(make_bench: MakeBench, tmp_path: Path) -> None:
    """The new process was never asked to cancel; the former one sent the signal."""
    started = tmp_path / "started"
    bench = make_bench({"main.tf": append(tmp_path / "counter", f"touch {started}; sleep 600")})
    confirmed = plan(bench)
    _child(bench, "apply", "step first_action", confirmed)
    while not started.exists():
        time.sleep(0.01)
    former = process.find(bench.directory.run / "apply")
    assert former is not None
    former.interrupt()
    outcome = _apply_outcome(bench, confirmed)
    assert outcome.outcome == Outcome.CANCELLED, outcome


def test_a_cancel_is_not_sent_twice_over_a_restart(
    make_bench: MakeBench, tmp_path: Path, counter: Path
) -> None:
    bench = make_bench({"main.tf": append(counter, "sleep 1")})
    confirmed = plan(bench)
    _child(bench, "apply", "step first_action", confirmed)
    (bench.directory.run / "apply" / "interrupted").touch()  # the former process sent it
    run = bench.run("apply", confirmed, acquire=False)
    run.control.interrupt()
    outcome = resume(run, bench.events("apply"))
    assert outcome.outcome == Outcome.APPLIED and lines(counter) == 1


@pytest.mark.parametrize(
    "point", ["step unpack", "before spawning init", "after spawning init", "step init"]
)
def test_a_plan_killed_early_is_made_again_by_the_server(
    make_bench: MakeBench, counter: Path, point: str
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    _child(bench, "plan", point, None)
    outcome = _resume(bench, "plan", None)
    assert isinstance(outcome, PlanOutcome) and outcome.outcome == Outcome.INTERRUPTED
    bench.close()
    assert plan(bench)  # a new attempt in the same directory


@pytest.mark.parametrize("point", ["step plan", "before spawning show -json", "step show"])
def test_a_plan_that_was_made_is_finished_and_can_be_applied(
    make_bench: MakeBench, counter: Path, point: str
) -> None:
    bench = make_bench({"main.tf": append(counter)})
    _child(bench, "plan", point, None)
    made = (bench.directory.plan_file).read_bytes()
    outcome = _resume(bench, "plan", None)
    assert isinstance(outcome, PlanOutcome) and outcome.outcome == Outcome.PLANNED, outcome
    assert bench.directory.plan_file.read_bytes() == made
    bench.close()
    applied = run_apply(bench.run("apply", reference(outcome)), Permit())
    assert (applied.outcome, applied.path) == (Outcome.APPLIED, ApplyPath.KEPT)
    assert lines(counter) == 1


def test_an_orphan_is_waited_for(make_bench: MakeBench, tmp_path: Path, counter: Path) -> None:
    """Between the record and the supervisor's file, only the lock tells of a process."""
    bench = make_bench({"main.tf": append(counter)})
    confirmed = plan(bench)
    _child(bench, "apply", "after spawning apply", confirmed)
    directory = bench.directory
    directory.acquire()
    gate = tmp_path / "gate"
    orphan = subprocess.Popen(
        ["/bin/sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done"],
        pass_fds=[directory.lock_descriptor],
    )
    directory.release()
    run = bench.run("apply", confirmed, acquire=False)
    begun = time.monotonic()
    opener = subprocess.Popen(["/bin/sh", "-c", f"sleep 0.3; touch {gate}"])
    outcome = resume(run, bench.events("apply"))
    assert time.monotonic() - begun >= 0.25
    assert outcome.outcome == Outcome.NOT_STARTED
    opener.wait()
    orphan.wait()


def test_an_agent_without_standard_streams(make_bench: MakeBench, counter: Path) -> None:
    """Its lock gets none of their numbers, and Terraform's output has its own files."""
    bench = make_bench({"main.tf": append(counter, "echo to stdout; echo to stderr >&2")})
    confirmed = plan(bench)
    bench.close()
    bench.runs.clear()
    description = bench.base / "description"
    description.write_bytes(pickle.dumps((bench, confirmed)))
    child = [sys.executable, "-m", "tests.process.runner.agent_child", str(description)]
    subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *child, "apply", "closed"],
        check=True,
        timeout=_SECONDS,
    )
    assert (bench.base / "outcome").read_text() == "applied"
    assert lines(counter) == 1 and "to stderr" in bench.log("apply")
