"""Agents that stand still: a permit expires, an agent is lost and comes back, a person decides."""

from __future__ import annotations

import signal

from pods_app.models import ManagedPod
from tasks_app.models import Task
from tests.process.scenarios.conftest import PlanBriefly
from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Agent, Platform, StartPlatform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.sites import Site, events, log, wait_for_expiry


def test_a_permit_that_comes_when_it_has_expired_releases_nothing(
    plan_briefly: PlanBriefly, counter: Counter
) -> None:
    agent, site, task = plan_briefly()
    proxy = site.platform.proxy
    permitted = proxy.fault(Action.HOLD_REPLY, "POST", "/permit")
    site.confirmed(task)
    permitted.wait()
    agent.program.stop()
    permitted.release()
    wait_for_expiry(task)
    agent.program.signal(signal.SIGCONT)

    site.wait(task, "failed")
    assert counter.lines == []
    assert site.resources == []
    assert not site.locked
    assert "othing was applied" in task.error
    assert proxy.count("LOCK") == 0


def test_an_agent_that_stood_still_between_its_last_look_and_the_release_applies_nothing(
    plan_briefly: PlanBriefly, counter: Counter
) -> None:
    """It opens the gate when its permit has long expired: the lock is refused."""
    agent, site, task = plan_briefly(stop="release")
    site.confirmed(task)
    wait_until(lambda: agent.moments[-1:] == ["release"], "the agent is about to release")
    wait_for_expiry(task)
    agent.program.signal(signal.SIGCONT)

    site.wait(task, "failed")
    assert agent.moments.count("released") == 1, "it went on where it was"
    assert site.platform.proxy.count("LOCK", status=403) == 1, "refused once, for good"
    assert counter.lines == []
    assert (site.resources, site.locked) == ([], False)
    assert task.apply_path == "held"
    assert "othing was applied" in task.error


def test_terraform_that_stood_still_over_its_permit_is_refused_at_the_lock(
    plan_briefly: PlanBriefly, counter: Counter
) -> None:
    """The permit fences the agent, not Terraform: the lock is the second gate."""
    _, site, task = plan_briefly()
    proxy = site.platform.proxy
    late = proxy.fault(Action.HOLD_REQUEST, "LOCK")
    site.confirmed(task)
    late.wait()
    wait_for_expiry(task)
    late.release()

    site.wait(task, "failed")
    assert proxy.count("LOCK", status=403) == 1, "refused once, for good"
    assert counter.lines == []
    assert "othing was applied" in task.error


def _lost_while_applying(
    platform: Platform, counter: Counter, gate: Gate
) -> tuple[Agent, Site, Task]:
    platform.start_controller()
    agent = platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    agent.program.stop()
    wait_until(ManagedPod.objects.filter(phase="lost").exists, "the controller declares it lost")
    site.wait(task, "apply_unknown")
    assert site.locked, "the state's lock is kept"
    return agent, site, task


def test_a_lost_agent_leaves_an_unknown_apply_and_ends_it_when_it_returns(
    start_platform: StartPlatform, counter: Counter, gate: Gate
) -> None:
    platform = start_platform(agent_lost_seconds="3")
    agent, site, task = _lost_while_applying(platform, counter, gate)
    agent.program.signal(signal.SIGCONT)
    site.wait(task, "applying")
    gate.open()
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert events(task).count("task.applying") == 2, "the same lease reported again"
    assert "Apply complete" in log(task, "apply")


def test_a_persons_verdict_fences_the_lost_agent(
    start_platform: StartPlatform, counter: Counter, gate: Gate
) -> None:
    platform = start_platform(agent_lost_seconds="3")
    agent, _, task = _lost_while_applying(platform, counter, gate)
    answer = platform.request(
        "POST",
        f"tasks/{task.pk}/resolve/",
        json={"verdict": "failed", "comment": "The machine burnt down."},
    )
    assert answer.is_success, answer.text
    agent.program.signal(signal.SIGCONT)
    gate.open()

    wait_until(lambda: not platform.terraforms(), "the fenced Terraform ended")
    wait_until(agent.has_no_leases, "the agent let go")
    task.refresh_from_db()
    assert task.status == "failed", "a late report changes nothing"
    assert counter.lines == ["counted"]
