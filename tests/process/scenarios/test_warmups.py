"""Plans that are made ready again elsewhere: their agent is gone, or their directory is."""

from __future__ import annotations

import shutil

from pods_app.leases import unended
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import WarmupStatus
from tests.support.configurations import Counter, counting
from tests.support.platform import Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.sites import Site, events

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


def _lose_the_directory(site: Site, task: Task) -> None:
    """Delete it, until the agent has told that nothing lies ready any more."""
    shutil.rmtree(site.directory(task))
    failed = Task.objects.filter(pk=task.pk, warmup_status=WarmupStatus.FAILED)
    wait_until(failed.exists, "the agent tells")
    task.refresh_from_db()
    assert "not on this agent any more" in task.warmup_error


def _try_again_now(task: Task) -> None:
    """Let the next attempt come without its pause."""
    Task.objects.filter(pk=task.pk, warmup_retry_at__isnull=False).update(
        warmup_retry_at=ClockTimestamp()
    )


def test_a_lost_directory_is_restored_and_held_although_the_server_restarts_meanwhile(
    platform: Platform, counter: Counter
) -> None:
    platform.start_controller()
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    bundle = platform.proxy.fault(Action.HOLD_REQUEST, "GET", _BUNDLE)
    _lose_the_directory(site, task)
    _try_again_now(task)
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
    _lose_the_directory(site, task)
    for number in (1, 2, 3):
        failed = Task.objects.filter(
            pk=task.pk, warmup_status=WarmupStatus.FAILED, warmup_retry_count=number
        )
        wait_until(failed.exists, f"failure {number}")
        _try_again_now(task)
    task.refresh_from_db()
    assert task.warmup_retry_at is None, "it is not tried again by itself"
    failing.end()
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("normal", ["counted"])
