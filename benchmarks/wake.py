"""`wake`: 200 idle agents hold their long polls; how soon has one the job that was committed?

The clock starts inside the transaction, just before its commit, and stops when the agent has
parsed its job. Tasks and leases are made by the services that the API calls.
"""

from __future__ import annotations

import random
import ssl
import sys
import time
from uuid import UUID

from agents_app import schema
from benchmarks.agents import SLOTS, Fleet, SimulatedAgent
from benchmarks.harness import resident_mb, running_platform, say
from benchmarks.population import make_workspaces, static_pool
from benchmarks.result import Bar, CannotMeasure, Result, summary
from config.launch import Platform

RUNS = 500
AGENTS = 200
P99_MS = 100.0
WEB_MB, AGENT_MB = 200.0, 120.0
_PAUSE_SECONDS = (0.04, 0.12)
_PATIENCE_SECONDS = 30.0


class IdleAgent(SimulatedAgent):
    """Notes when each job came, and never runs anything."""

    def __init__(self, url: str, context: ssl.SSLContext, received: dict[UUID, float]) -> None:
        super().__init__(url, context)
        self._received = received

    def wished(self, assignment: schema.Assignment) -> None:
        if assignment.job is not None:
            self._received.setdefault(assignment.task_id, time.monotonic())


def run(runs: int) -> Result:
    """Measure ``runs`` wakes, and the memory of the web process and of a real idle agent."""
    if runs > AGENTS * SLOTS:
        raise CannotMeasure(f"The agents have room for {AGENTS * SLOTS} jobs; ask for fewer runs.")
    # The agents' thread must not wait for the committing one: that would measure this process.
    sys.setswitchinterval(0.001)
    received: dict[UUID, float] = {}
    with running_platform() as platform, Fleet(platform) as fleet:
        web = platform.pids("web")
        before = max(map(resident_mb, web))
        agent_mb = _idle_agent_mb(platform)
        pool, token = static_pool()
        (workspace,) = make_workspaces(pool, 1)
        say(f"Registering {AGENTS} agents")
        for _ in range(AGENTS):
            fleet.call(fleet.add(IdleAgent(platform.url, fleet.context, received), token))
        time.sleep(2)  # let every poll arrive
        say(f"Committing work {runs} times")
        latencies = [_one(fleet, received, workspace.pk) for _ in range(runs)]
        polling = max(map(resident_mb, web))
    wakes = summary(latencies)
    return Result(
        name="wake",
        runs=runs,
        figures={
            "agents": AGENTS,
            "web_processes": len(web),
            "commit_to_job_ms": wakes,
            "web_rss_mb": {"without agents": before, "with agents": polling},
            "idle_agent_rss_mb": agent_mb,
        },
        bars=[
            Bar("commit to job, p99, ms", wakes["p99"], P99_MS),
            Bar(f"largest web process with {AGENTS} agents, RSS in MB", polling, WEB_MB),
            Bar("idle agent, RSS in MB", agent_mb, AGENT_MB),
        ],
    )


def _idle_agent_mb(platform: Platform) -> float:
    """Return the memory of the local agent that the platform started, once it has settled."""
    from pods_app.models import ManagedPod
    from pods_app.states import PodPhase

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        platform.check()
        pod = ManagedPod.objects.filter(phase=PodPhase.ONLINE).exclude(process_id=None).first()
        if pod is not None and pod.process_id:
            time.sleep(2)
            return resident_mb(pod.process_id)
        time.sleep(0.2)
    raise CannotMeasure("The agent of the local pod did not come online; see its agent.log.")


def _one(fleet: Fleet, received: dict[UUID, float], workspace_id: UUID) -> float:
    """Lease work to an agent; returns the milliseconds from the commit to its having the job."""
    from django.db import connection, transaction

    from tasks_app.actors import Actor
    from tasks_app.models import Workspace
    from tasks_app.services.tasks import create_task
    from tasks_app.states import TaskType

    time.sleep(random.uniform(*_PAUSE_SECONDS))
    fleet.check()
    workspace = Workspace.objects.select_related("project").get(pk=workspace_id)
    with transaction.atomic():
        task = create_task(actor=Actor.system("benchmark"), workspace=workspace, type=TaskType.PLAN)
        committed = time.monotonic()
    connection.close()
    deadline = committed + _PATIENCE_SECONDS
    while task.pk not in received:
        fleet.check()
        if time.monotonic() > deadline:
            raise CannotMeasure(f"No agent had the job: {task.waiting_reason or task.status}")
        time.sleep(0.001)
    return (received[task.pk] - committed) * 1000
