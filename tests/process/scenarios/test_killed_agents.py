"""An agent that is killed at every step: at most one apply, and nothing is lost.

A first run counts the moments of an agent's work: the records of its journal, its steps, its
Terraform commands, the release of the one it holds. Then one agent for each moment is killed at
it and started again on the same disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pods_app.leases import unended
from pods_app.models import ApplyPermit
from tasks_app.states import FINAL
from tests.support.configurations import Counter, counting
from tests.support.factories import make_pool
from tests.support.platform import Agent, Platform
from tests.support.programs import wait_until
from tests.support.sites import Site, story

#: So many agents at a time: more would only wait for each other on two cores.
_AT_ONCE = 6


class _Victim:
    """An agent with a pool and a workspace of its own, that dies at a moment."""

    def __init__(self, platform: Platform, directory: Path, fatal: int) -> None:
        pool = make_pool()
        self.counter = Counter(directory / f"counter-{fatal}")
        self.agent: Agent = platform.start_agent(
            f"victim-{fatal}", pool=pool, fatal=fatal, wait=False
        )
        self.site: Site = platform.site(counting(self.counter), pool=pool)
        self.task = self.site.start()

    def died(self) -> bool:
        return not self.agent.program.alive

    def cooled(self) -> list[str]:
        """Lose the directory of the plan when it is ready; returns the agent's moments so far."""
        self.site.ready(self.site.wait(self.task, "apply_pending"))
        self.site.lose_directory(self.task)
        wait_until(lambda: not unended().filter(task=self.task).exists(), "it gave its slot back")
        wait_until(self.agent.has_no_leases, "nothing is left of it")
        return self.agent.moments

    def warmed(self) -> None:
        """Wait until the plan is held in a restored directory, by a Terraform that lives."""
        self.site.warm_without_pause(self.task)
        held = unended().filter(task=self.task, held=True, restored=True)
        directory = self.site.directory(self.task)

        def holds() -> bool:
            return held.exists() and len(self.site.platform.terraforms(directory)) == 1

        wait_until(holds, "it is held in a restored directory")

    @property
    def last_words(self) -> str:
        return f"killed at {self.agent.moments[-1]!r}"


def _moments(platform: Platform, directory: Path) -> tuple[list[str], list[str]]:
    """Return the moments of a plan, and of an apply, of an agent that lives on."""
    witness = _Victim(platform, directory, 0)
    site = witness.site
    site.ready(site.wait(witness.task, "apply_pending"))
    planned = witness.agent.moments
    site.apply(witness.task)
    return planned, witness.agent.moments[len(planned) :]


def _in_batches(numbers: range) -> Iterator[range]:
    for start in range(0, len(numbers), _AT_ONCE):
        yield numbers[start : start + _AT_ONCE]


def test_a_plan_survives_its_agents_death_at_every_step(platform: Platform, tmp_path: Path) -> None:
    platform.start_controller()
    planned, _ = _moments(platform, tmp_path)
    assert {"step unpack", "step init", "step plan", "step show", "step seal"} <= set(planned)
    assert {"spawning hold", "started hold", "step gate"} <= set(planned)
    for batch in _in_batches(range(1, len(planned) + 1)):
        victims = [_Victim(platform, tmp_path, number) for number in batch]
        for victim in victims:
            wait_until(victim.died, "the agent died")
            victim.agent.restart()
        for victim in victims:
            victim.site.wait(victim.task, "apply_pending")
            assert victim.counter.lines == [], victim.last_words
            victim.site.confirmed(victim.task)
        for victim in victims:
            victim.site.wait(victim.task, "applied")
            assert victim.counter.lines == ["counted"], victim.last_words
            victim.agent.program.kill()


def test_an_apply_happens_at_most_once_whenever_its_agent_dies(
    platform: Platform, tmp_path: Path
) -> None:
    platform.start_controller()
    planned, applied = _moments(platform, tmp_path)
    assert {"step permit", "permit_granted", "release", "released"} <= set(applied)
    first = len(planned) + 1
    for batch in _in_batches(range(first, first + len(applied))):
        victims = [_Victim(platform, tmp_path, number) for number in batch]
        for victim in victims:
            waiting = victim.site.wait(victim.task, "apply_pending")
            victim.site.confirmed(victim.site.ready(waiting))
        for victim in victims:
            wait_until(victim.died, "the agent died")
            victim.agent.restart()
        for victim in victims:
            _judge(victim)
            victim.agent.program.kill()


def test_a_warm_up_survives_its_agents_death_at_every_step(
    platform: Platform, tmp_path: Path
) -> None:
    """The directory is gone; it is restored, and Terraform held in it, whoever dies meanwhile."""
    platform.start_controller()
    witness = _Victim(platform, tmp_path, 0)
    first = len(witness.cooled()) + 1
    witness.warmed()
    moments = witness.agent.moments[first - 1 :]
    assert {"step restore", "step verify restored", "started hold", "step gate"} <= set(moments)
    assert not {"step permit", "release"} & set(moments)
    for batch in _in_batches(range(first, first + len(moments))):
        victims = [_Victim(platform, tmp_path, number) for number in batch]
        for victim in victims:
            victim.cooled()
            victim.site.warm_without_pause(victim.task)
        for victim in victims:
            wait_until(victim.died, "the agent died")
            victim.agent.restart()
        for victim in victims:
            victim.warmed()
            assert victim.counter.lines == [] and not victim.site.locked, victim.last_words
            victim.site.apply(victim.task)
            assert victim.counter.lines == ["counted"], victim.last_words
            victim.agent.program.kill()


def _judge(victim: _Victim) -> None:
    """Wait for the end, and compare what the task says with what really happened."""
    site, task = victim.site, victim.task
    site.wait(task, *FINAL)
    told = f"{victim.last_words}\n{story(task)}"
    assert ApplyPermit.objects.filter(task=task).count() <= 1, told
    if task.status == "applied":
        assert victim.counter.lines == ["counted"], told
        assert site.resources == ["terraform_data.counted"], told
    else:
        # Between permit and process nobody can know; after it the supervisor knows the result.
        assert task.status in {"failed", "interrupted"}, told
        assert victim.counter.lines == [], told
        assert site.resources == [], told
