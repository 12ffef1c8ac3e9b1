"""An agent whose clock is wrong by an hour, and is set while it works: the database's counts."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from pods_app.freeze.services import database_now
from pods_app.leases import unended
from pods_app.models import Lease, ManagedPod
from pods_app.warmups import expire_pass, warm_pass
from tasks_app.models import Event, Task
from tasks_app.models.base import ClockTimestamp
from tests.support.configurations import Counter, counting
from tests.support.platform import Agent, Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.sites import log
from tests.support.skewed_agent import CLOCK
from tests.support.warmups import events_of

_HOUR = 3600
_LOST_SECONDS = 3


class _Clock:
    """The clock of an agent, that is wrong by so many seconds."""

    def __init__(self, file: Path, wrong_by: int) -> None:
        self._file = file
        self.set(wrong_by)

    def set(self, wrong_by: int) -> None:
        """Set it, at once: a file that is half written says nothing."""
        new = self._file.with_suffix(".new")
        new.write_text(str(wrong_by))
        new.rename(self._file)

    def start_agent(self, platform: Platform) -> Agent:
        return platform.start_agent(**{CLOCK: str(self._file)})


def _said(agent: Agent) -> datetime:
    """Return the time of the agent's last words, by its own clock."""
    wait_until(agent.program.log_end, "it says something")
    moment = agent.program.log_end().splitlines()[-1].split()[0]
    return datetime.fromisoformat(moment)


@pytest.mark.parametrize("skew", [_HOUR, -_HOUR])
def test_it_plans_holds_and_applies_and_its_permit_lasts_as_long_as_it_should(
    start_platform: StartPlatform, counter: Counter, tmp_path: Path, skew: int
) -> None:
    """The clock is set, by two hours, between the permit and its reply."""
    platform = start_platform(permit_seconds_held="30")
    clock = _Clock(tmp_path / "clock", skew)
    agent = clock.start_agent(platform)
    wrong_by = _said(agent) - datetime.now(UTC)
    assert abs(wrong_by - timedelta(seconds=skew)) < timedelta(minutes=5), "it is really wrong"
    site = platform.site(counting(counter))
    task = site.plan()
    task.refresh_from_db()
    left = task.warmup_expires_at - database_now()
    assert left <= timedelta(seconds=settings.SLIPWAY.warmup_seconds)
    assert left > timedelta(seconds=settings.SLIPWAY.warmup_seconds) / 2
    assert expire_pass() == 0

    permitted = platform.proxy.fault(Action.HOLD_REPLY, "POST", "/permit")
    site.confirmed(task)
    permitted.wait()
    clock.set(-skew)
    permitted.release()
    site.wait(task, "applied")
    assert (task.apply_path, counter.lines) == ("held", ["counted"]), task.apply_path_reason
    assert log(task, "apply").count("Apply complete") == 1
    again = site.wait(site.start(), "planned_and_finished")
    assert again.plan_attempts == 1


@pytest.mark.parametrize("skew", [_HOUR, -_HOUR])
def test_it_is_lost_when_it_is_silent_and_not_before(
    start_platform: StartPlatform, counter: Counter, tmp_path: Path, skew: int
) -> None:
    platform = start_platform(agent_lost_seconds=str(_LOST_SECONDS))
    platform.start_controller()
    agent = _Clock(tmp_path / "clock", skew).start_agent(platform)
    site = platform.site(counting(counter))
    task = site.plan()
    begun = database_now()
    listened = 2 * timedelta(seconds=_LOST_SECONDS)
    wait_until(lambda: database_now() - begun > listened, "the controller listened long enough")
    assert not Event.objects.filter(kind="pod.lost").exists(), "it is heard"

    agent.program.stop()
    pod = ManagedPod.objects.get()
    lost = Event.objects.filter(kind="pod.lost")
    wait_until(lost.exists, "it is declared lost")
    silence = lost.get().created_at - pod.last_heartbeat
    assert timedelta(seconds=_LOST_SECONDS - 1) < silence < timedelta(seconds=_HOUR / 2)
    agent.program.signal(signal.SIGCONT)
    held = unended().filter(task=task, held=True, slot__pod__phase="online")
    wait_until(held.exists, "it came back, and holds it again")
    site.apply(task)
    assert counter.lines == ["counted"]
    assert platform.proxy.count("LOCK") == 1


def test_what_it_holds_expires_by_the_database_and_is_held_again(
    platform: Platform, counter: Counter, tmp_path: Path, settings: Any
) -> None:
    """Its heartbeats are lost, but not what it asks for."""
    settings.SLIPWAY = replace(settings.SLIPWAY, heartbeat_seconds=0.5)  # as on the server
    agent = _Clock(tmp_path / "clock", -_HOUR).start_agent(platform)
    site = platform.site(counting(counter))
    task = site.plan()
    (former,) = platform.terraforms()
    silent = platform.proxy.fault(Action.REFUSE, "POST", "/heartbeat$", times=None)
    silent.wait()

    def expires() -> int:
        Task.objects.filter(pk=task.pk).update(warmup_expires_at=ClockTimestamp())
        return expire_pass()

    wait_until(expires, "nobody renews it any more")
    wait_until(lambda: not former.is_running(), "its agent lets it go")
    silent.end()
    wait_until(lambda: warm_pass() or _held_again(task), "it is warmed again")
    wait_until(lambda: _held_again(task), "it is held again")
    assert events_of(task) == ["ready", "expired", "warming", "ready"]
    assert agent.program.alive and counter.lines == []
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("held", ["counted"])


def _held_again(task: Task) -> bool:
    epoch = Lease.objects.filter(task=task).earliest("epoch").epoch
    return unended().filter(task=task, held=True, epoch__gt=epoch).exists()
