"""Cleanup of work directories, while tasks are confirmed and agents work."""

from __future__ import annotations

import json
from functools import partial

from pods_app.models import WorkDirectory
from pods_app.states import DirectoryState
from pods_app.work_directories import cleanup
from tasks_app.models import Task
from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.racing import race


def _wait_until_reported(task: Task) -> None:
    """Wait until the agent's heartbeat has named the directory."""
    known = WorkDirectory.objects.filter(task=task, state=DirectoryState.KEPT)
    wait_until(known.exists, "the directory is reported")


def test_a_cleaned_plan_stays_confirmable_by_the_normal_path(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(keep_warm_seconds="0.01")
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    _wait_until_reported(task)

    cleaned = platform.manage("cleanup_work_dirs", "--json")
    assert cleaned.exit_code == 0, cleaned.log_end()
    (decision,) = json.loads(cleaned.log.read_text())
    assert decision["delete"], decision["reason"]
    wait_until(lambda: not site.directory(task).exists(), "the agent deletes it")

    site.apply(task)
    assert (task.apply_path, counter.lines) == ("normal", ["counted"])


def test_cleanup_racing_a_confirmation_costs_at_most_the_fast_path(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    for number in range(1, 4):
        site.configure(counting(counter, name=f"round{number}"))
        task = site.plan()
        _wait_until_reported(task)
        _, answer = race([partial(cleanup, everything_idle=True), partial(site.confirm, task)])
        assert answer.is_success, answer.text
        site.wait(task, "applied")
        assert task.apply_path in {"held", "kept", "normal"}
    assert counter.lines == ["round1", "round2", "round3"]


def test_no_directory_in_use_is_cleaned(platform: Platform, counter: Counter, gate: Gate) -> None:
    platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    _wait_until_reported(task)
    (decision,) = cleanup(everything_idle=True)
    assert not decision.delete
    assert decision.reason == "in use: apply runs"
    gate.open()
    site.wait(task, "applied")
