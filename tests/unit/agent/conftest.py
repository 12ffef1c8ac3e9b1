"""An agent in memory: the fake server, and a runner that starts no Terraform."""

from __future__ import annotations

import threading

import pytest

from agents_app.agent import client as client_module
from agents_app.agent import phase as phase_module
from agents_app.runner.apply import ApplyOutcome
from agents_app.runner.errors import PermitDenied
from agents_app.runner.plan import PlanOutcome
from agents_app.schema import ApplyPath, Outcome
from tests.support.agent_fakes import DIGEST, HASH, FakeAgent, FakeServer, wait_for


class FakeRunner:
    """Stands for Terraform: what a run does is set by the test."""

    def __init__(self) -> None:
        self.planned: list[object] = []
        self.applied: list[object] = []
        self.resumed: list[object] = []
        self.asked: list[bool] = []  # of those
        self.go = threading.Event()
        self.go.set()
        self.leaves_state = False

    def plan(self, run):
        self.planned.append(run)
        run.directory.create_anew()
        run.log.write("planning\n")
        self._wait(run)
        outcome = Outcome.CANCELLED if run.control.interrupted else Outcome.PLANNED
        return PlanOutcome(outcome)

    def apply(self, run, permit, held, *, why_not_held):
        try:
            permit(
                plan_hash=HASH,
                manifest_digest=DIGEST,
                path=ApplyPath.KEPT,
                path_reason="as it was",
                environment_digest=run.job.environment_digest,
            )
        except PermitDenied as denied:
            return ApplyOutcome(Outcome.NOT_STARTED, str(denied))
        self.applied.append(run)
        run.log.write("applying\n")
        self._wait(run)
        outcome = Outcome.CANCELLED if run.control.interrupted else Outcome.APPLIED
        recovered = run.log.path.parent / "errored.tfstate" if self.leaves_state else None
        if recovered:
            recovered.write_text("{}")
        return ApplyOutcome(outcome, recovered_state=recovered)

    def resume(self, run, events, *, asked):
        self.resumed.append([event["event"] for event in events])
        self.asked.append(asked)
        run.directory.acquire()
        run.log.write("taken up\n")
        return ApplyOutcome(Outcome.APPLIED) if run.job.plan else PlanOutcome(Outcome.PLANNED)

    def _wait(self, run):
        wait_for(lambda: self.go.is_set() or run.control.interrupted, "the run may end")


@pytest.fixture
def runner(monkeypatch):
    runner = FakeRunner()
    monkeypatch.setattr(phase_module, "run_plan", runner.plan)
    monkeypatch.setattr(phase_module, "run_apply", runner.apply)
    monkeypatch.setattr(phase_module, "resume", runner.resume)
    monkeypatch.setattr(client_module, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(client_module, "_PAUSE_SECONDS_MAX", 0.01)
    return runner


@pytest.fixture
def fake(tmp_path):
    return FakeServer(tmp_path / "base")


@pytest.fixture
def new_agent(fake, tmp_path, runner):
    agents = []

    def make() -> FakeAgent:
        agents.append(FakeAgent(fake, tmp_path / "agent"))
        return agents[-1]

    yield make
    for agent in agents:
        agent.loop.end()


@pytest.fixture
def agent(new_agent):
    return new_agent().start()
