"""Kills the agent, Terraform, or both, at random moments of a held apply.

As a program, ``python -m tests.support.hold_kills``, it stands in for agents: for every line of
its input, the path of a pickled Bench with what was confirmed, it forks an agent that warms up,
holds, is confirmed and applies, and prints that agent's process id.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents_app.runner import process
from agents_app.runner.adopt import resume
from agents_app.runner.apply import ApplyOutcome, run_apply
from agents_app.runner.warmup import warm_up
from agents_app.schema import Outcome, PlanReference
from tests.support.http_state import HttpState
from tests.support.programs import ROOT, processes_below, wait_until
from tests.support.runner import Bench, Permit, lines, plan

#: How long a confirmation takes at most after the hold, and how long an agent stays dead: what
#: Terraform does by itself meanwhile must show. In seconds.
_CONFIRM_SECONDS = 0.2
_DEAD_SECONDS = (0.0, 0.3)
#: In the order in which they are killed.
_VICTIMS = (("agent",), ("terraform",), ("agent", "terraform"), ("terraform", "agent"))


class _Trials:
    """Kills of one plan's held apply, which is laid out anew each time.

    Args:
        agents: the program below, running.
        counter: gets a line whenever the plan's one resource is really created.
    """

    def __init__(
        self,
        agents: subprocess.Popen[str],
        bench: Bench,
        confirmed: PlanReference,
        state: HttpState,
        counter: Path,
    ) -> None:
        self.agents, self.bench, self.confirmed = agents, bench, confirmed
        self.state, self.counter = state, counter
        self._pristine = bench.base / "pristine"
        shutil.copytree(bench.directory.path, self._pristine, symlinks=True)
        self._description = bench.base / "description"

    def undisturbed(self) -> float:
        """Apply once without a kill; returns how many seconds that takes."""
        agent = self._start(_CONFIRM_SECONDS)
        begun = time.monotonic()
        outcome = self._told(agent)
        seconds = time.monotonic() - begun
        assert outcome == Outcome.APPLIED and lines(self.counter) == 1
        return seconds

    def kill(self, moment: float, victims: Sequence[str], pause: float, dead: float) -> None:
        """Kill the victims, and check what came of it.

        Args:
            moment: in seconds after the agent began.
            pause: between the hold and the confirmation, in seconds.
            dead: until the agent is started again, if it was killed, in seconds.

        Raises:
            AssertionError: more was applied, or something else, than what was told.
        """
        agent = self._start(pause)
        time.sleep(moment)
        for victim in victims:
            for pid in [agent] if victim == "agent" else self._terraforms():
                _kill(pid)
        if "agent" in victims:
            time.sleep(dead)
            self._check(self._restarted(agent))
        else:
            self._check(self._told(agent))

    def _check(self, told: Outcome) -> None:
        applied, granted = lines(self.counter), self._granted.exists()
        story = f"told: {told}, applied: {applied}, permitted: {granted}, {self.state.calls}"
        assert not processes_below(self.bench.directory.path), story
        assert applied <= 1 and (granted or not applied), story
        if not granted:
            assert "LOCK" not in self.state.calls, story
        match told:
            case Outcome.APPLIED:
                assert applied == 1, story
            case Outcome.NOT_STARTED:
                assert not applied and "LOCK" not in self.state.calls, story
                self._apply_by_another_agent()
            case Outcome.INTERRUPTED:
                assert granted, story
            case _:
                raise AssertionError(story)

    def _apply_by_another_agent(self) -> None:
        self.bench.close()
        self.bench.runs.clear()
        outcome = run_apply(self.bench.run("again", self.confirmed), Permit())
        assert outcome.outcome == Outcome.APPLIED, (outcome, self.bench.log("again"))
        assert lines(self.counter) == 1

    # --- the agent ------------------------------------------------------------------------

    def _start(self, pause: float) -> int:
        """Lay everything out as after the plan, and start an agent."""
        bench = self.bench
        bench.close()
        bench.runs.clear()
        for path in (bench.directory.path, bench.base / "journal", bench.base / "homes"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(self._pristine, bench.directory.path, symlinks=True)
        for file in (self.counter, self._granted, self._outcome):
            file.unlink(missing_ok=True)
        self.state.state = b""
        self.state.calls.clear()
        self._description.write_bytes(pickle.dumps((bench, self.confirmed, pause)))
        assert self.agents.stdin is not None and self.agents.stdout is not None
        self.agents.stdin.write(f"{self._description}\n")
        self.agents.stdin.flush()
        return int(self.agents.stdout.readline())

    def _told(self, agent: int) -> Outcome:
        wait_until(lambda: process.start_time(agent) is None, "the agent is through")
        return Outcome(self._outcome.read_text())

    def _restarted(self, agent: int) -> Outcome:
        """Return what an agent says that is started again after the former one died."""
        wait_until(lambda: process.start_time(agent) is None, "the agent is dead")
        if self._outcome.exists():
            return Outcome(self._outcome.read_text())  # it had ended before
        run = self.bench.run("apply", self.confirmed, acquire=False)
        outcome = resume(run, self.bench.events("apply"))
        assert isinstance(outcome, ApplyOutcome)
        return outcome.outcome

    def _terraforms(self) -> list[int]:
        files = self.bench.directory.run.glob("*/pid")
        pids = [text for file in files if (text := file.read_text()).endswith("\n")]
        return [int(pid) for pid in pids if process.start_time(int(pid))]

    @property
    def _granted(self) -> Path:
        return self.bench.base / "permits"

    @property
    def _outcome(self) -> Path:
        return self.bench.base / "outcome"


def kill_at_random(bench: Bench, state: HttpState, counter: Path, *, seed: int, kills: int) -> None:
    """Plan, and kill so often, at moments spread over everything that an agent does.

    Args:
        bench: of a configuration whose one resource adds a line to ``counter``.
        state: where it keeps its state.
    """
    chance = random.Random(seed)
    confirmed = plan(bench)
    with _agents() as agents:
        trials = _Trials(agents, bench, confirmed, state, counter)
        seconds = trials.undisturbed()
        for number in range(kills):
            moment, victims = chance.uniform(0, seconds), chance.choice(_VICTIMS)
            pause, dead = chance.uniform(0, _CONFIRM_SECONDS), chance.choice(_DEAD_SECONDS)
            try:
                trials.kill(moment, victims, pause, dead)
            except AssertionError as error:
                raise AssertionError(
                    f"kill {number} of seed {seed}: {' and '.join(victims)} after {moment:.4f} "
                    f"of {seconds:.3f} s: {error}"
                ) from error


@contextmanager
def _agents() -> Iterator[subprocess.Popen[str]]:
    """Start the program that forks agents."""
    program = subprocess.Popen(
        [sys.executable, "-m", "tests.support.hold_kills"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with program:
        yield program


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


# --- the program ------------------------------------------------------------------------------


def _main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the agents
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _be_an_agent(Path(line.strip()))
            os._exit(0)
        print(pid, flush=True)


def _be_an_agent(description: Path) -> None:
    bench: Bench
    confirmed: PlanReference
    pause: float
    bench, confirmed, pause = pickle.loads(description.read_bytes())

    def permit(**asked: Any) -> float:
        (bench.base / "permits").touch()
        return 60.0

    run = bench.run("apply", confirmed)
    warm = warm_up(run, may_hold=True)
    time.sleep(pause)
    outcome = run_apply(run, permit, warm.held, why_not_held=warm.reason)
    half = bench.base / "outcome.new"
    half.write_text(outcome.outcome)
    half.rename(bench.base / "outcome")


if __name__ == "__main__":
    _main()
