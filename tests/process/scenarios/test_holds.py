"""Held applies that nobody lets go on: whatever ends them, nothing was applied."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from pods_app.leases import unended
from pods_app.models import Lease
from pods_app.queue import dispatch_pass
from pods_app.warmups.expiry import expire_pass
from pods_app.work_directories import cleanup
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.state import upload_state
from tests.support.configurations import Counter, counting
from tests.support.factories import make_pool
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.sites import Site, events

_STATE = {
    "version": 4,
    "terraform_version": "1.11.4",
    "serial": 1,
    "lineage": "7f9a9d5c-0a54-4a3b-8f0e-4a3c4b1a2d3e",
    "outputs": {},
    "resources": [],
}


def _terraform(site: Site, task: Task) -> psutil.Process:
    """Return the one Terraform that runs for a task."""
    (found,) = site.platform.terraforms(site.directory(task))
    return found


def _hold(platform: Platform, counter: Counter, name: str) -> tuple[Site, Task, psutil.Process]:
    site = platform.site(counting(counter, name=name))
    task = site.plan()
    return site, task, _terraform(site, task)


def _discard(site: Site, task: Task) -> None:
    answer = site.platform.request("POST", f"tasks/{task.pk}/discard/", json={})
    assert answer.is_success, answer.text


def _move_the_state(site: Site, task: Task) -> None:
    upload_state(actor=site.actor, workspace=site.workspace, content=json.dumps(_STATE).encode())


def _wait_too_long(site: Site, task: Task) -> None:
    Task.objects.filter(pk=task.pk).update(keep_warm_until=ClockTimestamp())
    wait_until(expire_pass, "the time to keep it warm is over")


def _clean_up(site: Site, task: Task) -> None:
    """Those of tasks that are over are cleaned up too, and its own once it was reported."""
    mine = str(task.pk)

    def cleaned() -> bool:
        decisions = cleanup(everything_idle=True)
        return any(one.delete and one.task_id == mine for one in decisions)

    wait_until(cleaned, "its directory is cleaned up")


#: How a hold ends, and what its task is afterwards.
_ENDS: dict[str, tuple[Callable[[Site, Task], None], str]] = {
    "discarded": (_discard, "discarded"),
    "cancelled": (lambda site, task: site.cancel(task), "cancelled"),
    "moved": (_move_the_state, "discarded"),
    "waited": (_wait_too_long, "apply_pending"),
    "cleaned": (_clean_up, "apply_pending"),
}


def test_whatever_ends_a_hold_nothing_was_applied(platform: Platform, counter: Counter) -> None:
    platform.start_agent()
    waiting = []
    for name, (end, status) in _ENDS.items():
        site, task, held = _hold(platform, counter, name)
        end(site, task)
        wait_until(lambda held=held: not held.is_running(), f"Terraform is gone: {name}")
        task.refresh_from_db()
        assert (task.status, counter.lines) == (status, []), name
        if status == "apply_pending":
            waiting.append((site, task))
        if name == "moved":
            again = site.plan()
            assert again.status == "apply_pending", "a new plan is held"
            site.apply(again)
            assert (again.apply_path, counter.lines) == ("held", ["moved"])
            counter.path.unlink()
    assert platform.proxy.count("LOCK") == 1, "only for the one that was confirmed"
    for site, task in waiting:
        site.apply(task)
    assert counter.lines == ["waited", "cleaned"]


def test_a_second_task_of_the_workspace_leaves_a_hold_alone_and_runs_when_it_is_discarded(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site, task, held = _hold(platform, counter, "counted")
    lease = unended().get(task=task)
    second = site.start()
    assert dispatch_pass() == 0, "there are free slots, but it is not its turn"
    second.refresh_from_db()
    assert (second.status, second.started_at) == ("pending", None)
    assert second.waiting_reason.startswith(f"Waits for #{task.number} ")
    assert not Lease.objects.filter(task=second).exists()
    lease.refresh_from_db()
    assert (lease.state, lease.phase, lease.held) == ("live", "hold", True)
    assert _terraform(site, task) == held

    _discard(site, task)
    site.ready(site.wait(second, "apply_pending"))
    wait_until(lambda: not held.is_running(), "the first Terraform is gone")
    task.refresh_from_db()
    assert (task.status, counter.lines, platform.proxy.count("LOCK")) == ("discarded", [], 0)
    site.apply(second)
    assert (second.apply_path, counter.lines) == ("held", ["counted"])


def test_a_hold_yields_its_slot_and_is_confirmed_all_the_same(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(reservation_yield_seconds="0")
    platform.start_controller()
    pool = make_pool(slots_per_pod=1)
    platform.start_agent(pool=pool)
    site = platform.site(counting(counter, name="oldest"), pool=pool)
    task = site.plan()
    held = _terraform(site, task)

    other = platform.site(counting(counter, name="newest"), pool=pool)
    newest = other.plan()
    assert not held.is_running() and counter.lines == []
    other.apply(newest)
    site.apply(task)
    assert counter.lines == ["newest", "oldest"]
    assert platform.proxy.count("LOCK") == 2


def test_a_held_terraform_that_is_killed_is_told_and_not_missed(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site, task, held = _hold(platform, counter, "counted")
    held.kill()
    told = unended().filter(task=task, held=False, hold_reason__contains="ended while it waited")
    wait_until(told.exists, "the agent tells")
    site.apply(task)
    assert task.apply_path == "kept"
    assert "ended while it waited" in task.apply_path_reason
    assert counter.lines == ["counted"]


def test_an_agent_without_memory_for_it_lets_it_go_and_says_so(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(hold_bytes_max="1")
    platform.start_agent()
    site, task, held = _hold(platform, counter, "counted")
    wait_until(lambda: not held.is_running(), "it is let go")
    told = unended().filter(task=task, held=False, hold_reason__contains="memory for held applies")
    wait_until(told.exists, "the agent tells")
    assert counter.lines == []
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("kept", ["counted"])


def test_new_variables_start_the_hold_again(platform: Platform, counter: Counter) -> None:
    """It has been given what is not true any more."""
    platform.start_controller()
    platform.start_agent()
    site, task, former = _hold(platform, counter, "counted")
    site.set("AWS_SESSION_TOKEN", "renewed", category="environment", sensitive=True)
    wait_until(lambda: not former.is_running(), "it is let go")
    assert counter.lines == []
    wait_until(platform.terraforms, "another one is held")
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("held", ["counted"])


def test_sigterm_while_holding_ends_the_agent_at_once(platform: Platform, counter: Counter) -> None:
    agent = platform.start_agent()
    site, task, held = _hold(platform, counter, "counted")
    agent.program.signal(signal.SIGTERM)
    assert agent.program.wait() == 0
    assert not held.is_running() and counter.lines == []
    assert site.directory(task).is_dir(), "its directory waits for another agent process"
    assert "task.applying" not in events(task)


def test_a_held_terraform_that_goes_on_without_a_permit_is_refused_at_the_lock(
    platform: Platform, counter: Counter
) -> None:
    """Its gate can be opened from outside only by the machine's administrator, as here."""
    agent = platform.start_agent()
    site, task, held = _hold(platform, counter, "counted")
    descriptors = Path(f"/proc/{agent.program.pid}/fd").iterdir()
    (gate,) = [one for one in descriptors if "slipway-gate-" in os.readlink(one)]
    with gate.open("wb", buffering=0) as opened:
        opened.write(b"*/\n")
    agent.program.kill()  # which closes it
    wait_until(lambda: not held.is_running(), "Terraform ended")
    assert platform.proxy.count("LOCK", status=403) == platform.proxy.count("LOCK") == 1
    assert (counter.lines, site.locked) == ([], False)

    agent.program.start()
    site.apply(task)
    assert counter.lines == ["counted"]
