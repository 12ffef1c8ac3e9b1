"""What becomes of task and lease when an agent reports, or is lost.

`tasks_app` decides what a result means for the task; this module keeps lease and slot in step
with it, in one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from pods_app.freeze.gate import Start, refusal
from pods_app.leases import FINISHED, end, find_lease, hold, unended
from pods_app.models import ApplyPermit, Lease, ManagedPod
from pods_app.states import LeasePhase, LeaseState, PodPhase
from pods_app.traces import traces
from pods_app.waiting import set_reason
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, StaleLease
from tasks_app.models import StateLock, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import warmups
from tasks_app.services.plans import PlanFacts, task_planned
from tasks_app.services.state import release_leftover_lock
from tasks_app.states import FINAL, Status, TaskType
from tasks_app.transitions import lock_task, transition

#: A plan lost with its agent is planned again, so often; then it fails.
PLAN_ATTEMPTS = 3
#: A confirmed apply that never started is placed again, so often; then it fails.
APPLY_PLACEMENTS = 5


@dataclass(frozen=True)
class Report:
    """The end of a phase as an agent reports it; ``outcome`` is a value of schema.Outcome."""

    outcome: str
    error: str = ""
    diagnostics: list[dict[str, Any]] = field(default_factory=list)
    plan: PlanFacts | None = None
    path: str = ""
    path_reason: str = ""
    state_recovered: bool = False


def finish_plan(*, lease_id: UUID, epoch: int, pod: ManagedPod, report: Report) -> str:
    """Record the end of a plan. Repeating it is harmless.

    Returns:
        The next directive: ``hold`` (or already ``apply``) after a plan with changes, else ``end``.

    Raises:
        NotFound, StaleLease: as `leases.find_lease`.
    """
    actor = Actor.agent(pod.agent_id)
    with transaction.atomic():
        lock_task(find_lease(lease_id, epoch, pod).task_id)
        closed = refusal(pod.pool_id, Start.HOLD)
        lease = find_lease(lease_id, epoch, pod, lock=True)
        if lease.state == LeaseState.ENDED:
            return _repeated(lease)
        if lease.phase != LeasePhase.PLAN:
            return "end" if lease.state == LeaseState.ENDING else lease.phase
        task = lease.task
        if lease.state == LeaseState.ENDING or task.status != Status.PLANNING:
            end(lease, actor=actor, reason=FINISHED)
            return "end"
        waits = (
            report.outcome == "planned"
            and task.type == TaskType.PLAN_AND_APPLY
            and not task.cancel_requested_at
        )
        if waits and not closed:
            hold(lease)
        else:
            end(lease, actor=actor, reason=FINISHED)
        _planned(task, lease, report, actor)
        # Its own directory, just made: only Terraform is to be started, which the agent tells.
        if task.status == Status.APPLY_PENDING and not closed:
            warmups.ready(task, agent_id=pod.agent_id, actor=actor, lease=lease, cause="planned")
        lease.refresh_from_db()
        return "end" if lease.state != LeaseState.LIVE else lease.phase


def _repeated(lease: Lease) -> str:
    if lease.end_reason != FINISHED:
        raise StaleLease()
    return "end"


def _planned(task: Task, lease: Lease, report: Report, actor: Actor) -> None:
    facts: dict[str, Any] = {"error": report.error, "diagnostics": report.diagnostics}
    if task.cancel_requested_at or report.outcome == "cancelled":
        transition(
            task,
            Status.CANCELLED,
            actor=actor,
            cause="cancelled while planning",
            lease=lease,
            **facts,
        )
    elif report.outcome in {"planned", "no_changes"} and report.plan:
        task_planned(
            task,
            report.plan,
            has_changes=report.outcome == "planned",
            lease=lease,
            actor=actor,
            diagnostics=report.diagnostics,
        )
    elif report.outcome in {"interrupted", "not_started"}:
        _plan_again(task, lease, actor, report.error or "the plan was cut off")
    else:
        facts["error"] = report.error or "The plan failed."
        transition(task, Status.FAILED, actor=actor, cause=facts["error"], lease=lease, **facts)


def _plan_again(task: Task, lease: Lease, actor: Actor, cause: str) -> None:
    if task.cancel_requested_at:
        transition(
            task, Status.CANCELLED, actor=actor, cause="cancelled while planning", lease=lease
        )
    elif task.plan_attempts < PLAN_ATTEMPTS:
        transition(
            task,
            Status.PENDING,
            actor=actor,
            cause=cause,
            lease=lease,
            waiting_reason="Waits to be planned again",
        )
    else:
        last = cause.rstrip(".")  # of an agent, which says whole sentences
        sentence = f"Planning was cut off {PLAN_ATTEMPTS} times; the last time: {last}."
        transition(task, Status.FAILED, actor=actor, cause=sentence, lease=lease, error=sentence)


def finish_apply(*, lease_id: UUID, epoch: int, pod: ManagedPod, report: Report) -> str:
    """Record the end of an apply; late reports of the permitted lease are accepted.

    Returns:
        ``end``.

    Raises:
        NotFound, StaleLease: as `leases.find_lease`; a lease fenced by a verdict is stale.
        Conflict: the lease has not come to an apply.
    """
    actor = Actor.agent(pod.agent_id)
    with transaction.atomic():
        lease = find_lease(lease_id, epoch, pod, lock=True)
        if lease.state == LeaseState.ENDED:
            return _repeated(lease)
        if lease.phase != LeasePhase.APPLY:
            raise Conflict(f"The lease is in its phase “{lease.phase}”: there is no apply to end.")
        end(lease, actor=actor, reason=FINISHED)
        task = lease.task
        if task.status in FINAL:
            return "end"
        if task.status == Status.CONFIRMED:
            _not_permitted(task, lease, report, actor)
            return "end"
        if task.status == Status.APPLY_UNKNOWN:
            transition(
                task,
                Status.APPLYING,
                actor=actor,
                cause="the same lease reports again",
                lease=lease,
            )
        _applied(task, lease, report, actor)
    return "end"


def _not_permitted(task: Task, lease: Lease, report: Report, actor: Actor) -> None:
    """An apply that ended without a permit: provably nothing was applied."""
    if task.cancel_requested_at or report.outcome == "cancelled":
        transition(task, Status.CANCELLED, actor=actor, cause="cancelled before it started")
    elif report.outcome == "not_started":
        _place_again(task, lease, actor, report.error or "the apply did not start")
    else:
        sentence = report.error or "The apply could not be prepared; plan again."
        if report.outcome == "interrupted":  # what its agent does not know, the permits tell
            sentence = (
                "The agent was cut off before it had a permit: nothing was applied. Plan again."
            )
        transition(
            task,
            Status.FAILED,
            actor=actor,
            cause=sentence,
            lease=lease,
            error=sentence,
            diagnostics=report.diagnostics,
        )


def _place_again(task: Task, lease: Lease, actor: Actor, cause: str) -> None:
    """A confirmed apply lost its slot before its permit: it waits for another, but not for ever."""
    if Lease.objects.filter(task=task, phase=LeasePhase.APPLY).count() < APPLY_PLACEMENTS:
        set_reason(task, f"Waits to be placed again: {cause}"[:500])
        return
    last = cause.rstrip(".")
    sentence = (
        f"The apply was placed {APPLY_PLACEMENTS} times and never started; the last time: {last}."
    )
    transition(task, Status.FAILED, actor=actor, cause=sentence, lease=lease, error=sentence)


_APPLY_TARGETS = {
    "applied": Status.APPLIED,
    "cancelled": Status.CANCELLED,
    "interrupted": Status.INTERRUPTED,
}
_STOPPED = "A freeze interrupted it: Terraform stopped cleanly and saved its state. Plan again."


def _applied(task: Task, lease: Lease, report: Report, actor: Actor) -> None:
    target = _APPLY_TARGETS.get(report.outcome, Status.FAILED)
    error = report.error
    if target == Status.CANCELLED and lease.frozen_at and not task.cancel_requested_at:
        # Nobody asked for it: somebody must look, unless it had not even begun.
        target = Status.FAILED if never_locked(task) else Status.INTERRUPTED
        error = _STOPPED if target == Status.INTERRUPTED else "A freeze stopped the apply."
    if target == Status.FAILED:
        error = error or "The apply failed."
        if report.outcome == "not_started" or never_locked(task):
            error = f"{error} Nothing was applied."
    transition(
        task,
        target,
        actor=actor,
        cause=error or f"Terraform: {report.outcome}",
        lease=lease,
        error=error,
        diagnostics=report.diagnostics,
        apply_path=report.path or task.apply_path,
        apply_path_reason=report.path_reason or task.apply_path_reason,
    )
    if target != Status.INTERRUPTED and not report.state_recovered:
        # The process is gone and its state is here: a lock it left behind protects nothing.
        release_leftover_lock(task=task, actor=actor)


def end_reported(*, lease_id: UUID, epoch: int, pod: ManagedPod, detail: str = "") -> None:
    """The agent let a lease go and its process tree is gone. Repeating it is harmless.

    An agent may also let go of what it was not asked to: a plan is then made again, a waiting
    plan loses its reservation, an apply without permit is placed again.

    Raises:
        NotFound, StaleLease: as `leases.find_lease`.
        Conflict: a permitted apply ends with its result, never like this.
    """
    actor = Actor.agent(pod.agent_id)
    with transaction.atomic():
        lease = find_lease(lease_id, epoch, pod, lock=True)
        if lease.state == LeaseState.ENDED:
            return
        task = lease.task
        if task.status in {Status.APPLYING, Status.APPLY_UNKNOWN}:
            raise Conflict("The apply was permitted; report its result instead.")
        end(lease, actor=actor, reason=detail or "the agent let go")
        if task.status == Status.PLANNING:
            _plan_again(task, lease, actor, detail or "the agent let the plan go")
        elif task.status == Status.CONFIRMED and lease.phase == LeasePhase.APPLY:
            _place_again(task, lease, actor, detail or "the agent let the apply go")


def lose_lease(lease_id: UUID, *, actor: Actor, cause: str, if_silent: bool = False) -> None:
    """The agent that had this lease is gone, or does not know it any more.

    Args:
        if_silent: do nothing if its pod is heard again by now: whoever asks looked before.
    """
    with transaction.atomic():
        found = Lease.objects.filter(pk=lease_id).first()
        if found is None:
            return
        lease = find_lease(lease_id, found.epoch, found.slot.pod, lock=True)
        if lease.state == LeaseState.ENDED or (if_silent and not _is_silent(lease)):
            return
        if if_silent and lease.frozen_at and lease.slot.pod.phase == PodPhase.LOST:
            return  # a freeze had it killed, and only its agent can say that it is
        task = lease.task
        permitted = lease.phase == LeasePhase.APPLY and task.status in {
            Status.APPLYING,
            Status.APPLY_UNKNOWN,
        }
        if not permitted:
            end(lease, actor=actor, reason=cause)
            if task.status == Status.PLANNING:
                _plan_again(task, lease, actor, cause)
            elif task.status == Status.CONFIRMED and lease.phase == LeasePhase.APPLY:
                _place_again(task, lease, actor, cause)
        elif provably_nothing_applied(task):
            end(lease, actor=actor, reason=cause)
            transition(
                task,
                Status.FAILED,
                actor=actor,
                cause=cause,
                lease=lease,
                error=f"{cause}; the state was never locked: nothing was applied.",
            )
        elif task.status == Status.APPLYING:
            transition(
                task,
                Status.APPLY_UNKNOWN,
                actor=actor,
                lease=lease,
                cause=cause,
                data=traces(task, lease),
            )


_SILENT = (PodPhase.LOST, PodPhase.GONE)


def _is_silent(lease: Lease) -> bool:
    return lease.slot.pod.phase in _SILENT or lease.task.status == Status.APPLY_UNKNOWN


def return_lost_work(*, actor: Actor) -> int:
    """Return what lost and gone pods still have: level-triggered, whoever failed to before.

    Unknown applies end here too, once the second gate proves that they applied nothing.

    Returns:
        How many leases were looked at.
    """
    leases = list(
        unended()
        .filter(
            Q(slot__pod__phase__in=_SILENT)
            | Q(phase=LeasePhase.APPLY, task__status=Status.APPLY_UNKNOWN)
        )
        .values_list("pk", "task__status")
    )
    for lease_id, status in leases:
        unknown = status == Status.APPLY_UNKNOWN
        lose_lease(
            lease_id,
            actor=actor,
            cause="the agent vanished after the permit" if unknown else "its agent is lost",
            if_silent=True,
        )
    return len(leases)


def fence(task: Task, *, actor: Actor, cause: str) -> None:
    """End the lease of a started apply: nothing its agent still writes has an effect.

    The caller holds the task's row. A task that was applying is unknown from now on, and only a
    person can say what became of it.
    """
    lease = unended().select_related("slot__pod").filter(task=task).first()
    if lease is not None:
        end(lease, actor=actor, reason=cause)
    waits = f"Waits for a person's verdict: {cause}"
    if task.status == Status.APPLYING:
        transition(
            task, Status.APPLY_UNKNOWN, actor=actor, lease=lease, cause=cause, waiting_reason=waits
        )
    elif task.status == Status.APPLY_UNKNOWN:
        set_reason(task, waits)


def provably_nothing_applied(task: Task) -> bool:
    """Return whether the second gate proves that a permitted apply applied nothing.

    True when the permit expired and the state was never locked under it. A foreign backend has
    no second gate, so nothing is provable there.
    """
    expired = ApplyPermit.objects.filter(task=task, expires_at__lt=ClockTimestamp())
    return expired.exists() and never_locked(task)


def never_locked(task: Task) -> bool:
    """Return whether the state was never locked for a task, without which nothing is applied."""
    return task.has_own_state and not StateLock.objects.filter(task=task).exists()


def resumed(lease: Lease, *, actor: Actor) -> None:
    """The same lease reports again after its agent was lost: the task is applying again."""
    with transaction.atomic():
        lease = find_lease(lease.pk, lease.epoch, lease.slot.pod, lock=True)
        if lease.state == LeaseState.LIVE and lease.task.status == Status.APPLY_UNKNOWN:
            transition(
                lease.task,
                Status.APPLYING,
                actor=actor,
                lease=lease,
                cause="the same lease reports again",
            )
