"""What the API forecasts of an apply is what real agents then do, on every path."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from pods_app.leases import unended
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tests.support.configurations import Counter, counting
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until


def forecast(platform: Platform, task: Task) -> dict[str, Any]:
    answer = platform.request("GET", f"tasks/{task.pk}/")
    found: dict[str, Any] = answer.json()["forecast"]
    return found


@pytest.mark.parametrize("path", ["held", "kept"])
def test_on_the_agent_that_planned(
    start_platform: StartPlatform, counter: Counter, path: str
) -> None:
    platform = start_platform(**({} if path == "held" else {"hold_bytes_max": "0"}))
    platform.start_agent("one")
    site = platform.site(counting(counter))
    task = site.plan()
    found = forecast(platform, task)
    assert (found["path"], found["agent"]) == (path, "one")
    if path == "kept":
        (why,) = found["why_not"]
        assert why["sentence"] == "Not held: holding is switched off on this agent."
    site.apply(task)
    assert (task.apply_path, counter.lines) == (path, ["counted"]), task.apply_path_reason


@pytest.mark.parametrize("path", ["warmed", "normal"])
def test_on_another_agent(start_platform: StartPlatform, counter: Counter, path: str) -> None:
    platform = start_platform(agent_lost_seconds="3", hold_bytes_max="0")
    platform.start_controller()
    burnt = platform.start_agent("burnt")
    site = platform.site(counting(counter))
    task = site.plan()
    if path == "normal":
        Task.objects.filter(pk=task.pk).update(keep_warm_until=ClockTimestamp())
    burnt.program.kill()
    shutil.rmtree(platform.work / "workspaces")
    platform.start_agent("another")
    leases = unended().filter(task=task)
    if path == "warmed":
        wait_until(leases.filter(restored=True).exists, "it lies ready on the other agent")
    else:
        wait_until(lambda: not leases.exists(), "the agent that burnt is lost")
    found = forecast(platform, task)
    assert (found["path"], found["agent"]) == (path, "another")
    assert "agent burnt" in found["why_not"][1]["sentence"], "why it is not kept"
    site.apply(task)
    assert (task.apply_path, counter.lines) == (path, ["counted"]), task.apply_path_reason
    not_here = "The work directory is not on this agent any more."
    assert task.apply_path_reason.startswith("Not held: "), "each faster path has its sentence"
    if path == "warmed":
        not_here = f"Not from the kept directory: {not_here}"
    assert not_here in task.apply_path_reason
