"""Terraform dies, alone or with its agent: its lock stays until somebody knows better."""

from __future__ import annotations

import signal

from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Platform
from tests.support.proxy import Action
from tests.support.sites import events


def _kill_terraform(platform: Platform) -> None:
    running = platform.terraforms()
    assert running, "Terraform runs"
    for process in running:
        process.send_signal(signal.SIGKILL)


def test_a_plan_whose_terraform_is_killed_is_never_confirmed_unseen(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    held = platform.proxy.fault(Action.HOLD_REPLY, "GET", "^/api/state/")
    task = site.start()
    held.wait()
    _kill_terraform(platform)
    held.release()
    site.wait(task, "apply_pending", "failed")
    assert counter.lines == []
    if task.status == "failed":
        assert task.error


def test_an_apply_whose_terraform_is_killed_is_interrupted_and_not_repeated(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    _kill_terraform(platform)
    gate.open()  # the provisioner lives on and ends (F5)

    site.wait(task, "interrupted")
    assert counter.lines == ["counted"]
    assert events(task).count("task.applying") == 1

    blocked = site.start()
    assert "acknowledge" in blocked.waiting_reason, "its workspace waits for a person"
    answer = platform.request("POST", f"tasks/{task.pk}/acknowledge/", json={"comment": "seen"})
    assert answer.is_success, answer.text


def test_agent_and_terraform_killed_together_leave_no_second_apply(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    agent.program.kill()
    _kill_terraform(platform)
    gate.open()
    agent.restart()

    site.wait(task, "interrupted")
    assert counter.lines == ["counted"]
    assert events(task).count("task.applying") == 1
