"""How an agent looks after what lies ready: with real Terraform, and a server that only listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from agents_app.agent import warming
from agents_app.agent.hold_memory import HoldMemory
from agents_app.agent.journal import LeaseJournal
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.agent.machine import Machine
from agents_app.agent.owners import Owners
from agents_app.agent.permit import PermitDesk
from agents_app.agent.phase import LeaseRuns
from agents_app.agent.warming import Warming
from agents_app.runner import hold
from agents_app.runner.hold import HeldApply
from agents_app.runner.providers import ProviderMirror
from agents_app.schema import Activity, Artifact, Phase, PlanReference, WarmupReport
from tests.process.runner.conftest import MakeBench
from tests.support.programs import wait_until
from tests.support.runner import Bench, append, lines, plan, variable

SECRET = "canary-secret-4711"


class _Calls:
    """The calls of a lease, to a server that takes everything."""

    def __init__(self, bench: Bench) -> None:
        self._source = bench.source
        self.reports: list[WarmupReport] = []

    def configuration(self, destination: Path) -> None:
        self._source.configuration(destination)

    def artifact(self, kind: Artifact, destination: Path) -> None:
        self._source.artifact(kind, destination)

    def warmup(self, report: WarmupReport, _: Any) -> None:
        self.reports.append(report)

    def put_log(self, _: Phase, offset: int, data: bytes, __: Any) -> int:
        return offset + len(data)

    def progress(self, *_: Any) -> None:
        pass


class _Lease:
    """A lease whose plan is made, on a machine with some memory for held applies."""

    def __init__(self, bench: Bench, confirmed: PlanReference, memory: HoldMemory) -> None:
        self.bench, self.calls = bench, _Calls(bench)
        self.job = bench.job.model_copy(
            update={"plan": confirmed, "engine_version": bench.engine.version}
        )
        self.runs = LeaseRuns(
            lease_id=bench.lease_id,
            epoch=1,
            machine=Machine(
                base=bench.base,
                engines=[bench.engine],
                mirror=ProviderMirror(bench.base / "mirror"),
                owners=Owners(bench.base, str(bench.lease_id)),
                bundle_bytes_max=bench.bundle_bytes_max,
                log_bytes_max=1_000_000,
                hold_memory=memory,
            ),
            calls=cast(LeaseCalls, self.calls),
            journal=LeaseJournal(bench.base / "leases" / str(bench.lease_id)),
            directory=bench.directory,
            permit=cast(PermitDesk, None),
            applying=lambda: None,
        )
        self.warming = Warming(self.runs)

    def warm(self) -> HeldApply:
        """Hold Terraform; returns it."""
        assert self.warming.warm(self.job, 0.0) == Activity.HELD, self.warming._why_not
        held = self.warming._held
        assert held is not None
        return held

    def told(self, number: int) -> WarmupReport:
        """Return what was told for so many times."""
        wait_until(lambda: len(self.calls.reports) >= number, f"report {number}")
        return self.calls.reports[number - 1]

    def close(self) -> None:
        self.warming.close()
        self.runs.directory.release()


MakeLease = Callable[..., _Lease]


@pytest.fixture
def make_lease(make_bench: MakeBench, counter: Path) -> Iterator[MakeLease]:
    made: list[_Lease] = []

    def make(memory: HoldMemory | None = None, **changes: Any) -> _Lease:
        bench = make_bench({"main.tf": append(counter) + 'variable "x" {}\n'}, **changes)
        (bench.base / "leases").mkdir(exist_ok=True, parents=True)
        lease = _Lease(bench, plan(bench), memory or HoldMemory(1 << 40))
        made.append(lease)
        return lease

    yield lambda *arguments: make(*arguments, variables=[variable("x", SECRET, sensitive=True)])
    for lease in made:
        lease.close()


def test_what_is_as_it_was_stays_held(
    make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "VERIFY_SECONDS", 0.0)
    lease = make_lease()
    held = lease.warm()
    assert lease.warming.look() is None and held.held
    assert lease.told(1) == WarmupReport(
        ready=True, held=True, restored=False, reason="", permanent=False
    )


@pytest.mark.parametrize("harm", ["edited", "gone"])
def test_a_directory_that_is_not_what_it_was_is_told_and_not_held(
    make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch, counter: Path, harm: str
) -> None:
    lease = make_lease()
    held = lease.warm()
    assert lease.warming.look() is None
    if harm == "gone":
        lease.bench.directory.quarantine()  # it takes the folder away
    else:
        monkeypatch.setattr(warming, "VERIFY_SECONDS", 0.0)
        (lease.bench.directory.config / "main.tf").write_text("")
    assert lease.warming.look() == Activity.HOLDING
    assert not held.running.members() and lines(counter) == 0
    report = lease.told(2)
    assert (report.ready, report.held, report.permanent) == (False, False, False)
    assert report.reason.startswith(
        "The work directory is not on this agent"
        if harm == "gone"
        else "The work directory was changed"
    )
    assert lease.warming.look() is None, "once"

    lease.warm()
    assert lease.told(3).held and lease.told(3).restored


@pytest.mark.parametrize("for_good", [False, True])
def test_a_failure_says_whether_another_attempt_can_do_better(
    make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch, counter: Path, for_good: bool
) -> None:
    lease = make_lease()
    lease.bench.directory.quarantine()
    assert lease.job.plan is not None
    if for_good:
        only_there = lease.job.plan.model_copy(update={"bundle_stored": False})
        lease.job = lease.job.model_copy(update={"plan": only_there})
    else:

        def fail(*_: Any) -> None:
            raise OSError(f"no way to {SECRET}")

        monkeypatch.setattr(lease.calls, "artifact", fail)
    assert lease.warming.warm(lease.job, 0.0) == Activity.HOLDING
    report = lease.told(1)
    assert (report.ready, report.held, report.permanent) == (False, False, for_good)
    assert ("plan again" if for_good else "no way to") in report.reason
    assert SECRET not in report.reason
    assert lease.warming.look_seconds is None, "there is nothing to look after"
    assert lines(counter) == 0


def test_the_oldest_is_let_go_when_memory_is_used_up(make_lease: MakeLease, counter: Path) -> None:
    memory = HoldMemory(1 << 40)
    oldest, newest = make_lease(memory), make_lease(memory)
    first, second = oldest.warm(), newest.warm()
    assert oldest.warming.look() is None and newest.warming.look() is None

    memory.bytes_max = sum(memory._used.values()) - 1
    assert newest.warming.look() is None
    assert oldest.warming.look() == Activity.HOLDING
    assert newest.warming.look() is None
    assert not first.running.members() and second.held and lines(counter) == 0
    report = oldest.told(2)
    assert (report.ready, report.held) == (True, False)
    assert report.reason == "Not held: the agent's memory for held applies is used up."


def test_what_terraform_said_is_told_without_secrets(
    make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = make_lease()
    held = lease.warm()
    monkeypatch.setattr(HeldApply, "why_ended", lambda _: f"{SECRET} is no number")
    held.running.kill()
    wait_until(lambda: not held.running.alive(), "its end")
    assert lease.warming.look() == Activity.HOLDING
    assert "is no number" in lease.told(2).reason and SECRET not in lease.told(2).reason


def test_what_cannot_be_let_go_in_order_leaves_no_credentials(
    make_lease: MakeLease, monkeypatch: pytest.MonkeyPatch, counter: Path
) -> None:
    def fail(_: Path) -> None:
        raise OSError("the disk is gone")

    lease = make_lease()
    held = lease.warm()
    home = lease.bench.directory.home
    assert home.is_dir()
    monkeypatch.setattr(hold, "release_reserve", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        lease.warming.close()
    assert not home.exists() and not held.running.members() and lines(counter) == 0


def test_the_end_of_the_lease_closes_the_gate(make_lease: MakeLease, counter: Path) -> None:
    lease = make_lease()
    held = lease.warm()
    lease.told(1)
    lease.warming.close()
    assert held.running.exit_code() == 1 and not held.running.members()
    assert lines(counter) == 0 and len(lease.calls.reports) == 1
