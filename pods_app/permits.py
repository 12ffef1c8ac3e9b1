"""The apply permit: the single point where an apply is allowed to go ahead. Granted once, ever."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import ExpressionWrapper, Value
from django.db.models.fields import DateTimeField

from pods_app import waiting
from pods_app.freeze.gate import Start, refusal
from pods_app.leases import lock_lease_of, lock_task_of
from pods_app.locking import pod_may_apply
from pods_app.models import ApplyPermit, Lease, ManagedPod
from pods_app.states import LeasePhase, LeaseState
from tasks_app.actors import Actor
from tasks_app.exceptions import PermitRefused, PlanVoid
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.state_position import lock_row
from tasks_app.states import Status
from tasks_app.transitions import transition

#: The value of schema.ApplyPath of an apply whose Terraform was started before.
_HELD = "held"


def grant(
    *,
    lease_id: UUID,
    epoch: int,
    pod: ManagedPod,
    key: UUID,
    plan_hash: str,
    manifest_digest: str,
    path: str,
    path_reason: str = "",
    environment_digest: str,
) -> float:
    """Grant the apply permit of a task, or say why not.

    One compare-and-set on task, plan hash, manifest digest, epoch, freeze state, state lineage
    and serial. The same ``key`` gets the same answer, so that a lost reply is safe to repeat.

    Args:
        environment_digest: of the job whose environment Terraform has or will have; the state's
            lock is granted to no other.

    Returns:
        For how many seconds the state lock will be granted under this permit; what is left of
        them when the question is repeated.

    Raises:
        NotFound, StaleLease: the lease is not this agent's, or over.
        PermitRefused: the sentence says why; nothing may be applied.
        PlanVoid: the state moved since the plan; the task failed with that cause.
    """
    actor = Actor.agent(pod.agent_id)
    void: PlanVoid | None = None
    with transaction.atomic():  # locks in order: task, workspace, pool, pod, slot, lease
        task = lock_task_of(lease_id, pod)
        own_state = task.has_own_state
        lock_row(task.workspace)  # nobody locks it, or moves its state, before the commit
        closed, usable = refusal(pod.pool_id, Start.APPLY), pod_may_apply(pod.pk)
        lease = lock_lease_of(task, lease_id, epoch)
        validity = _validity(path)
        facts = _facts(task)
        if facts.permit_lease_id:
            if (facts.permit_lease_id, facts.permit_key) == (lease.pk, key):
                return max(facts.permit_left.total_seconds(), 0.0)
            raise PermitRefused(
                "The permit of this task was granted before; it is never granted twice."
            )
        _check_lease(lease, task)
        if closed:
            raise PermitRefused(f"{waiting.frozen(pod.pool, closed).sentence}; the apply waits.")
        if not usable:
            raise PermitRefused("The agent was declared lost, or its pod is being deleted.")
        if task.workspace.locked_at:
            raise PermitRefused(f"The workspace is locked: {task.workspace.lock_reason}")
        if facts.doubt:
            raise PermitRefused(facts.doubt)
        if own_state and facts.state_locked:
            raise PermitRefused("Somebody else holds the state's lock; the apply waits for it.")
        if environment_digest != lease.environment_digest:
            raise PermitRefused(
                "What Terraform was started with is not what the agent was given last: other "
                "variables or credentials."
            )
        if (facts.plan_hash, facts.manifest_digest) != (plan_hash, manifest_digest):
            raise PermitRefused(
                "What lies on the agent is not what was confirmed: plan hash or manifest differ."
            )
        confirmed = (facts.state_lineage, facts.state_serial)
        if own_state and confirmed != (facts.current_lineage or "", facts.current_serial):
            # The refusal must survive: the task fails here, outside the raise. Its lease is
            # released by that, and ends when the agent reports its process gone.
            void = PlanVoid("The state changed after the plan was confirmed; plan again.")
            transition(
                task, Status.FAILED, actor=actor, cause=void.detail, lease=lease, error=void.detail
            )
        else:
            ApplyPermit.objects.create(
                task=task,
                lease=lease,
                key=key,
                plan_hash=plan_hash,
                manifest_digest=manifest_digest,
                path=path,
                environment_digest=environment_digest,
                state_lineage=facts.state_lineage,
                state_serial=facts.state_serial,
                state_verified=own_state,
                expires_at=_in_seconds(validity),
            )
            transition(
                task,
                Status.APPLYING,
                actor=actor,
                cause=f"permit granted, path {path}",
                sources=[Status.CONFIRMED],
                lease=lease,
                data={"path": path},
                apply_path=path,
                apply_path_reason=path_reason,
            )
    if void:
        raise void
    return validity


class _Facts(NamedTuple):
    """What a permit is judged by besides the locked rows; what is not there is None."""

    plan_hash: str
    manifest_digest: str
    state_lineage: str
    state_serial: int | None
    current_lineage: str | None
    current_serial: int | None
    permit_lease_id: UUID | None
    permit_key: UUID | None
    permit_left: timedelta
    doubt: str | None
    state_locked: bool


#: One question instead of six: each costs the person who confirmed another round trip.
_FACTS = """
SELECT confirmation.plan_hash, confirmation.manifest_digest,
    confirmation.state_lineage, confirmation.state_serial,
    current.lineage, current.serial,
    permit.lease_id, permit.key, permit.expires_at - clock_timestamp(),
    here.doubt,
    EXISTS (
        SELECT FROM tasks_app_statelock held
        WHERE held.workspace_id = task.workspace_id AND held.released_at IS NULL
    )
FROM workspace_tasks task
LEFT JOIN LATERAL (
    SELECT version.lineage, version.serial FROM tasks_app_stateversion version
    WHERE version.workspace_id = task.workspace_id ORDER BY version.serial DESC LIMIT 1
) current ON true
LEFT JOIN tasks_app_confirmation confirmation ON confirmation.task_id = task.id
LEFT JOIN pods_app_applypermit permit ON permit.task_id = task.id
LEFT JOIN pods_app_installation here ON here.singleton
WHERE task.id = %s
"""


def _facts(task: Task) -> _Facts:
    with connection.cursor() as cursor:
        cursor.execute(_FACTS, [task.pk])
        return _Facts(*cursor.fetchone())


def _check_lease(lease: Lease, task: Task) -> None:
    if lease.state != LeaseState.LIVE or lease.phase != LeasePhase.APPLY:
        raise PermitRefused("The lease is not one of an apply, or it is ending.")
    if task.status != Status.CONFIRMED:
        raise PermitRefused(f"The task is {task.status}, not confirmed.")


def _validity(path: str) -> float:
    """Return for how many seconds a permit lets take the lock: a held apply is about to."""
    slipway = settings.SLIPWAY
    return float(slipway.permit_seconds_held if path == _HELD else slipway.permit_seconds_kept)


def _in_seconds(seconds: float) -> ExpressionWrapper:
    later = ClockTimestamp() + Value(timedelta(seconds=seconds))
    return ExpressionWrapper(later, output_field=DateTimeField())
