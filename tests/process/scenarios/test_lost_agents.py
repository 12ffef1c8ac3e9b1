"""Agents are killed by hand, and destroyed, while applies wait for their confirmation."""

from __future__ import annotations

import shutil
from pathlib import Path

from pods_app.leases import unended
from pods_app.models import ApplyPermit
from tests.support.configurations import Counter, counting, faulty
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.sites import events

_TASKS = 6
#: Who is killed together, and whether they are started again before they are lost.
_ROUNDS = [({0}, False), ({1, 2}, True), ({0, 1, 2}, False), ({2}, True)]


def _held(platform: Platform) -> bool:
    """Whether every task is held by a Terraform that lives, on an agent that is online."""
    leases = unended().filter(state="live", phase="hold", held=True, slot__pod__phase="online")
    return leases.count() == len(platform.terraforms()) == _TASKS


def test_killing_agents_leaves_every_task_held_again_and_none_applied_twice(
    start_platform: StartPlatform, tmp_path: Path
) -> None:
    platform = start_platform(agent_lost_seconds="3")
    platform.start_controller()
    agents = [platform.start_agent(f"agent-{number}") for number in range(3)]
    counters = [Counter(tmp_path / f"counter-{number}") for number in range(_TASKS)]
    sites = [platform.site(counting(counter)) for counter in counters]
    tasks = [site.start() for site in sites]
    for site, task in zip(sites, tasks, strict=True):
        site.wait(task, "apply_pending")
    wait_until(lambda: _held(platform), "all are held")

    for killed, at_once in _ROUNDS:
        victims = [agents[number] for number in killed]
        for victim in victims:
            victim.program.kill()
        if not at_once:
            stays = unended().filter(slot__pod__pod_uid__in=[one.pod_uid for one in victims])
            wait_until(lambda stays=stays: not stays.exists(), "the killed ones are lost")
        for victim in victims:
            victim.program.start()
        wait_until(lambda: _held(platform), f"all are held after {killed} were killed")
        for task in tasks:
            task.refresh_from_db()
            assert task.status == "apply_pending"
    assert platform.proxy.count("LOCK") == 0

    for site, task in zip(sites, tasks, strict=True):
        site.confirmed(task)
    for site, task, counter in zip(sites, tasks, counters, strict=True):
        site.wait(task, "applied")
        assert (task.apply_path, counter.lines) == ("held", ["counted"]), task.apply_path_reason
        assert events(task).count("task.applying") == 1
    assert ApplyPermit.objects.count() == platform.proxy.count("LOCK") == _TASKS
    assert not platform.terraforms()


def test_an_agent_that_is_destroyed_and_rebuilt_holds_a_large_provider_again(
    start_platform: StartPlatform, counter: Counter, large_provider_mirror: Path
) -> None:
    """Its disk is gone, the mirror of 500 MB on it too."""
    platform = start_platform(agent_lost_seconds="3")
    platform.start_controller()
    mirror = {"SLIPWAY_PROVIDER_MIRROR": str(large_provider_mirror)}
    destroyed = platform.start_agent("destroyed", **mirror)
    large = faulty(counter)["main.tf"].replace("slipway/fault", "slipway/fault-large")
    site = platform.site({"main.tf": large})
    task = site.plan()
    destroyed.program.kill()
    shutil.rmtree(destroyed.state)
    shutil.rmtree(platform.work)

    platform.start_agent("rebuilt", **mirror)
    held = unended().filter(task=task, held=True, restored=True, slot__pod__pod_name="rebuilt")
    wait_until(held.exists, "the rebuilt one holds it, from the server's copy")
    assert counter.lines == [] and platform.proxy.count("LOCK") == 0
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("held", ["slow-0 created"])
