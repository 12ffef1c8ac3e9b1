"""Plans that are made ready again elsewhere: their agent is gone, or their directory is."""

from __future__ import annotations

import shutil

from pods_app.leases import unended
from tasks_app.models import Task
from tests.support.configurations import Counter, counting
from tests.support.platform import StartPlatform
from tests.support.programs import wait_until


def _wait_until_restored(task: Task) -> None:
    restored = unended().filter(task=task, held=True, restored=True)
    wait_until(restored.exists, "it is held in a restored directory")


def test_a_plan_whose_agent_burnt_down_is_held_by_another_one(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(agent_lost_seconds="3")
    platform.start_controller()
    burnt = platform.start_agent("burnt")
    sites = [platform.site(counting(counter, name=f"site{number}")) for number in range(2)]
    tasks = [site.plan() for site in sites]
    platform.start_agent("another")
    burnt.program.kill()
    shutil.rmtree(burnt.state)
    shutil.rmtree(platform.work / "workspaces")
    assert counter.lines == []

    for task in tasks:
        _wait_until_restored(task)
        lease = unended().select_related("slot__pod").get(task=task)
        assert lease.slot.pod.pod_name == "another"
    assert platform.proxy.count("LOCK") == 0
    for site, task in zip(sites, tasks, strict=True):
        site.apply(task)
        assert task.apply_path == "held", task.apply_path_reason
    assert counter.lines == ["site0", "site1"]
