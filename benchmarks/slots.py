"""`slots`: 100 agents hold 300 applies; how soon after its confirmation does a gate open?

Agents are simulated (`holding.py`): they speak the real agents' API, and Terraform's part of the
state backend, with the processes that `scripts/server` starts. Confirmations come over the REST
API at a steady rate, whether or not the ones before were answered. The clock starts when a
confirmation is sent and stops when its agent has the apply's job and the permit: then a real one
writes to the gate. All of it, the agents too, shares the processors of one machine.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from benchmarks import waiting
from benchmarks.agents import SLOTS, Fleet
from benchmarks.harness import running_platform, say
from benchmarks.holding import Diary, HoldingAgent
from benchmarks.load import Load
from benchmarks.population import make_workspaces, plan_and_hold, static_pool
from benchmarks.result import Bar, CannotMeasure, Result, summary
from config.launch import Platform

if TYPE_CHECKING:
    from tasks_app.models import Workspace

#: Confirmations at each rate.
RUNS = 300
AGENTS = 100
P99_MS = 150.0
#: Confirmations in a second: the one with the bar, and the one that is only reported.
STEADY, RUSH = 5, 20
#: Between the last hold and the first confirmation.
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True)
class Confirmed:
    """The moments of one confirmation, in seconds of the machine's clock."""

    sent: float
    begun: float  # the database's time of it, inside its transaction
    answered: float
    received: float  # the agent has the job
    opened: float  # and the permit


def run(runs: int) -> Result:
    """Confirm ``runs`` held applies at each of the two rates."""
    if runs > AGENTS * SLOTS:
        raise CannotMeasure(f"The agents hold at most {AGENTS * SLOTS} applies; ask for fewer.")
    # The agents' thread must not wait for the other one: that would measure this process.
    sys.setswitchinterval(0.001)
    diary = Diary()
    with running_platform() as platform, Fleet(platform) as fleet:
        pool, token = static_pool()
        workspaces = make_workspaces(pool, runs)
        say(f"Registering {AGENTS} agents")
        for _ in range(AGENTS):
            agent = HoldingAgent(platform.url, fleet.context, diary)
            fleet.call(fleet.add(agent, token))
        figures: dict[str, Any] = {
            "web_processes": _web_processes(),
            "agents": AGENTS,
            "held_applies": runs,
        }
        for rate in (STEADY, RUSH):
            figures[f"{rate} a second"] = _at_rate(platform, fleet, diary, workspaces, rate)
    steady = figures[f"{STEADY} a second"]["confirm_to_gate_ms"]["p99"]
    return Result(
        name="slots",
        runs=runs,
        figures=figures,
        bars=[Bar(f"{STEADY} a second: confirm to gate opened, p99, ms", steady, P99_MS)],
    )


def _at_rate(
    platform: Platform, fleet: Fleet, diary: Diary, workspaces: list[Workspace], rate: int
) -> dict[str, Any]:
    """Plan and hold everything, confirm it at a rate, and see it applied."""
    from django.db import connection

    say(f"Planning and holding {len(workspaces)} applies")
    tasks = plan_and_hold(workspaces)
    time.sleep(_SETTLE_SECONDS)
    hashes = _plan_hashes(tasks)
    say(f"Confirming {rate} a second")
    load = Load(platform)
    connection.close()
    sent, answered = fleet.call(_confirm(platform, hashes, rate), 60 + 2 * len(tasks) / rate)
    waiting.wait(lambda: _all_opened(fleet, diary, tasks), "not every gate was opened")
    shares = load.shares()
    waiting.wait(lambda: _applied(tasks) == len(tasks), "not every apply has ended")
    begun = _confirmed_at(tasks)
    return figures(
        [
            Confirmed(sent[one], begun[one], answered[one], diary.received[one], diary.opened[one])
            for one in tasks
        ],
        shares,
    )


async def _confirm(
    platform: Platform, hashes: dict[UUID, str], rate: int
) -> tuple[dict[UUID, float], dict[UUID, float]]:
    """Confirm each task at its time, in random order; returns when it was sent and answered."""
    sent: dict[UUID, float] = {}
    answered: dict[UUID, float] = {}

    async def confirm(client: httpx.AsyncClient, task_id: UUID) -> None:
        sent[task_id] = time.time()
        answer = await client.post(f"tasks/{task_id}/apply/", json={"plan_hash": hashes[task_id]})
        answered[task_id] = time.time()
        if answer.is_error:
            raise CannotMeasure(f"A confirmation was refused: {answer.text}")

    async with (
        httpx.AsyncClient(
            base_url=f"{platform.url}/api/v1/",
            headers={"Authorization": f"Token {platform.token}"},
            timeout=60,
        ) as client,
        asyncio.TaskGroup() as group,
    ):
        clock = asyncio.get_running_loop().time
        begun = clock()
        for place, task_id in enumerate(random.sample(list(hashes), len(hashes))):
            await asyncio.sleep(begun + place / rate - clock())
            group.create_task(confirm(client, task_id))
    return sent, answered


def figures(confirmed: Sequence[Confirmed], shares: dict[str, float]) -> dict[str, Any]:
    """Return what is told of the confirmations at one rate."""

    def ms(since: str, until: str) -> dict[str, float]:
        return summary([(getattr(one, until) - getattr(one, since)) * 1000 for one in confirmed])

    return {
        "confirm_to_gate_ms": ms("sent", "opened"),
        "of_it_until_the_database_has_it_ms": ms("sent", "begun"),
        "of_it_from_there_to_the_job_ms": ms("begun", "received"),
        "of_it_the_permit_ms": ms("received", "opened"),
        "confirm_to_answer_ms": ms("sent", "answered"),
        "cores_used": shares,
    }


def _web_processes() -> int:
    """Return how many there are: each listens with one connection of its own."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE application_name = 'slipway hub' AND datname = current_database()"
        )
        return int(cursor.fetchone()[0])


def _plan_hashes(tasks: list[UUID]) -> dict[UUID, str]:
    from tasks_app.models import Task

    rows = Task.objects.filter(pk__in=tasks).values_list("pk", "plan_hash")
    return {task_id: plan_hash or "" for task_id, plan_hash in rows}


def _all_opened(fleet: Fleet, diary: Diary, tasks: list[UUID]) -> bool:
    fleet.check()
    return all(task_id in diary.opened for task_id in tasks)


def _applied(tasks: list[UUID]) -> int:
    from tasks_app.models import Task
    from tasks_app.states import Status

    return Task.objects.filter(pk__in=tasks, status=Status.APPLIED).count()


def _confirmed_at(tasks: list[UUID]) -> dict[UUID, float]:
    from tasks_app.models import Confirmation

    rows = Confirmation.objects.filter(task__in=tasks).values_list("task_id", "created_at")
    return {task_id: moment.timestamp() for task_id, moment in rows}
