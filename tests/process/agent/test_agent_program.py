"""The agent program against a real server, with real Terraform."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from agents_app.agent.journal import journals
from pods_app.models import ManagedPod
from tasks_app.models import Task
from tasks_app.services.tasks import confirm_task
from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Agent, Platform
from tests.support.programs import processes_below, wait_until
from tests.support.sites import Site, log


def confirm(site: Site, task: Task) -> Task:
    task.refresh_from_db()
    return confirm_task(actor=site.actor, task_id=task.pk, plan_hash=task.plan_hash)


def start_agent(platform: Platform, name: str = "agent", **more: str) -> Agent:
    """Start an agent and wait until work can be placed on it."""
    agent = platform.start_agent(name, **more)
    wait_until(lambda: ManagedPod.objects.filter(pod_name=name, phase="online"), "it is online")
    return agent


def leases(agent: Agent) -> list[str]:
    return [str(lease_id) for lease_id, _ in journals(agent.state)]


def test_a_plan_is_applied_from_its_kept_directory(platform: Platform, counter: Counter) -> None:
    agent = start_agent(platform)
    site = platform.site(counting(counter))
    task = site.plan()
    assert task.plan_hash and task.plan.to_add == 1
    assert (site.directory(task) / "plan.out").exists()
    assert "terraform_data.counted" in log(task, "plan")
    confirm(site, task)
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert task.apply_path == "kept", task.apply_path_reason
    assert site.resources == ["terraform_data.counted"]
    assert "Apply complete" in log(task, "apply")
    wait_until(lambda: not site.directory(task).exists(), "the directory is gone")
    wait_until(lambda: not leases(agent), "the lease is forgotten")
