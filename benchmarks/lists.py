"""`lists`: what operators and programs read most, with 100,000 tasks in 200 workspaces.

One task is really planned and discarded; the others are copies of its rows. Each page is read
in turn, by a person logged in to the admin or by a program over the REST API.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any
from uuid import UUID

import httpx

from benchmarks.bench import Bench
from benchmarks.harness import running_platform, say
from benchmarks.kinds import KINDS
from benchmarks.result import Bar, CannotMeasure, Result, percentile, summary
from config.client import Api
from config.launch import Platform

RUNS = 30
TASKS, WORKSPACES = 100_000, 200
P95_MS = 300.0
_BATCH = 1000
_ENDS = ("applied", "applied", "applied", "success", "failed", "discarded", "cancelled")


def run(runs: int) -> Result:
    """Read every page ``runs`` times."""
    with running_platform() as platform, Api(platform) as api:
        kind = next(kind for kind in KINDS if not kind.provider)
        bench = Bench(platform, api, kind)
        task = bench.plan()
        api.call("POST", f"tasks/{task['id']}/discard/", json={})
        say(f"Making {TASKS:,} tasks")
        workspace, newest = _fill(UUID(task["id"]))
        took: dict[str, list[float]] = defaultdict(list)
        with _client(platform) as admin, _client(platform) as program:
            _log_in(admin, platform)
            program.headers["Authorization"] = f"Token {platform.token}"
            pages = _pages(admin, program, workspace, newest)
            for number in range(runs + 1):
                say(f"  run {number} of {runs}")
                for name, (client, address) in pages.items():
                    found = _read(client, address)
                    if number:  # the first fills caches
                        took[name].append(found)
    p95 = {name: round(percentile(values, 95), 1) for name, values in took.items()}
    return Result(
        name="lists",
        runs=runs,
        figures={
            "tasks": TASKS,
            "workspaces": WORKSPACES,
            **{f"{name}, ms": summary(values) for name, values in took.items()},
        },
        bars=[Bar(f"{name}, p95, ms", value, P95_MS) for name, value in p95.items()],
    )


def _pages(
    admin: httpx.Client, program: httpx.Client, workspace: UUID, task: UUID
) -> dict[str, tuple[httpx.Client, str]]:
    return {
        "admin: tasks": (admin, "/admin/tasks_app/task/"),
        "admin: tasks of a status": (admin, "/admin/tasks_app/task/?status__exact=failed"),
        "admin: tasks searched": (admin, "/admin/tasks_app/task/?q=copy-7"),
        "admin: workspaces": (admin, "/admin/tasks_app/workspace/"),
        "admin: one task": (admin, f"/admin/tasks_app/task/{task}/change/"),
        "API: tasks": (program, "/api/v1/tasks/"),
        "API: tasks of a status": (program, "/api/v1/tasks/?status=failed"),
        "API: tasks of a workspace": (program, f"/api/v1/tasks/?workspace={workspace}"),
        "API: one task": (program, f"/api/v1/tasks/{task}/"),
    }


def _read(client: httpx.Client, address: str) -> float:
    begun = time.perf_counter()
    answer = client.get(address)
    took = (time.perf_counter() - begun) * 1000
    if answer.status_code != 200:
        raise CannotMeasure(f"GET {address} was answered with {answer.status_code}.")
    return took


def _client(platform: Platform) -> httpx.Client:
    return httpx.Client(base_url=platform.url, timeout=60)


def _log_in(client: httpx.Client, platform: Platform) -> None:
    client.get("/admin/login/")
    form = {
        "username": "admin",
        "password": platform.password,
        "csrfmiddlewaretoken": client.cookies["csrftoken"],
    }
    if client.post("/admin/login/", data=form).status_code != 302:
        raise CannotMeasure("The admin did not let the first user in.")


def _fill(source: UUID) -> tuple[UUID, UUID]:
    """Copy one task's rows; returns one of the workspaces and the newest task."""
    from django.db import connection

    from pods_app.models import TaskPlacement
    from tasks_app.ids import uuid7
    from tasks_app.models import Plan, Task, Workspace

    task = Task.objects.select_related("workspace").get(pk=source)
    workspaces = [
        _copy(task.workspace, id=uuid7(), name=f"copy-{number}") for number in range(WORKSPACES)
    ]
    Workspace.objects.bulk_create(workspaces)
    plan, placement = Plan.objects.get(task=task), TaskPlacement.objects.get(task=task)
    newest = source
    for first in range(0, TASKS, _BATCH):
        tasks = [
            _copy(
                task,
                id=uuid7(),
                workspace_id=workspaces[number % WORKSPACES].pk,
                number=number // WORKSPACES + 1,
                status=_ENDS[number % len(_ENDS)],
            )
            for number in range(first, first + _BATCH)
        ]
        Task.objects.bulk_create(tasks)
        Plan.objects.bulk_create(_copy(plan, task_id=one.pk) for one in tasks)
        TaskPlacement.objects.bulk_create(_copy(placement, task_id=one.pk) for one in tasks)
        newest = tasks[-1].pk
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    return workspaces[0].pk, newest


def _copy(row: Any, **changes: Any) -> Any:
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return type(row)(**{**values, **changes})
