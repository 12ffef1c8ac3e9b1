"""What operators do with pools and pods."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import transaction

from pods_app.leases import unended
from pods_app.locking import lock_pod
from pods_app.models import (
    ManagedPod,
    PodSlot,
    Pool,
    PoolAssignment,
    PoolCredential,
    TaskPlacement,
)
from pods_app.notify import notify_controller
from pods_app.outcomes import lose_lease
from pods_app.room import use_room
from pods_app.states import (
    DRAIN_REASONS,
    RETURNING,
    SILENT,
    TOO_MANY,
    UNSTARTED,
    PodPhase,
    PoolKind,
    SlotStatus,
)
from tasks_app.actors import Actor
from tasks_app.after_commit import after_commit
from tasks_app.exceptions import Conflict, InvalidInput, NotFound
from tasks_app.keyring import keyring
from tasks_app.models import Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.services.credentials import check_credential
from tasks_app.signals import given_changed
from tasks_app.transitions import record


def default_pool() -> Pool:
    """Return the default pool, made on first use as a static one."""
    pool = Pool.objects.filter(is_default=True).first()
    if pool is None:
        pool, _ = Pool.objects.get_or_create(
            name="default", defaults={"is_default": True, "kind": PoolKind.STATIC}
        )
    return pool


def assign_pool(*, actor: Actor, workspace: Workspace, pool: Pool | None) -> None:
    """Bind a workspace to a pool; None returns it to the default pool.

    Raises:
        InvalidInput: the pool does not serve the workspace's project.
    """
    require(actor, Action.CHANGE_WORKSPACE, workspace)
    if pool is not None:
        _check_served(pool, workspace)
    with transaction.atomic():
        if pool is None:
            PoolAssignment.objects.filter(workspace=workspace).delete()
        else:
            PoolAssignment.objects.update_or_create(workspace=workspace, defaults={"pool": pool})
        record(
            "workspace.pool_assigned",
            actor=actor,
            workspace=workspace,
            data={"pool": pool.name if pool else None},
        )


def _check_served(pool: Pool, workspace: Workspace) -> None:
    projects = set(pool.projects.values_list("pk", flat=True))
    if projects and workspace.project_id not in projects:
        raise InvalidInput(
            f"Pool {pool.name} does not serve project {workspace.project}; add the project to "
            "the pool, or choose another pool.",
            field="pool",
        )


def place_in_pool(task: Task) -> TaskPlacement:
    """Record the pool a new task belongs to.

    Raises:
        InvalidInput: the workspace's pool does not serve its project any more.
    """
    assignment = (
        PoolAssignment.objects.select_related("pool").filter(workspace=task.workspace).first()
    )
    pool = assignment.pool if assignment else default_pool()
    _check_served(pool, task.workspace)
    return TaskPlacement.objects.create(task=task, pool=pool)


def get_pod_locked(pod_id: UUID) -> ManagedPod:
    """Return a pod, locked for update.

    Raises:
        NotFound.
    """
    try:
        return lock_pod(pod_id)
    except ManagedPod.DoesNotExist:
        raise NotFound(f"There is no pod {pod_id}.") from None


def _refuse_over(pod: ManagedPod) -> None:
    if pod.phase == PodPhase.GONE:
        raise Conflict("The pod is gone.")
    if pod.deletion_reason:
        raise Conflict(f"The pod is being {pod.deletion_reason}"[:500])


def drain_pod(*, actor: Actor, pod_id: UUID, reason: str) -> ManagedPod:
    """Give a pod no new work. What runs or waits in it stays.

    Raises:
        NotFound, NotPermitted; Conflict: it is gone, or being deleted.
    """
    require(actor, Action.DRAIN_POD, None)
    with transaction.atomic():
        pod = get_pod_locked(pod_id)
        _refuse_over(pod)
        pod.draining, pod.phase_reason = True, reason
        pod.save(update_fields=["draining", "phase_reason"])
        record("pod.drained", actor=actor, cause=reason, data={"pod": pod.pod_name})
    return pod


def drain_if_free(pod_id: UUID, *, actor: Actor, reason: str) -> bool:
    """Drain a pod if all its slots are free; returns whether it drains now.

    The slots are read in a statement of their own after the pod's row is locked: a claim that
    saw the pod open has committed by then, and a later one sees it draining. One that was about
    to take work again drains anew.
    """
    with transaction.atomic():
        pod = get_pod_locked(pod_id)
        if PodSlot.objects.filter(pod=pod).exclude(status=SlotStatus.IDLE).exists():
            return False
        if not pod.draining or pod.phase_reason == RETURNING:
            pod.draining, pod.phase_reason = True, reason
            pod.save(update_fields=["draining", "phase_reason"])
            record("pod.drained", actor=actor, cause=reason, data={"pod": pod.pod_name})
    return True


def is_ended_by_slipway(pod: ManagedPod) -> bool:
    """Whether a pod drains because Slipway itself ends it, so that it must take no work."""
    return pod.draining and pod.phase_reason in DRAIN_REASONS


def undrain_pod(*, actor: Actor, pod_id: UUID, reason: str = "") -> ManagedPod:
    """Let a pod that a person drained take work again.

    Raises:
        NotFound, NotPermitted; Conflict: it is gone, being deleted, or Slipway is ending it.
    """
    require(actor, Action.DRAIN_POD, None)
    with transaction.atomic():
        pod = get_pod_locked(pod_id)
        _refuse_over(pod)
        if is_ended_by_slipway(pod):
            raise Conflict(
                f"{pod.pod_name} is being ended: {pod.phase_reason}. It would take work with it. "
                "Raise the pool's minimum if you want more pods."
            )
        _undrain(pod, actor, reason)
    return pod


def begin_return(pod_id: UUID) -> bool:
    """Note that a pod which was too many is wanted again; it takes no work yet.

    Returns:
        False if it does not drain for that, or not any more.
    """
    return bool(
        ManagedPod.objects.filter(
            pk=pod_id, draining=True, phase_reason__in=[TOO_MANY, RETURNING]
        ).update(phase_reason=RETURNING)
    )


def end_return(pod_id: UUID, *, actor: Actor) -> bool:
    """Let the pod take work again, unless somebody drained it since :func:`begin_return`."""
    with transaction.atomic():
        pod = get_pod_locked(pod_id)
        if not pod.draining or pod.phase_reason != RETURNING:
            return False
        _undrain(pod, actor, RETURNING)
    return True


def _undrain(pod: ManagedPod, actor: Actor, reason: str) -> None:
    pod.draining, pod.phase_reason = False, ""
    pod.save(update_fields=["draining", "phase_reason"])
    record("pod.undrained", actor=actor, cause=reason, data={"pod": pod.pod_name})
    use_room(pod.pool_id)
    notify_controller()


def lose_pod(
    pod_id: UUID, *, actor: Actor, cause: str, silent_seconds: float | None = None
) -> bool:
    """Declare a pod's agent lost and return its work, lease by lease.

    Args:
        silent_seconds: only if it was silent for so long, judged again under the pod's lock: a
            heartbeat may have come since somebody found it silent.

    Returns:
        False when it was lost before, or is not silent.
    """
    with transaction.atomic():
        pod = lock_pod(pod_id)
        if pod.phase in {PodPhase.LOST, PodPhase.GONE}:
            return False
        if silent_seconds is not None:
            limit = ClockTimestamp() - timedelta(seconds=silent_seconds)
            if not ManagedPod.objects.filter(pk=pod_id, last_heartbeat__lt=limit).exists():
                return False
        pod.phase, pod.phase_reason = PodPhase.LOST, cause
        pod.save(update_fields=["phase", "phase_reason"])
        record("pod.lost", actor=actor, cause=cause, data={"pod": pod.pod_name})
    _return_work(pod_id, actor, cause)
    return True


def pod_is_gone(pod_id: UUID, *, actor: Actor, cause: str, on_purpose: bool = False) -> bool:
    """Note that a pod is gone for ever; its work is returned once that is committed.

    Args:
        on_purpose: it was ended, and its pool need not wait before it makes another. The same
            is true of one that drained, unless because something was wrong with it.

    Returns:
        False when it was gone before.
    """
    with transaction.atomic():
        pod = lock_pod(pod_id)
        if pod.phase == PodPhase.GONE:
            return False
        if on_purpose or (pod.draining and pod.phase_reason not in {UNSTARTED, SILENT}):
            pod.failed_launches = 0
        pod.phase, pod.phase_reason = PodPhase.GONE, cause
        pod.save(update_fields=["phase", "phase_reason", "failed_launches"])
        record("pod.gone", actor=actor, cause=cause, data={"pod": pod.pod_name})
        # Tasks come before pods in the lock order. Should this not happen, the controller's
        # pass `return_lost_work` does it.
        after_commit(_return_work, pod_id, actor, cause)
    return True


def _return_work(pod_id: UUID, actor: Actor, cause: str) -> None:
    for lease_id in list(unended().filter(slot__pod_id=pod_id).values_list("pk", flat=True)):
        lose_lease(lease_id, actor=actor, cause=cause, if_silent=True)


def set_pool_credential(
    *,
    actor: Actor,
    pool: Pool,
    kind: str,
    host: str,
    secret: str,
    username: str = "",
    known_hosts: str = "",
) -> PoolCredential:
    """Store a credential for every run in a pool; its secret is never shown again.

    Raises:
        NotPermitted, InvalidInput.
    """
    require(actor, Action.OPERATE, None)
    check_credential(kind, host, secret, known_hosts, username)
    fresh = PoolCredential(pool=pool, kind=kind, host=host)
    keyring().encrypt_row(fresh, secret.encode())
    with transaction.atomic():
        row, _ = PoolCredential.objects.update_or_create(
            pool=pool,
            kind=kind,
            host=host,
            defaults={
                "username": username,
                "known_hosts": known_hosts,
                "secret_ciphertext": fresh.secret_ciphertext,
                "key_id": fresh.key_id,
                "created_by": actor.user,
            },
        )
        record("pool.credential_set", actor=actor, data={"pool": pool.name, "host": host})
        given_changed.send(sender=PoolCredential)
    return row


def pool_credentials(pool: Pool) -> list[tuple[PoolCredential, str]]:
    """Return the pool's credentials with their secrets, for a run."""
    ring = keyring()
    return [(row, ring.decrypt_row(row).decode()) for row in pool.credentials.all()]
