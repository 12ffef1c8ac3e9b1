"""The agent program against a real server, with real Terraform."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from agents_app.agent.journal import journals
from pods_app.models import ManagedPod
from tasks_app.models import Task
from tasks_app.services.tasks import cancel_task, confirm_task
from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Agent, Platform, default_pool
from tests.support.programs import processes_below, wait_until
from tests.support.proxy import Action, Fault
from tests.support.sites import Site, log


def confirm(site: Site, task: Task) -> Task:
    task.refresh_from_db()
    return confirm_task(actor=site.actor, task_id=task.pk, plan_hash=task.plan_hash)


def refused_agent(platform: Platform, name: str, **more: str) -> str:
    """Run an agent that ends by itself; returns its output."""
    agent = Agent(platform, name, default_pool(), None, more)
    platform.programs.append(agent.program)
    agent.program.start()
    assert agent.program.wait() == 1
    return agent.program.log_end()


def held_plan(platform: Platform, site: Site) -> tuple[Task, Fault]:
    """Start a plan whose Terraform waits for its state until the fault is released."""
    hold = platform.proxy.fault(Action.HOLD_REQUEST, "GET", "^/api/state")
    task = site.start()
    while True:
        hold.wait()
        if (site.directory(task) / "run" / "plan").exists():
            return task, hold
        following = platform.proxy.fault(Action.HOLD_REQUEST, "GET", "^/api/state")
        hold.release()
        hold = following


def leases(agent: Agent) -> list[str]:
    return [str(lease_id) for lease_id, _ in journals(agent.state)]


def test_a_plan_is_held_and_applied(platform: Platform, counter: Counter) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    assert task.plan_hash and task.plan.to_add == 1
    assert (site.directory(task) / "plan.out").exists()
    assert "terraform_data.counted" in log(task, "plan")
    confirm(site, task)
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert task.apply_path == "held", task.apply_path_reason
    assert site.resources == ["terraform_data.counted"]
    assert "Apply complete" in log(task, "apply")
    wait_until(lambda: not site.directory(task).exists(), "the directory is gone")
    wait_until(lambda: not leases(agent), "the lease is forgotten")


def test_an_agent_killed_while_it_plans_follows_the_plan_to_its_end(
    platform: Platform, counter: Counter
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task, hold = held_plan(platform, site)
    agent.restart()
    wait_until(lambda: "taking up its plan" in agent.program.log_end(), "it knows its lease")
    hold.release()
    site.wait(task, "apply_pending")
    assert task.plan_attempts == 1, "the running plan is followed, not made again"
    confirm(site, task)
    site.wait(task, "applied")
    assert counter.lines == ["counted"]


def test_a_plan_that_is_cancelled_while_its_agent_is_down(
    platform: Platform, counter: Counter
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task, hold = held_plan(platform, site)
    agent.program.kill()
    cancel_task(actor=site.actor, task_id=task.pk)
    agent.program.start()
    wait_until(lambda: "taking up its plan" in agent.program.log_end(), "it knows its lease")
    hold.release()
    site.wait(task, "cancelled")
    wait_until(lambda: not leases(agent), "the lease is forgotten")


def test_an_agent_killed_while_it_applies_reports_the_true_result(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.plan()
    confirm(site, task)
    counter.wait()
    agent.program.kill()
    gate.open()
    wait_until(lambda: not processes_below(site.directory(task)), "Terraform ended by itself")
    secrets = site.directory(task).parents[2] / "homes" / str(task.pk) / "secrets.json"
    assert secrets.exists()
    poll = platform.proxy.fault(Action.HOLD_REQUEST, "POST", "/work$")
    agent.program.start()
    poll.wait()
    assert secrets.exists(), "what to keep out of the rest of the log"
    poll.release()
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert log(task, "apply").count("Apply complete") == 1
    wait_until(lambda: not site.directory(task).exists(), "the directory is gone")


def test_a_held_plan_survives_a_restart_of_its_agent(platform: Platform, counter: Counter) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    (former,) = platform.terraforms()
    agent.program.kill()
    wait_until(lambda: not former.is_running(), "the Terraform it held ends with it")
    assert counter.lines == []

    agent.program.start()
    wait_until(platform.terraforms, "another one is held")
    confirm(site, task)
    site.wait(task, "applied")
    assert task.apply_path == "held", task.apply_path_reason
    assert counter.lines == ["counted"]


def test_a_plan_confirmed_while_its_agent_is_down_is_applied_from_its_directory(
    platform: Platform, counter: Counter
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    agent.program.kill()
    confirm(site, task)
    agent.program.start()
    site.wait(task, "applied")
    assert task.apply_path == "kept", task.apply_path_reason
    assert "confirmed before anything could be held" in task.apply_path_reason
    assert counter.lines == ["counted"]


def test_a_server_killed_during_an_apply_hears_of_it_later(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.plan()
    confirm(site, task)
    counter.wait()
    platform.server.kill()
    gate.open()
    platform.start_server()
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"]
    assert "Apply complete" in log(task, "apply")


def test_sigterm_waits_for_an_apply_and_keeps_waiting_plans(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    agent = platform.start_agent()
    waiting = platform.site(counting(counter, name="waiting"))
    held = waiting.plan()
    site = platform.site(counting(counter, gate))
    task = site.plan()
    confirm(site, task)
    counter.wait()
    agent.program.signal(signal.SIGTERM)
    wait_until(lambda: not held.leases.exclude(state="ended").exists(), "the held one is let go")
    assert agent.program.alive, "it waits for the apply"
    gate.open()
    site.wait(task, "applied")
    assert agent.program.wait() == 0
    assert not platform.terraforms()
    assert counter.lines == ["counted"], "what was held is not applied"
    assert waiting.directory(held).exists()
    assert not leases(agent)

    agent.program.start()
    confirm(waiting, held)
    waiting.wait(held, "applied")
    assert held.apply_path in {"held", "kept"}, held.apply_path_reason
    assert counter.lines == ["counted", "waiting"]


def test_a_second_signal_interrupts_terraform_once(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    agent = platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.plan()
    confirm(site, task)
    counter.wait()
    agent.program.signal(signal.SIGTERM)
    agent.program.signal(signal.SIGTERM)
    wait_until(lambda: "received" in agent.program.log_end(), "the signals came")
    gate.open()
    assert agent.program.wait() == 0
    site.wait(task, "applied", "cancelled", "failed")
    assert counter.lines == ["counted"]


def test_a_second_agent_on_the_same_directory_refuses(platform: Platform) -> None:
    agent = platform.start_agent()
    output = refused_agent(platform, "second", SLIPWAY_AGENT_DIRECTORY=str(agent.state))
    assert "Another agent works with" in output
    assert agent.program.alive


def test_a_second_agent_of_the_same_name_waits_and_says_what_to_do(platform: Platform) -> None:
    first = platform.start_agent()
    name = ManagedPod.objects.get().pod_name
    second = Agent(platform, "second", default_pool(), None, {"SLIPWAY_POD_NAME": name})
    platform.programs.append(second.program)
    second.program.start()
    wait_until(lambda: "does not take this agent yet" in second.program.log_end(), "it says so")
    assert "Give each agent its own --pod-name (SLIPWAY_POD_NAME)" in second.program.log_end()
    assert ManagedPod.objects.get().phase == "online", "the first one goes on"
    first.program.kill()
    wait_until(lambda: ManagedPod.objects.count() == 2, "the second takes its place")


def test_a_wrong_pool_token_ends_the_program_with_a_sentence(platform: Platform) -> None:
    token = Path(platform.directory / "wrong-token")
    token.write_text("slp_wrong")
    output = refused_agent(platform, "wrong", SLIPWAY_POOL_TOKEN_FILE=str(token))
    assert "The server refuses this agent: The pool token is unknown" in output


def test_an_idle_agent_is_small_and_quiet(platform: Platform) -> None:
    agent = platform.start_agent()
    process = psutil.Process(agent.program.pid)
    assert process.memory_info().rss < 120 << 20
    environment = Path(f"/proc/{agent.program.pid}/environ").read_bytes()
    assert b"SLIPWAY_ENCRYPTION_KEYS" not in environment
    assert b"DATABASE_URL" not in environment
    assert os.stat(agent.state / "identity.json").st_mode & 0o077 == 0
