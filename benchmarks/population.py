"""Workspaces with plans that are held by simulated agents, made by the services the API calls.

Django is set up for the platform's database (`harness.running_platform`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from benchmarks import waiting
from benchmarks.agents import SLOTS
from config.client import pack
from config.demo import EXAMPLE

if TYPE_CHECKING:
    from pods_app.models import Pool
    from tasks_app.actors import Actor
    from tasks_app.models import Workspace


def administrator() -> Actor:
    """Return the platform's first user, as who acts."""
    from django.contrib.auth.models import User

    from tasks_app.actors import Actor

    return Actor.person(User.objects.get(username="admin"))


def static_pool() -> tuple[Pool, str]:
    """Make a pool of agents that come by themselves; returns a token of it too."""
    from pods_app.models import Pool
    from pods_app.registration import create_pool_token

    pool = Pool.objects.create(name="benchmark", slots_per_pod=SLOTS)
    _, token = create_pool_token(actor=administrator(), pool=pool, name="benchmark")
    return pool, token


def make_workspaces(pool: Pool, number: int) -> list[Workspace]:
    """Make workspaces with a configuration whose tasks run in a pool."""
    from pods_app.services import assign_pool
    from tasks_app.models import ConfigurationVersion
    from tasks_app.services.configurations import store_configuration
    from tasks_app.services.workspaces import create_workspace, default_project

    actor, project, made = administrator(), default_project(), []
    for place in range(number):
        workspace = create_workspace(actor=actor, project=project, name=f"benchmark-{place}")
        assign_pool(actor=actor, workspace=workspace, pool=pool)
        store_configuration(
            actor=actor,
            workspace=workspace,
            archive=pack(EXAMPLE),
            source=ConfigurationVersion.Source.UPLOAD,
        )
        made.append(workspace)
    return made


def plan_and_hold(workspaces: list[Workspace]) -> list[UUID]:
    """Plan each workspace; returns the tasks once the agents hold the apply of every one."""
    from tasks_app.services.tasks import create_task
    from tasks_app.states import TaskType

    actor = administrator()
    tasks = [
        create_task(actor=actor, workspace=workspace, type=TaskType.PLAN_AND_APPLY).pk
        for workspace in workspaces
    ]
    waiting.wait(lambda: held(tasks) == len(tasks), "the agents do not hold every plan", pause=0.1)
    return tasks


def held(tasks: list[UUID]) -> int:
    """Return how many of the tasks lie held on an agent."""
    from pods_app.models import Lease

    return Lease.objects.filter(task__in=tasks, ended_at=None, held=True).count()
