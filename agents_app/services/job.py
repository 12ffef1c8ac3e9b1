"""The job of a lease: everything an agent needs to plan or apply one task."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from django.conf import settings

from agents_app.schema import (
    Credential,
    EnvironmentVariable,
    Job,
    PlanReference,
    StateBackend,
    Variable,
)
from agents_app.services.holds import environment_digest
from pods_app.models import Lease, ManagedPod, Pool
from pods_app.services import pool_credentials
from pods_app.state_access import run_token
from pods_app.states import RESERVING, LeasePhase
from tasks_app.models import ConfigurationVersion, Plan
from tasks_app.models import Variable as VariableRow
from tasks_app.models.project import AbstractCredential
from tasks_app.services.credentials import project_credentials
from tasks_app.services.variables import ResolvedVariable, task_variables

STATE_USERNAME = "slipway"


def jobs_for(lease_ids: Collection[UUID], pod: ManagedPod) -> dict[UUID, Job]:
    """Return the jobs of leases by lease id; that of a warm-up or hold is that of its apply.

    Args:
        pod: the agent's; its pool's proxy, CA bundle and credentials hold for every run.
    """
    if not lease_ids:
        return {}
    leases = list(Lease.objects.filter(pk__in=lease_ids).select_related("task__workspace__project"))
    pool = pod.pool
    digests = dict(
        ConfigurationVersion.objects.filter(
            pk__in=[lease.task.configuration_id for lease in leases]
        ).values_list("pk", "digest")
    )
    applied = [lease.task_id for lease in leases if lease.phase in (*RESERVING, LeasePhase.APPLY)]
    plans = {plan.pk: plan for plan in Plan.objects.filter(task__in=applied)} if applied else {}
    shared = pool_credentials(pool)
    return {
        lease.pk: _job(
            lease, pool, digests[lease.task.configuration_id], plans.get(lease.task_id), shared
        )
        for lease in leases
    }


def _job(
    lease: Lease,
    pool: Pool,
    configuration_digest: str,
    plan: Plan | None,
    shared: Sequence[tuple[AbstractCredential, str]],
) -> Job:
    task, workspace = lease.task, lease.task.workspace
    resolved = task_variables(task)
    variables, environment = _variables(resolved)
    given = [*shared, *project_credentials(workspace.project)]
    digest = environment_digest(
        pool, [variable.version for variable in resolved], [row for row, _ in given]
    )
    return Job(
        task_id=task.pk,
        workspace_id=workspace.pk,
        workspace_name=workspace.name,
        task_type=task.type,
        engine=task.engine,
        engine_version=task.engine_version,
        working_directory=task.working_directory,
        configuration_digest=configuration_digest,
        destroy=task.destroy,
        refresh_only=task.refresh_only,
        targets=task.targets,
        replace=task.replace,
        variables=variables,
        environment=environment,
        credentials=_credentials(given),
        proxy=pool.proxy,
        ca_bundle=pool.ca_bundle,
        backend=_backend(lease, digest),
        plan=_plan_reference(plan) if plan else None,
        lock_timeout_seconds=settings.SLIPWAY.state_lock_timeout_seconds,
        environment_digest=digest,
    )


def _variables(
    resolved: Iterable[ResolvedVariable],
) -> tuple[list[Variable], list[EnvironmentVariable]]:
    terraform, environment = [], []
    # In order: the job of a hold must equal that of its apply.
    for variable in sorted(resolved, key=lambda one: one.key):
        if variable.category == VariableRow.Category.TERRAFORM:
            terraform.append(
                Variable(
                    name=variable.key,
                    value=variable.value,
                    hcl=variable.hcl,
                    sensitive=variable.sensitive,
                )
            )
        else:
            environment.append(
                EnvironmentVariable(
                    name=variable.key, value=variable.value, sensitive=variable.sensitive
                )
            )
    return terraform, environment


def _credentials(given: Iterable[tuple[AbstractCredential, str]]) -> list[Credential]:
    """A project's credential, which comes later, beats its pool's for the same kind and host."""
    found = {(row.kind, row.host): _credential(row, secret) for row, secret in given}
    return [found[key] for key in sorted(found)]


def _credential(row: AbstractCredential, secret: str) -> Credential:
    return Credential(
        kind=row.kind,
        host=row.host,
        username=row.username,
        secret=secret,
        known_hosts=row.known_hosts,
    )


def _backend(lease: Lease, digest: str) -> StateBackend | None:
    if not lease.task.has_own_state:
        return None
    base = settings.SLIPWAY.url.rstrip("/")
    return StateBackend(
        address=f"{base}/api/state/v1/{lease.task.workspace_id}/",
        username=STATE_USERNAME,
        password=run_token(lease, digest),
    )


def _plan_reference(plan: Plan) -> PlanReference:
    return PlanReference(
        plan_hash=plan.plan_hash,
        manifest_digest=plan.manifest_digest,
        terraform_version=plan.terraform_version,
        bundle_stored=plan.bundle_id is not None,
    )
