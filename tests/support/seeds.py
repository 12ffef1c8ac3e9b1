"""One of everything, so that generated requests find real objects."""

from __future__ import annotations

import json
from dataclasses import dataclass

from agents_app.models import Agent
from pods_app.autoscaler.decisions import decide
from pods_app.models import PodSlot, WorkDirectory
from pods_app.registration import create_pool_token
from pods_app.services import assign_pool, set_pool_credential
from pods_app.states import PoolKind
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.models import Blob
from tasks_app.services.credentials import set_credential
from tasks_app.services.logs import append_log
from tasks_app.services.state import upload_state
from tasks_app.services.variables import set_variable
from tests.support.factories import (
    finish_planning,
    make_admin,
    make_pod,
    make_pool,
    make_task,
    make_workspace,
)
from tests.support.freezes import overridden, soon
from tests.support.state import save_state

PLAN = {
    "terraform_version": "1.11.4",
    "resource_changes": [
        {
            "address": "terraform_data.a",
            "change": {
                "actions": ["update"],
                "before": {"input": "old", "secret": "s1"},
                "after": {"input": "new", "secret": "s2"},
                "before_sensitive": {"secret": True},
                "after_sensitive": {"secret": True},
                "after_unknown": {"output": True},
            },
        }
    ],
    "output_changes": {"name": {"actions": ["create"], "before": None, "after": "x"}},
}


@dataclass(frozen=True)
class Seed:
    """Ids as they stand in addresses, by collection."""

    ids: dict[str, str]

    def of(self, path: str, name: str) -> str | None:
        """Return the id that parameter ``name`` of the address ``path`` means."""
        before = path.partition("{" + name + "}")[0].strip("/").split("/")[-1]
        if name in {"id", "pk"}:
            scope = path.removeprefix("/api/v1/").split("/")[0]
            return self.ids.get(f"{scope}/{before}") or self.ids.get(before)
        return self.ids.get(name.removesuffix("_id") + "s")


def state(serial: int = 1, **changes: object) -> bytes:
    """Return a state document with one resource."""
    document = {
        "version": 4,
        "serial": serial,
        "lineage": "a",
        "terraform_version": "1.11.4",
        "resources": [{"mode": "managed", "instances": [{}]}],
        **changes,
    }
    return json.dumps(document).encode()


def seed() -> Seed:
    """Make one of everything, with a task that waits for a person."""
    actor = Actor.person(make_admin())
    pool = make_pool(kind=PoolKind.LOCAL)
    decide([pool])
    pod = make_pod(pool)
    window = soon(pool, minutes=10_000)
    override = overridden(pool)
    agent = Agent.objects.create(pk=pod.agent_id, pod=pod, hostname="host", program_version="0.1")
    workspace = make_workspace()
    assign_pool(actor=actor, workspace=workspace, pool=pool)
    upload_state(actor=actor, workspace=workspace, content=state())
    version = workspace.state_versions.get()
    variable = set_variable(actor=actor, key="plain", value="value", workspace=workspace)
    set_variable(actor=actor, key="hidden", value="a secret", workspace=workspace, sensitive=True)
    shared = set_variable(actor=actor, key="shared", value="x", project=workspace.project)
    everywhere = set_variable(actor=actor, key="everywhere", value="x")
    token, _ = create_pool_token(actor=actor, pool=pool, name="seed")
    credential = set_pool_credential(
        actor=actor, pool=pool, kind="https_token", host="git.example.com", secret="very secret"
    )
    projects_own = set_credential(
        actor=actor,
        project=workspace.project,
        kind="https_token",
        host="git.example.com",
        secret="very secret",
    )
    task = make_task(workspace)
    lease = task.leases.get().pk
    append_log(task=task, phase="plan", lease_id=lease, offset=0, data="größer ✔\n".encode())
    finish_planning(
        task,
        state_lineage=version.lineage,
        state_serial=version.serial,
        json=blobs.store([json.dumps(PLAN).encode()], Blob.Retention.PLAN),
        text=blobs.store([b"Plan: 0 to add"], Blob.Retention.PLAN),
    )
    saved = save_state(task, state(7))
    directory = WorkDirectory.objects.create(task=task, pod=pod, path="/work", bytes=10)
    slot = PodSlot.objects.filter(pod=pod).first()
    assert slot is not None
    return Seed(
        {
            "agents": str(agent.pk),
            "configurations": str(task.configuration_id),
            "credentials": str(credential.pk),
            "freeze-overrides": str(override.pk),
            "freeze-windows": str(window.pk),
            "pods": str(pod.pk),
            "pools": str(pool.pk),
            "projects": str(workspace.project_id),
            "slots": str(slot.pk),
            "state-versions": str(version.pk),
            "tasks": str(task.pk),
            "tasks/recovered-states": str(saved.pk),
            "pools/tokens": str(token.pk),
            "projects/credentials": str(projects_own.pk),
            "workspaces/variables": str(variable.pk),
            "projects/variables": str(shared.pk),
            "variables/variables": str(everywhere.pk),
            "work-directories": str(directory.pk),
            "workspaces": str(workspace.pk),
        }
    )
