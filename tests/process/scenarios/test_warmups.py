"""Plans that are made ready again elsewhere: their agent is gone, or their directory is."""

from __future__ import annotations

import shutil
import signal

import pytest

from pods_app.leases import unended
from tasks_app.models import Task
from tasks_app.states import WarmupStatus
from tests.support.configurations import Counter, counting
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.sites import events

_BUNDLE = "/artifacts/plan_bundle"


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


def test_a_lost_directory_is_restored_and_held_although_the_server_restarts_meanwhile(
    platform: Platform, counter: Counter
) -> None:
    platform.start_controller()
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    bundle = platform.proxy.fault(Action.HOLD_REQUEST, "GET", _BUNDLE)
    site.lose_directory(task)
    site.warm_without_pause(task)
    bundle.wait()  # in the middle of the warm-up
    platform.server.kill()
    bundle.release()
    platform.start_server()
    _wait_until_restored(task)
    assert counter.lines == []
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("held", ["counted"])
    assert events(task).count("task.applying") == 1


def test_after_failed_warm_ups_the_apply_takes_the_normal_path(
    platform: Platform, counter: Counter
) -> None:
    platform.start_controller()
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    failing = platform.proxy.fault(Action.ANSWER, "GET", _BUNDLE, times=None, status=400)
    site.lose_directory(task)
    for number in (1, 2, 3):
        failed = Task.objects.filter(
            pk=task.pk, warmup_status=WarmupStatus.FAILED, warmup_retry_count=number
        )
        wait_until(failed.exists, f"failure {number}")
        site.warm_without_pause(task)
    task.refresh_from_db()
    assert task.warmup_retry_at is None, "it is not tried again by itself"
    failing.end()
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("normal", ["counted"])


def test_an_agent_that_is_lost_while_it_holds_applies_nothing_when_it_returns(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(agent_lost_seconds="3")
    lost = platform.start_agent("lost")
    site = platform.site(counting(counter))
    task = site.plan()
    (former,) = platform.terraforms()
    platform.give_another_disk_to_new_agents()
    platform.start_agent("another")
    lost.program.stop()
    platform.start_controller()
    elsewhere = unended().filter(task=task, held=True, slot__pod__pod_name="another")
    wait_until(elsewhere.exists, "another agent holds it")
    assert former.is_running(), "each agent holds one"

    site.apply(task)
    lost.program.signal(signal.SIGCONT)
    wait_until(lambda: not former.is_running(), "the other one is let go")
    wait_until(lost.has_no_leases, "its agent knows that it is over")
    assert (task.apply_path, counter.lines) == ("held", ["counted"])
    assert platform.proxy.count("LOCK") == 1


@pytest.mark.parametrize("decision", ["confirmed", "discarded"])
def test_a_decision_in_the_middle_of_a_warm_up(
    platform: Platform, counter: Counter, decision: str
) -> None:
    platform.start_controller()
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    bundle = platform.proxy.fault(Action.HOLD_REQUEST, "GET", _BUNDLE)
    site.lose_directory(task)
    site.warm_without_pause(task)
    bundle.wait()
    if decision == "confirmed":
        site.confirmed(task)
    else:
        answer = platform.request("POST", f"tasks/{task.pk}/discard/", json={})
        assert answer.is_success, answer.text
    bundle.release()
    site.wait(task, "applied" if decision == "confirmed" else "discarded")
    wait_until(agent.has_no_leases, "it is over")
    assert not platform.terraforms()
    if decision == "confirmed":
        assert (task.apply_path, counter.lines) == ("held", ["counted"])
    else:
        assert counter.lines == [] and platform.proxy.count("LOCK") == 0
