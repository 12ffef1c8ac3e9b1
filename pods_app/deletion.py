"""Deleting a pod because a person says so.

The wish is a mark on the pod's row, made under its lock: from then on it gets neither work nor a
permit, so that no apply can begin that the person did not see. Whoever reaches the pod, which is
the reconciliation of its kind, ends it and all that runs in it, and forgets it; its work is then
returned as that of every pod that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from pods_app.models import ManagedPod
from pods_app.notify import notify_controller
from pods_app.services import get_pod_locked, pod_is_gone
from pods_app.stakes import Stake, stakes_of
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput
from tasks_app.formats import actor_words
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

_REASON_MAX = 250


def obstacle(pod: ManagedPod) -> str:
    """Return why a pod cannot be deleted in the state it is in; "" if it can."""
    if pod.phase == PodPhase.GONE:
        return "The pod is gone."
    if pod.deletion_reason:
        return "It is being deleted already."
    if pod.kind == PoolKind.STATIC and pod.phase != PodPhase.LOST:
        return "Its agent was started by hand: stop it there. Once it is lost it can be deleted."
    return ""


def delete_pod(*, actor: Actor, pod_id: UUID, reason: str, confirm: str = "") -> ManagedPod:
    """Have a pod ended with all that runs in it, and replaced if its pool wants it.

    A static pod whose agent is lost is only forgotten: nothing here reaches its machine.

    Args:
        reason: for the audit, and for those whose work it interrupts.
        confirm: the pod's name, if that could cut off an apply.

    Returns:
        The pod, which is gone once the reconciliation has ended it.

    Raises:
        NotFound, NotPermitted; Conflict: as `obstacle`.
        InvalidInput: there is no reason, or an apply runs and ``confirm`` is not its name.
    """
    require(actor, Action.DELETE_POD, None)
    if not reason.strip():
        raise InvalidInput("Say why; others will read it.", field="reason")
    with transaction.atomic():
        pod = get_pod_locked(pod_id)
        if hindrance := obstacle(pod):
            raise Conflict(hindrance)
        # A statement of its own: a permit that saw the pod has committed by now, and a later one
        # sees the mark.
        hit = stakes_of(pod)
        _check_confirmed(pod, hit, confirm)
        cause = f"deleted by {actor_words(actor.name)}: {reason.strip()}"[:_REASON_MAX]
        record(
            "pod.deleted",
            actor=actor,
            cause=reason.strip(),
            data={
                "pod": pod.pod_name,
                "pool": pod.pool.name,
                "uid": pod.pod_uid,
                "hit": [{"task": str(one.lease.task_id), "was": one.now} for one in hit],
            },
        )
        if pod.kind == PoolKind.STATIC:
            pod_is_gone(pod.pk, actor=actor, cause=cause)
        else:
            pod.draining, pod.deletion_reason, pod.phase_reason = True, cause, cause
            pod.save(update_fields=["draining", "deletion_reason", "phase_reason"])
        notify_controller()
    pod.refresh_from_db()
    return pod


def _check_confirmed(pod: ManagedPod, hit: Sequence[Stake], confirm: str) -> None:
    cut = [f"{one.lease.task.workspace.name} #{one.lease.task.number}" for one in hit if one.cut]
    if cut and confirm != pod.pod_name:
        applies = "an apply" if len(cut) == 1 else f"{len(cut)} applies"
        raise InvalidInput(
            f"It would cut off {applies} ({', '.join(cut)}). Drain the pod and wait, or, if that "
            f"is meant, type its name: {pod.pod_name}",
            field="confirm",
        )
