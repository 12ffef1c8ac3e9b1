"""What an agent shall do now: level-triggered, always the whole wish."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from uuid import UUID

from django.db import DatabaseError

from agents_app.schema import Assignment, Directive, KnownAssignment, WorkReply, WorkRequest
from agents_app.services.job import jobs_for
from agents_app.tokens import Caller
from pods_app.leases import mark_delivered
from pods_app.models import Lease
from pods_app.notify import Confirmed
from pods_app.wishes import Wish, wishes

log = logging.getLogger(__name__)

#: What the agent has must be what the server would give it now.
_NEEDS_PRESENT_JOB = {Directive.WARMUP, Directive.HOLD}


def next_work(caller: Caller, message: WorkRequest, *, last: bool) -> WorkReply | None:
    """Return the server's wishes if they differ from what the agent knows, else None.

    An assignment the agent knows already comes without its job: the agent has it. So does the
    apply of a hold whose job it has.

    Args:
        last: answer in any case; the poll is over.
    """
    wanted = wishes(caller.pod)
    known = {_key(entry): entry for entry in message.known}
    fresh = [wish for wish in wanted if not _up_to_date(wish, known.get(_of(wish)))]
    if not last and not fresh and not _differs(wanted, message.known):
        return None
    held = {
        entry.lease_id: entry for entry in message.known if entry.directive in _NEEDS_PRESENT_JOB
    }
    jobs = jobs_for(
        [wish.lease.pk for wish in fresh if _needs_job(wish, held.get(wish.lease.pk))], caller.pod
    )
    if fresh:
        mark_delivered(
            {
                wish.lease: job.environment_digest if (job := jobs.get(wish.lease.pk)) else None
                for wish in fresh
            }
        )
    return WorkReply(
        assignments=[
            Assignment(
                lease_id=wish.lease.pk,
                epoch=wish.lease.epoch,
                task_id=wish.lease.task_id,
                workspace_id=wish.workspace_id,
                directive=Directive(wish.directive),
                keep_directory=wish.keep_directory,
                job=jobs.get(wish.lease.pk),
            )
            for wish in wanted
        ]
    )


def ready_applies(message: WorkRequest, confirmed: Iterable[Confirmed]) -> list[UUID]:
    """Return the leases of confirmed plans whose agent can ask for the permit without a job."""
    present = {one.lease_id: one.environment_digest for one in confirmed}
    return [
        entry.lease_id
        for entry in message.known
        if entry.directive in _NEEDS_PRESENT_JOB
        and entry.environment_digest
        and entry.environment_digest == present.get(entry.lease_id)
    ]


def applies_delivered(leases: list[UUID]) -> None:
    """Note that the agent was told to begin these applies; the next poll does where this fails."""
    try:
        mark_delivered(dict.fromkeys(Lease.objects.filter(pk__in=leases).order_by("id")))
    except DatabaseError as error:
        log.warning("that applies were delivered was not noted: %s", error)


def _up_to_date(wish: Wish, known: KnownAssignment | None) -> bool:
    """Return whether the agent knows the wish, and has the job for it."""
    if known is None or wish.directive not in _NEEDS_PRESENT_JOB:
        return known is not None
    return _has_present_job(wish, known)


def _has_present_job(wish: Wish, known: KnownAssignment) -> bool:
    # What changes a job outdates the digest before it takes effect (`services.holds`).
    present = wish.lease.environment_digest
    return bool(present) and known.environment_digest == present


def _needs_job(wish: Wish, held: KnownAssignment | None) -> bool:
    """To stop a run, an agent that restarted must know its secrets: they are taken out of its log.

    Args:
        held: what the agent knows of the lease's warm-up or hold.
    """
    if wish.directive == Directive.APPLY:
        return held is None or not _has_present_job(wish, held)
    return wish.directive != Directive.END


def _key(entry: KnownAssignment) -> tuple[UUID, int, str]:
    return entry.lease_id, entry.epoch, entry.directive


def _of(wish: Wish) -> tuple[UUID, int, str]:
    return wish.lease.pk, wish.lease.epoch, wish.directive


def _differs(wanted: list[Wish], known: Iterable[KnownAssignment]) -> bool:
    """A lease the agent is ending and the server has forgotten is no difference: it is over."""
    here = {_of(wish) for wish in wanted}
    ids = {wish.lease.pk for wish in wanted}
    there = {
        _key(entry) for entry in known if entry.directive != Directive.END or entry.lease_id in ids
    }
    return here != there
