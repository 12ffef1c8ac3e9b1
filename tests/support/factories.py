"""Objects for tests: one function makes one object, with what the test does not care about."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from django.contrib.auth.models import Group, User

from pods_app import outcomes, permits
from pods_app.leases import mark_delivered
from pods_app.models import Lease, ManagedPod, Pool
from pods_app.registration import heartbeat, register_pod
from pods_app.wishes import wishes
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.models import Blob, ConfigurationVersion, Project, RoleAssignment, Task, Workspace
from tasks_app.services.plans import PlanFacts
from tasks_app.services.tasks import create_task

_numbers = itertools.count(1)

PLAN_HASH = "a" * 64
MANIFEST = "b" * 64
#: Of what a run is given.
DIGEST = "d" * 64


def make_user(role: str | None = None, project: Project | None = None, **fields: Any) -> User:
    """A user; with ``role``, in a group of their own that has it."""
    user = User.objects.create_user(f"user{next(_numbers)}", **fields)
    if role:
        group = Group.objects.create(name=f"group{next(_numbers)}")
        user.groups.add(group)
        RoleAssignment.objects.create(group=group, project=project, role=role)
    return user


def make_admin() -> User:
    return User.objects.create_superuser(f"admin{next(_numbers)}")


def make_workspace(*, configured: bool = True, **fields: Any) -> Workspace:
    if "project" not in fields:
        fields["project"] = Project.objects.get_or_create(name="default")[0]
    workspace = Workspace.objects.create(**{"name": f"workspace-{next(_numbers)}", **fields})
    if configured:
        make_configuration(workspace)
    return workspace


def make_configuration(workspace: Workspace, content: bytes = b"not a real archive") -> Any:
    blob = blobs.store([content], Blob.Retention.CONFIGURATION)
    return ConfigurationVersion.objects.create(
        workspace=workspace,
        number=workspace.configurations.count() + 1,
        source=ConfigurationVersion.Source.UPLOAD,
        digest=blob.digest,
        size=blob.size,
        blob=blob,
    )


def make_pool(**fields: Any) -> Pool:
    default = not Pool.objects.filter(is_default=True).exists()
    own = {"name": f"pool-{next(_numbers)}", "is_default": default, "scale_down_delay_seconds": 0}
    return Pool.objects.create(**{**own, **fields})


def make_pod(pool: Pool, *, versions: tuple[str, ...] = ("1.11.4",)) -> ManagedPod:
    """An online pod with an agent and all its slots idle."""
    name = f"pod-{next(_numbers)}"
    return register_pod(
        pool=pool,
        pod_name=name,
        pod_uid=str(uuid.uuid4()),
        slots=pool.slots_per_pod,
        engines=[{"engine": "terraform", "version": version} for version in versions],
        agent_id=uuid.uuid4(),
    )


def make_task(workspace: Workspace | None = None, **fields: Any) -> Task:
    """A task made by a superuser through the service."""
    fields.setdefault("actor", Actor.person(make_admin()))
    return create_task(workspace=workspace or make_workspace(), **fields)


def plan_facts(**fields: Any) -> PlanFacts:
    return PlanFacts(
        **{
            "plan_hash": PLAN_HASH,
            "manifest_digest": MANIFEST,
            "terraform_version": "1.11.4",
            "providers": [],
            "to_add": 1,
            "to_change": 0,
            "to_destroy": 0,
            "to_import": 0,
            "output_changes": 0,
            "state_lineage": "",
            "state_serial": None,
            "bundle_bytes": 0,
            "bundle": None,
            "json": None,
            "text": None,
            **fields,
        }
    )


def finish_planning(task: Task, **facts: Any) -> Task:
    """Let the agent that plans ``task`` report a plan with changes, its bundle stored."""
    if "bundle" not in facts:
        facts["bundle"] = blobs.store([b"not a real bundle"], Blob.Retention.PLAN)
    lease = task.leases.exclude(state="ended").select_related("slot__pod").get()
    outcomes.finish_plan(
        lease_id=lease.pk,
        epoch=lease.epoch,
        pod=lease.slot.pod,
        report=outcomes.Report("planned", plan=plan_facts(**facts)),
    )
    task.refresh_from_db()
    return task


def make_waiting_task(workspace: Workspace | None = None) -> Task:
    """A task that waits for a confirmation, its slot reserved; makes a pod if there is none."""
    if not ManagedPod.objects.exists():
        make_pod(Pool.objects.filter(is_default=True).first() or make_pool())
    task = make_task(workspace)
    return finish_planning(task)


def ask_permit(lease: Lease, **changes: Any) -> float:
    """Hand an apply's job to the agent of ``lease``, and let it ask for the permit."""
    mark_delivered({lease: DIGEST})
    return permits.grant(
        **{
            "lease_id": lease.pk,
            "epoch": lease.epoch,
            "pod": lease.slot.pod,
            "key": uuid.uuid4(),
            "plan_hash": PLAN_HASH,
            "manifest_digest": MANIFEST,
            "path": "kept",
            "environment_digest": DIGEST,
            **changes,
        }
    )


def the_wish(pod: ManagedPod) -> Any:
    """The only wish of a pod."""
    (wish,) = wishes(pod)
    return wish


def hear_from(pod: ManagedPod) -> None:
    """The pod's agent is heard, with what it had before and room on its disk."""
    heartbeat(
        pod,
        engines=pod.engines,
        providers=[],
        disk_total_bytes=1 << 40,
        disk_free_bytes=1 << 40,
        draining=False,
    )
