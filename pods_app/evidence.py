"""What is known of a permitted apply whose end is not: what a person judges by."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import BooleanField, ExpressionWrapper, F, Q

from pods_app import health
from pods_app.models import ApplyPermit, Lease
from tasks_app.models import Event, StateLock, StateVersion, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.verdicts import STILL_RUNNING_EVENT
from tasks_app.states import Status

_EXPIRED = ExpressionWrapper(Q(expires_at__lt=ClockTimestamp()), output_field=BooleanField())
_NOTES_MAX = 20


@dataclass(frozen=True)
class Evidence:
    """Everything about one apply.

    Args:
        permit: None if it was forgotten with an older copy of the database.
        expired: whether the time in which the permit lets take the lock is over.
        lease: the one with the permit; when its agent last named it is ``reported_at``.
        agent: how the agent is now.
        locks: of the state, taken under the permit, oldest first; released ones as well.
        written: states that the apply stored, oldest first.
        notes: of people who saw it run, newest first.
        meaning: what follows from it, as sentences.
    """

    permit: ApplyPermit | None
    expired: bool
    lease: Lease | None
    agent: health.Health | None
    locks: list[StateLock]
    written: list[StateVersion]
    notes: list[Event]
    meaning: str


def evidence_of(task: Task) -> Evidence | None:
    """Return what is known of an apply that somebody has to judge or acknowledge, else None."""
    if task.status not in (Status.APPLY_UNKNOWN, Status.INTERRUPTED):
        return None
    permit = ApplyPermit.objects.filter(task=task).annotate(expired=_EXPIRED).first()
    lease = None
    if permit is not None:
        leases = Lease.objects.filter(pk=permit.lease_id).select_related("slot__pod")
        lease = leases.annotate(silence=health.age("slot__pod__")).get()
    locks = list(StateLock.objects.filter(task=task).order_by("id"))
    expired = permit is not None and permit.expired
    return Evidence(
        permit=permit,
        expired=expired,
        lease=lease,
        agent=None if lease is None else health.judge(lease.slot.pod, lease.silence),
        locks=locks,
        written=list(
            StateVersion.objects.filter(task=task, created_at__gte=F("task__confirmed_at"))
            .only("serial", "created_at", "resource_count")
            .order_by("serial")
        ),
        notes=list(
            Event.objects.filter(task=task, kind=STILL_RUNNING_EVENT).select_related("user")[
                :_NOTES_MAX
            ]
        ),
        meaning=_meaning(task, locks, over=expired or lease is None or lease.ended_at is not None),
    )


def _meaning(task: Task, locks: list[StateLock], *, over: bool) -> str:
    """Say what follows.

    Args:
        over: the permit lets nobody take the lock any more.
    """
    if not task.has_own_state:
        return (
            "Its state lies in the configuration's own backend: look there whether it is locked "
            "and what was written."
        )
    if not locks:
        if over:
            return "The state was never locked and cannot be any more: nothing was applied."
        return "The state was not locked yet; until the permit expires it still may be."
    last = locks[-1]
    if last.released_at is None:
        return (
            "The state is still locked by this apply: Terraform was cut off in the middle, or it "
            "still runs. Look for the process where the agent ran."
        )
    if last.forced_by_id is not None:
        return "The lock was taken away by force: what Terraform wrote afterwards was refused."
    return (
        "Terraform released the lock, so it came to its end by itself; the state it stored last "
        "says what was done."
    )
