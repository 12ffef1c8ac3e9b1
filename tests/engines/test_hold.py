"""An apply that is held before anybody confirms: each trap of terraform-physics §12, per engine."""

from __future__ import annotations

import array
import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agents_app.runner import hold, process
from agents_app.runner.apply import run_apply
from agents_app.runner.engines import LocalEngine
from agents_app.runner.hold import HeldApply
from agents_app.runner.probe import waits_at_gate
from agents_app.runner.process import TerraformProcess
from agents_app.runner.run import Run
from agents_app.runner.warmup import warm_up
from agents_app.schema import ApplyPath, Outcome, PlanReference
from tests.process.runner.conftest import MakeBench
from tests.support.http_state import HttpState
from tests.support.programs import wait_until
from tests.support.runner import Bench, Permit, append, backend, lines, plan

MakePlan = Callable[..., tuple[Bench, PlanReference]]


@pytest.fixture
def planned(make_bench: MakeBench, state_server: HttpState, counter: Path) -> MakePlan:
    """Return a function that plans a resource which leaves a line in the counter."""

    def make(before: str = "true") -> tuple[Bench, PlanReference]:
        bench = make_bench(
            {"main.tf": append(counter, before)}, backend=backend(state_server.address)
        )
        confirmed = plan(bench)
        state_server.calls.clear()
        return bench, confirmed

    return make


def _hold(bench: Bench, confirmed: PlanReference) -> tuple[Run, HeldApply]:
    run = bench.run("apply", confirmed)
    warm = warm_up(run, may_hold=True)
    assert warm.held is not None and warm.held.held, (warm.reason, bench.log("apply"))
    return run, warm.held


def _pid(held: HeldApply) -> int:
    return int((held.running.folder / "pid").read_text())


def _unread(descriptor: int) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, count)
    return count[0]


def test_it_is_armed_before_it_starts_and_held_when_it_has_read_that(
    planned: MakePlan, state_server: HttpState
) -> None:
    bench, confirmed = planned()
    readers: list[int] = []

    def look(point: str) -> None:
        if point == "before spawning hold":
            (gate,) = bench.directory.config.glob("*.auto.tfvars")
            assert gate.is_fifo()
            readers.append(os.open(gate, os.O_RDONLY | os.O_NONBLOCK))
            assert _unread(readers[0]) == 2

    run = bench.run("apply", confirmed, hook=look)
    warm = warm_up(run, may_hold=True)
    assert warm.held is not None and warm.held.held, warm.reason
    assert _unread(readers[0]) == 0
    os.close(readers[0])
    assert not list(bench.directory.config.glob("*.auto.tfvars")), "it blocks no other command"
    assert not state_server.calls, "neither state nor lock were touched"
    warm.held.reject()


def test_released_it_applies_once(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    permit = Permit()
    outcome = run_apply(run, permit, held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.HELD), outcome
    assert [one["path"] for one in permit.asked] == [ApplyPath.HELD]
    assert lines(counter) == 1 and state_server.state
    assert state_server.calls.count("LOCK") == state_server.calls.count("UNLOCK") == 1


@pytest.mark.parametrize("signalled", [False, True])
def test_rejected_it_applies_nothing(
    planned: MakePlan, state_server: HttpState, counter: Path, signalled: bool
) -> None:
    """A signal from outside changes nothing about that."""
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    if signalled:
        os.kill(_pid(held), signal.SIGINT)
    held.reject()
    assert not held.running.alive() and held.running.exit_code() not in {0, None}
    assert not state_server.calls and lines(counter) == 0

    outcome = run_apply(run, Permit())
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert lines(counter) == 1


def test_a_denied_permit_rejects_it(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    outcome = run_apply(run, Permit(denial="The plan was discarded."), held)
    assert (outcome.outcome, outcome.error) == (Outcome.NOT_STARTED, "The plan was discarded.")
    assert not held.running.alive() and not state_server.calls and lines(counter) == 0


def test_a_plan_swapped_while_it_is_held_is_not_applied(
    planned: MakePlan, tmp_path: Path, counter: Path
) -> None:
    """OpenTofu has not read its plan yet when it waits."""
    bench, confirmed = planned()
    other, _ = planned("echo other")
    run, held = _hold(bench, confirmed)
    swapped = bench.directory.path / "other.out"
    swapped.write_bytes(other.directory.plan_file.read_bytes())
    swapped.rename(bench.directory.plan_file)
    permit = Permit()
    outcome = run_apply(run, permit, held)

    assert not held.running.alive()
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.NORMAL), outcome
    assert "Not from the held" in outcome.path_reason and "was changed" in outcome.path_reason
    assert [one["path"] for one in permit.asked] == [ApplyPath.NORMAL]
    assert lines(counter) == 1 and "other" not in bench.log("apply")


def test_killed_while_it_is_held_another_one_applies(
    planned: MakePlan, state_server: HttpState, counter: Path
) -> None:
    bench, confirmed = planned()
    run, held = _hold(bench, confirmed)
    os.kill(_pid(held), signal.SIGKILL)
    wait_until(lambda: not held.running.alive(), "its end")
    assert not state_server.calls
    outcome = run_apply(run, Permit(), held)
    assert (outcome.outcome, outcome.path) == (Outcome.APPLIED, ApplyPath.KEPT), outcome
    assert "ended while it waited" in outcome.path_reason
    assert lines(counter) == 1


def test_a_cancel_after_the_release_saves_the_state(
    planned: MakePlan, state_server: HttpState, tmp_path: Path, counter: Path
) -> None:
    started = tmp_path / "started"
    bench, confirmed = planned(f"touch {started} && sleep 600")
    run, held = _hold(bench, confirmed)

    def cancel() -> None:
        wait_until(started.exists, "the resource")
        run.control.interrupt()

    thread = threading.Thread(target=cancel)
    thread.start()
    outcome = run_apply(run, Permit(), held)
    thread.join()
    assert outcome.outcome == Outcome.CANCELLED, outcome
    assert lines(counter) == 0, "the provisioner was ended"
    (resource,) = json.loads(state_server.state)["resources"]
    assert [one["status"] for one in resource["instances"]] == ["tainted"]
    assert state_server.calls.count("LOCK") == state_server.calls.count("UNLOCK") == 1


@pytest.mark.parametrize("waits", ["for its lock", "for its resource"])
def test_a_cancel_right_after_the_release_is_not_lost(
    planned: MakePlan,
    state_server: HttpState,
    counter: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits: str,
) -> None:
    """Terraform stands still for a moment: it cannot have gone on when the cancel comes.

    OpenTofu reads its configuration and plan only then: it must have said something before it
    can hear a signal.
    """
    monkeypatch.setattr(process, "LEFTOVER_SECONDS", 0.5)
    bench, confirmed = planned("sleep 60")
    bench.job = bench.job.model_copy(update={"lock_timeout_seconds": 600})
    if waits == "for its lock":
        state_server.replies["LOCK"] = 423
    run, held = _hold(bench, confirmed)
    released = HeldApply.release

    def release(self: HeldApply) -> TerraformProcess:
        terraform = int((self.running.folder / "pid").read_text())
        os.kill(terraform, signal.SIGSTOP)
        running = released(self)
        run.control.interrupt()
        threading.Timer(0.2, os.kill, (terraform, signal.SIGCONT)).start()
        return running

    monkeypatch.setattr(HeldApply, "release", release)
    outcome = run_apply(run, Permit(), held)
    assert outcome.outcome in {Outcome.CANCELLED, Outcome.FAILED}, outcome
    assert (held.running.folder / "interrupted").exists()
    assert lines(counter) == 0
    assert state_server.calls.count("UNLOCK") == (waits == "for its resource")


@pytest.fixture
def holder(planned: MakePlan) -> Iterator[Callable[[str], Bench]]:
    """Return a function that lets an agent process hold an apply and kills it at a point."""
    started: list[subprocess.Popen[str]] = []

    def run_until(point: str) -> Bench:
        bench, confirmed = planned()
        bench.close()
        bench.runs.clear()
        description = bench.base / "description"
        description.write_bytes(pickle.dumps((bench, confirmed)))
        command = [sys.executable, "-m", "tests.engines.holder", str(description), point]
        agent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(agent)
        assert agent.stdout is not None
        if point == "held":
            assert agent.stdout.readline() == "held\n"
            agent.kill()
        agent.stdout.close()
        assert agent.wait(60) == -signal.SIGKILL
        return bench

    yield run_until
    for agent in started:
        agent.kill()
        agent.wait()


@pytest.mark.parametrize("point", ["after spawning hold", "step spawn", "held"])
def test_a_killed_holder_applies_nothing(
    holder: Callable[[str], Bench], state_server: HttpState, counter: Path, point: str
) -> None:
    bench = holder(point)
    running = _left(bench)
    if point == "held":
        assert running is not None
        wait_until(lambda: not running.alive(), "it ends by itself")
        assert running.exit_code() == 1
    elif running is not None:  # it may wait for ever at a gate that nobody opens any more
        hold.end_orphan(running)
        assert not running.alive()
    assert not state_server.calls and lines(counter) == 0


def _left(bench: Bench) -> TerraformProcess | None:
    (folder,) = bench.directory.run.glob("hold*")
    return process.find(folder)


def test_the_agent_finds_out_that_it_waits(engine: LocalEngine, tmp_path: Path) -> None:
    assert waits_at_gate(engine, tmp_path / "probe") == ""
    assert not (tmp_path / "probe").exists()
