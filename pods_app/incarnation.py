"""Which incarnation of the database this is, and what to do when it is older than reality.

A restored database would bring permits and serials back and so repeat an apply. Agents report
the newest lease they ever had and the newest permit; one that this database does not know
proves the restore.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction
from django.db.models import Model

from pods_app.leases import end, unended
from pods_app.models import ApplyPermit, Installation, Lease, ManagedPod
from tasks_app.actors import Actor
from tasks_app.ids import uuid7
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import Status
from tasks_app.transitions import lock_task, record, transition


def installation() -> Installation:
    """Return the one row, created on first use."""
    row = Installation.objects.first()
    return row or Installation.objects.get_or_create(singleton=True)[0]


def doubt_if_unknown(
    pod: ManagedPod, incarnation: UUID, leases: set[UUID], permitted: Collection[UUID] = ()
) -> bool:
    """Stop permits when an agent knows leases, or permits, that the database does not.

    Only what an agent had in an earlier incarnation proves nothing. One that this database
    never heard of proves as much as the present one: the copy that was restored is older than
    the last `begin_incarnation`.

    Args:
        permitted: leases whose apply was permitted, as the agent remembers.

    Returns:
        Whether the database is older than reality.
    """
    unknown = _unknown(Lease, "pk", leases) | _unknown(ApplyPermit, "lease_id", permitted)
    if not unknown:
        return False
    row = installation()
    if str(incarnation) in row.former:
        return False
    sentence = (
        f"Agent {pod.pod_name} knows work this database does not: the database was restored "
        "from an older copy. No apply is permitted until `manage.py begin_incarnation`."
    )
    with transaction.atomic():
        row = Installation.objects.select_for_update().get(pk=row.pk)
        if incarnation != row.incarnation and str(incarnation) not in row.former:
            # From here on it is one of the past: the doubt must not come back after it ended.
            row.former = [*row.former, str(incarnation)]
        if not row.doubt:
            row.doubt = sentence
            record(
                "installation.doubted",
                actor=Actor.agent(pod.agent_id),
                cause=sentence,
                data={"leases": sorted(map(str, unknown))},
            )
        row.save(update_fields=["former", "doubt"])
    return True


def _unknown(model: type[Model], column: str, ids: Collection[UUID]) -> set[UUID]:
    """Return the ids that no row of ``model`` has."""
    if not ids:
        return set()
    rows = model._default_manager.filter(**{f"{column}__in": ids})
    return set(ids) - set(rows.values_list(column, flat=True))


def begin_incarnation(*, actor: Actor) -> dict[str, int]:
    """Make a restored database safe: part of the restore procedure.

    Waiting plans are void, permitted applies unknown, every lease is over, and agents are told
    a new incarnation, which ends the doubt.

    Returns:
        How many tasks were ``discarded``, ``failed``, marked ``unknown`` or sent ``back``.
    """
    counts = {"discarded": 0, "failed": 0, "unknown": 0, "back": 0}
    cause = "a new incarnation began after the database was restored"
    for task_id in Task.objects.filter(
        status__in=[Status.APPLY_PENDING, Status.CONFIRMED, Status.APPLYING, Status.PLANNING]
    ).values_list("pk", flat=True):
        with transaction.atomic():
            task = lock_task(task_id)
            for lease in unended(Lease.objects.filter(task=task)).select_related("slot__pod"):
                if task.status != Status.APPLYING:
                    end(lease, actor=actor, reason=cause)
            match task.status:
                case Status.APPLY_PENDING:
                    transition(task, Status.DISCARDED, actor=actor, cause=cause)
                    counts["discarded"] += 1
                case Status.CONFIRMED:
                    transition(task, Status.FAILED, actor=actor, cause=cause, error=cause)
                    counts["failed"] += 1
                case Status.APPLYING:
                    transition(
                        task,
                        Status.APPLY_UNKNOWN,
                        actor=actor,
                        cause=cause,
                        waiting_reason="Waits for its agent to report again, or for a person's "
                        f"verdict: {cause}",
                    )
                    counts["unknown"] += 1
                case Status.PLANNING:
                    transition(
                        task,
                        Status.PENDING,
                        actor=actor,
                        cause=cause,
                        waiting_reason="Waits to be planned again",
                    )
                    counts["back"] += 1
    with transaction.atomic():
        row = Installation.objects.select_for_update().get(pk=installation().pk)
        row.former = [*row.former, str(row.incarnation)]
        row.incarnation, row.doubt = uuid7(), ""
        row.save(update_fields=["incarnation", "former", "doubt"])
        Installation.objects.filter(pk=row.pk).update(began_at=ClockTimestamp())
        record("installation.incarnation_began", actor=actor, data=counts)
    return counts
