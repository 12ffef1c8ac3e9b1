"""A whole installation with tasks in every state, for pages: crawled, looked at, driven."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, User

from agents_app.models import Agent
from pods_app import outcomes
from pods_app.leases import end
from pods_app.models import ManagedPod, Pool, WorkDirectory
from pods_app.registration import create_pool_token
from pods_app.services import assign_pool, drain_pod, lose_pod, set_pool_credential
from tasks_app.actors import Actor
from tasks_app.models import Project, RoleAssignment, Task, Workspace
from tasks_app.services import credentials, state, tasks, tokens, variables, workspaces
from tests.support.factories import (
    ask_permit,
    finish_planning,
    make_configuration,
    make_pod,
    make_pool,
    make_task,
)
from tests.support.showcase_contents import (
    APPLY_LOG,
    APPLY_STEPS,
    PLAN_HASH,
    PLAN_LOG,
    PLAN_STEPS,
    SECRET,
    WARMUP_LOG,
    WARMUP_STEPS,
    add_steps,
    plan_contents,
    write_log,
)
from tests.support.warmups import report

PASSWORD = "only-for-tests"


def lease_of(task: Task) -> Any:
    return task.leases.exclude(state="ended").select_related("slot__pod").get()


def start_apply(task: Task, actor: Actor) -> Task:
    """Confirm a waiting plan and grant its permit, as the agent in its slot would ask for."""
    tasks.confirm_task(actor=actor, task_id=task.pk, plan_hash=PLAN_HASH, comment="looks right")
    ask_permit(
        lease_of(task),
        plan_hash=PLAN_HASH,
        path_reason="The directory was kept on this agent; hash and manifest are equal.",
    )
    task.refresh_from_db()
    return task


def finish_apply(task: Task, outcome: str = "applied", **report: Any) -> Task:
    """Let the agent report the end of an apply."""
    lease = lease_of(task)
    outcomes.finish_apply(
        lease_id=lease.pk,
        epoch=lease.epoch,
        pod=lease.slot.pod,
        report=outcomes.Report(outcome, **report),
    )
    task.refresh_from_db()
    return task


def fail_plan(task: Task) -> Task:
    """Let a plan fail with Terraform's own error."""
    lease = lease_of(task)
    outcomes.finish_plan(
        lease_id=lease.pk,
        epoch=lease.epoch,
        pod=lease.slot.pod,
        report=outcomes.Report(
            "failed",
            error="Terraform's plan failed with 1 error.",
            diagnostics=[
                {
                    "severity": "error",
                    "summary": "Reference to undeclared resource",
                    "detail": 'A managed resource "aws_vpc" "main" has not been declared.',
                    "address": "aws_subnet.public",
                    "filename": "network/main.tf",
                    "line": 14,
                    "snippet": "  vpc_id = aws_vpc.main.id",
                },
                {"severity": "warning", "summary": "Argument is deprecated", "detail": ""},
            ],
        ),
    )
    task.refresh_from_db()
    return task


@dataclass
class Showcase:
    """What was made, for those who want to name it."""

    admin: User
    approver: User
    viewer: User
    pool: Pool
    waiting: Task
    applying: Task
    failed: Task
    workspace: Workspace


def _person(name: str, role: str, project: Project | None) -> User:
    user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
    group = Group.objects.create(name=f"{name}s team")
    user.groups.add(group)
    RoleAssignment.objects.create(group=group, project=project, role=role)
    return user


def _agent(pod: ManagedPod, host: str) -> ManagedPod:
    Agent.objects.create(pod=pod, hostname=host, program_version="0.1.0")
    ManagedPod.objects.filter(pk=pod.pk).update(
        disk_total_bytes=64 * 2**30,
        disk_free_bytes=41 * 2**30,
        providers=["registry.terraform.io/hashicorp/aws 5.94.1"],
    )
    return pod


def make_configured(name: str, project: Project, **fields: Any) -> Workspace:
    """A workspace with a configuration."""
    workspace = Workspace.objects.create(name=name, project=project, **fields)
    make_configuration(workspace)
    return workspace


def _waiting(actor: Actor, workspace: Workspace) -> Task:
    return finish_planning(make_task(actor=actor, workspace=workspace), plan_hash=PLAN_HASH)


def _failed_warm_up(task: Task) -> None:
    """Let the agent of a waiting plan find its directory damaged, and give its slot back."""
    lease = lease_of(task)
    # For good: else the next slot that becomes free is used for another attempt.
    reason = "The work directory was changed: main.tf differs."
    report(lease, ready=False, reason=reason, permanent=True)
    lease.refresh_from_db()
    end(lease, actor=Actor.agent(lease.slot.pod.agent_id), reason="the agent let go")


def build() -> Showcase:
    """Make everything; the database is empty before."""
    admin = User.objects.create_superuser("ada", password=PASSWORD)
    actor = Actor.person(admin)
    default = workspaces.default_project()
    network = Project.objects.create(name="network", description="DNS, load balancers, subnets")
    approver = _person("grace", RoleAssignment.Role.APPROVER, network)
    viewer = _person("linus", RoleAssignment.Role.VIEWER, network)

    pool = make_pool(name="main")
    edge = make_pool(name="edge")
    pods = [_agent(make_pod(pool), f"runner-{number}") for number in (1, 2, 3)]
    drain_pod(actor=actor, pod_id=pods[2].pk, reason="new disk on Thursday")
    gone = _agent(make_pod(edge), "edge-1")
    _agent(make_pod(edge), "edge-2")

    prod = make_configured("network-prod", network, description="Load balancers and subnets")
    dns = make_configured("platform-dns", network, auto_apply=False, engine_version="1.11.4")
    make_configured("fresh", default)
    warehouse = make_configured("data-warehouse", default)
    billing = make_configured("billing-staging", default)
    cdn = make_configured("cdn", network, state_backend=Workspace.StateBackend.CONFIGURATION)
    cut = make_configured("identity", default)
    unknown = make_configured("edge-cache", default)
    Workspace.objects.create(name="sandbox", project=default)

    variables.set_variable(actor=actor, key="region", value="eu-central-1", workspace=prod)
    variables.set_variable(
        actor=actor, key="api_token", value=SECRET, workspace=prod, sensitive=True
    )
    variables.set_variable(actor=actor, key="owner", value="platform", project=network)
    variables.set_variable(actor=actor, key="cost_center", value="4711")
    credentials.set_credential(
        actor=actor, project=network, kind="https_token", host="git.example.com", secret=SECRET
    )
    set_pool_credential(
        actor=actor, pool=pool, kind="registry_token", host="app.example.com", secret=SECRET
    )
    create_pool_token(actor=actor, pool=pool, name="runner hosts")
    tokens.create_token(actor=actor, hours=24)

    lineage = str(uuid.uuid4())
    for serial in (1, 2):
        document: dict[str, Any] = {
            "version": 4,
            "serial": serial,
            "lineage": lineage,
            "resources": [],
        }
        state.upload_state(actor=actor, workspace=dns, content=json.dumps(document).encode())

    applied = start_apply(_waiting(actor, prod), actor)
    add_steps(applied, "apply", APPLY_STEPS)
    write_log(applied, "apply", APPLY_LOG)
    finish_apply(applied)
    waiting = make_task(
        actor=actor, workspace=prod, message="Move private subnets to larger blocks"
    )
    write_log(waiting, "plan", PLAN_LOG)
    add_steps(waiting, "plan", PLAN_STEPS)
    waiting = finish_planning(waiting, **plan_contents())
    WorkDirectory.objects.create(
        task=waiting,
        pod=lease_of(waiting).slot.pod,
        path=f"/var/lib/slipway/workspaces/{prod.pk}/{waiting.pk}",
        bytes=18_874_368,
        reason="a plan waits for its confirmation",
    )
    write_log(waiting, "warmup", WARMUP_LOG)
    add_steps(waiting, "warmup", WARMUP_STEPS)
    report(lease_of(waiting), held=True)
    make_task(
        actor=actor, workspace=prod, message="Rotate certificates"
    )  # waits for the one before

    applying = make_task(
        actor=actor, workspace=warehouse, message="Larger nodes for the nightly load"
    )
    write_log(applying, "plan", PLAN_LOG)
    add_steps(applying, "plan", PLAN_STEPS)
    applying = start_apply(finish_planning(applying, **plan_contents()), actor)
    add_steps(applying, "apply", APPLY_STEPS)
    write_log(applying, "apply", APPLY_LOG)

    failed = make_task(actor=actor, workspace=billing, type="plan")
    write_log(failed, "plan", PLAN_LOG[:6])
    failed = fail_plan(failed)
    tasks.discard_task(actor=actor, task_id=_waiting(actor, billing).pk, comment="not yet")
    _failed_warm_up(_waiting(actor, cdn))
    interrupted = start_apply(_waiting(actor, cut), actor)
    finish_apply(interrupted, "interrupted", error="Terraform was killed while it applied.")

    assign_pool(actor=actor, workspace=unknown, pool=edge)
    ManagedPod.objects.exclude(pk=gone.pk).filter(pool=edge).update(draining=True)
    lost = start_apply(_waiting(actor, unknown), actor)
    state.lock_state(
        workspace=unknown,
        info={"ID": str(uuid.uuid4()), "Operation": "OperationTypeApply", "Who": "edge-1"},
        actor=Actor.agent(gone.agent_id),
        task_id=lost.pk,
        lease_id=lease_of(lost).pk,
    )
    ManagedPod.objects.filter(pool=edge).update(draining=False)
    lose_pod(gone.pk, actor=Actor.system("health"), cause="no heartbeat for 47 s")
    workspaces.lock_workspace(actor=actor, workspace=dns, reason="migration until 15:00")
    return Showcase(admin, approver, viewer, pool, waiting, applying, failed, prod)
