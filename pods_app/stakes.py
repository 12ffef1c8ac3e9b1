"""What is in a pod, and what draining or deleting it would do to each piece of it."""

from __future__ import annotations

from dataclasses import dataclass

from pods_app.leases import unended
from pods_app.models import Lease, ManagedPod
from pods_app.outcomes import PLAN_ATTEMPTS
from pods_app.states import LeasePhase, LeaseState
from tasks_app.states import Status


@dataclass(frozen=True)
class Stake:
    """A task in a slot.

    Args:
        now: what it does, for example ``planning``.
        drained, deleted: what becomes of it then; a clause that follows the task's name.
        cut: a deletion could end an apply in the middle.
    """

    lease: Lease
    now: str
    drained: str
    deleted: str
    cut: bool = False


#: Started applies: what they do, and what becomes of them when their pod drains or is deleted.
_CUT = {
    Status.APPLYING: (
        "applying",
        "goes on to its end",
        "is cut off in the middle: nobody knows what it did until a person has looked, the state "
        "stays locked, and it is never applied again by itself",
    ),
    Status.APPLY_UNKNOWN: (
        "applied, its outcome is unknown",
        "stays as it is, until its agent reports or a person says what became of it",
        "stays unknown until a person has looked, and what may still apply is ended",
    ),
}
_PLAN = (
    "planning",
    "goes on; if it finds changes, they wait here for a person",
    "goes back to the queue and is planned again",
)
_PLAN_FAILS = f"fails, because it was cut off {PLAN_ATTEMPTS - 1} times before"
_CONFIRMED = (
    "confirmed",
    "starts here all the same",
    "starts on another pod, as soon as a slot is free",
)
_WAITS_ON = "goes on waiting for a person and is made ready again on another pod"
_RESERVED = ("stays ready here until a person has decided", _WAITS_ON)
_ENDING = ("ending", "ends", "ends")


def stakes_of(pod: ManagedPod) -> list[Stake]:
    """Return what occupies the slots of a pod, in the order of its slots. One query."""
    leases = unended().filter(slot__pod=pod).select_related("task__workspace", "slot")
    return [_stake(lease) for lease in leases.order_by("slot__slot_id")]


def _stake(lease: Lease) -> Stake:
    task = lease.task
    if task.status in _CUT:
        return Stake(lease, *_CUT[Status(task.status)], cut=True)
    if lease.state == LeaseState.ENDING:
        return Stake(lease, *_ENDING)
    if lease.phase == LeasePhase.APPLY:
        return Stake(lease, *_CONFIRMED)
    if lease.phase == LeasePhase.PLAN:
        now, drained, deleted = _PLAN
        return Stake(
            lease, now, drained, _PLAN_FAILS if task.plan_attempts >= PLAN_ATTEMPTS else deleted
        )
    if lease.phase == LeasePhase.WARMUP:
        return Stake(lease, "being made ready", *_RESERVED)
    return Stake(lease, "held apply" if lease.held else "kept directory", *_RESERVED)
