"""What lies ready for the apply of a plan that waits: the only writer of `Task.warmup_*`.

Every change is an UPDATE guarded by what the warm-up is now (`states.WARMUP_TRANSITIONS`) and
by the task's still waiting, with its audit row ``warmup.<what>``. The caller holds the task's
row; a guard that does not hold changes nothing, and the function returns False.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.signals import warmup_wanted
from tasks_app.states import WARMUP_ATTEMPTS, Status, WarmupStatus, warmup_sources_of
from tasks_app.transitions import lock_task, record

#: How long after the first, second, … failure in a row the next attempt waits, in seconds.
BACK_OFF_SECONDS = (10, 60)
#: So many leases of a plan end without a pause before the next warm-up …
FREE_LEASES = 5
#: … then the pause doubles with each, from this to that many seconds: what kills its agents
#: again and again does so ever more rarely, and not at all once the plan is not kept warm.
LEASE_BACK_OFF_SECONDS, LEASE_BACK_OFF_SECONDS_MAX = 10, 3600
#: What lay ready for so long did not kill its agent: it is warmed again without a pause.
SETTLED_SECONDS = 600

_FIELDS = (
    "warmup_agent_id",
    "warmup_status",
    "warmup_at",
    "warmup_expires_at",
    "warmup_retry_count",
    "warmup_retry_at",
    "warmup_error",
)


def begin(task: Task, *, agent_id: str, actor: Actor, lease: Any) -> bool:
    """An agent was given the warm-up."""
    return _move(
        task,
        WarmupStatus.WARMING,
        actor=actor,
        lease=lease,
        warmup_agent_id=agent_id,
        warmup_expires_at=None,
        warmup_retry_at=None,
    )


def ready(task: Task, *, agent_id: str, actor: Actor, lease: Any, cause: str = "") -> bool:
    """The agent has a directory that is proven to be that of the plan. Again: renewed."""
    return renew([task.pk]) > 0 or _move(
        task,
        WarmupStatus.READY,
        actor=actor,
        lease=lease,
        cause=cause,
        warmup_agent_id=agent_id,
        warmup_expires_at=_expiry(),
        warmup_retry_count=0,
        warmup_retry_at=None,
        warmup_error="",
    )


def renew(task_ids: Iterable[UUID]) -> int:
    """What is ready counts as that for another ``warmup_seconds``; no audit row: only a time.

    Returns:
        How many were ready.
    """
    return Task.objects.filter(
        pk__in=task_ids, status=Status.APPLY_PENDING, warmup_status=WarmupStatus.READY
    ).update(warmup_expires_at=_expiry())


def fail(task: Task, *, cause: str, permanent: bool, actor: Actor, lease: Any) -> bool:
    """An attempt failed; the next one waits, and there is none after ``WARMUP_ATTEMPTS``.

    Args:
        cause: one sentence for people.
        permanent: another attempt can do no better.
    """
    failures = _present(task)[1] + 1
    again = not permanent and failures < WARMUP_ATTEMPTS
    return _move(
        task,
        WarmupStatus.FAILED,
        actor=actor,
        lease=lease,
        cause=cause,
        data={"attempt": failures, "permanent": permanent},
        warmup_expires_at=None,
        warmup_retry_count=failures,
        warmup_retry_at=_in(BACK_OFF_SECONDS[failures - 1]) if again else None,
        warmup_error=cause[:500],
    )


def expire(task: Task, *, cause: str, actor: Actor, lease: Any = None) -> bool:
    """Nobody renewed what was ready: it counts no more."""
    return _move(
        task, WarmupStatus.EXPIRED, actor=actor, lease=lease, cause=cause, warmup_expires_at=None
    )


def lease_over(task: Task, *, lease: Any, cause: str, actor: Actor, unasked: bool) -> bool:
    """The lease under which it was warmed gives its slot back: it begins anew, elsewhere.

    Args:
        unasked: the agent was lost or let go by itself, which counts as a failed attempt if it
            was at it.
    """
    counted: dict[str, Any] = {}
    if unasked:
        status, failures = _present(task)
        if status == WarmupStatus.WARMING and failures + 1 >= WARMUP_ATTEMPTS:
            return fail(task, cause=cause, permanent=False, actor=actor, lease=lease)
        if status == WarmupStatus.WARMING:
            counted = {"warmup_retry_count": failures + 1}
    return _move(
        task,
        WarmupStatus.NONE,
        actor=actor,
        lease=lease,
        cause=cause,
        sources=[WarmupStatus.WARMING, WarmupStatus.READY],
        waiting=[Status.APPLY_PENDING, Status.CONFIRMED],
        warmup_agent_id=None,
        warmup_expires_at=None,
        warmup_retry_at=_lease_pause(task, lease.epoch) if unasked else None,
        **counted,
    )


def reset(task: Task, *, cause: str, actor: Actor) -> bool:
    """Forget what is ready and what failed: it begins anew."""
    return _move(
        task,
        WarmupStatus.NONE,
        actor=actor,
        cause=cause,
        warmup_agent_id=None,
        warmup_expires_at=None,
        warmup_retry_count=0,
        warmup_retry_at=None,
        warmup_error="",
    )


def warm_again(*, actor: Actor, task_id: UUID) -> Task:
    """Let a person have a failed warm-up tried again, as often as at first.

    Raises:
        NotFound, NotPermitted; Conflict: there is no failed warm-up of a plan that waits.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.CONFIRM, task)
        if task.status != Status.APPLY_PENDING or task.warmup_status != WarmupStatus.FAILED:
            raise Conflict("Only a failed warm-up of a plan that waits can be tried again.")
        reset(task, cause="a person asked for another attempt", actor=actor)
        warmup_wanted.send(sender=Task, task=task)
    return task


_EVENTS = {WarmupStatus.NONE: "warmup.reset"}


def _move(
    task: Task,
    target: WarmupStatus,
    *,
    actor: Actor,
    lease: Any = None,
    cause: str = "",
    data: dict[str, Any] | None = None,
    sources: Collection[WarmupStatus] | None = None,
    waiting: Collection[Status] = (Status.APPLY_PENDING,),
    **fields: Any,
) -> bool:
    allowed = [s for s in warmup_sources_of(target) if sources is None or s in sources]
    with transaction.atomic():
        moved = Task.objects.filter(
            pk=task.pk, status__in=waiting, warmup_status__in=allowed
        ).update(warmup_status=target, warmup_at=ClockTimestamp(), **fields)
        if not moved:
            return False
        agent_id = fields.get("warmup_agent_id") or task.warmup_agent_id
        task.refresh_from_db(fields=_FIELDS)
        record(
            _EVENTS.get(target, f"warmup.{target}"),
            actor=actor,
            task=task,
            lease=lease,
            cause=cause,
            data={"agent": agent_id, **(data or {})},
        )
    return True


def _present(task: Task) -> tuple[str, int]:
    """Return what the warm-up is now and how often in a row it failed, as the row says."""
    return Task.objects.values_list("warmup_status", "warmup_retry_count").get(pk=task.pk)


def _in(seconds: float) -> Any:
    return ClockTimestamp() + timedelta(seconds=seconds)


def _expiry() -> Any:
    return _in(settings.SLIPWAY.warmup_seconds)


def _lease_pause(task: Task, epoch: int) -> Any:
    if epoch <= FREE_LEASES or _lay_ready_for_long(task):
        return None
    seconds = LEASE_BACK_OFF_SECONDS * 2 ** min(epoch - FREE_LEASES - 1, 12)
    return _in(min(seconds, LEASE_BACK_OFF_SECONDS_MAX))


def _lay_ready_for_long(task: Task) -> bool:
    since = ClockTimestamp() - timedelta(seconds=SETTLED_SECONDS)
    settled = Task.objects.filter(warmup_status=WarmupStatus.READY, warmup_at__lte=since)
    return settled.filter(pk=task.pk).exists()
