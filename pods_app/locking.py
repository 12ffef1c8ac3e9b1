"""The one lock order: task, pool, pod, slot, lease.

Claims and permits take pool and pod ``FOR KEY SHARE``: heartbeats, which update a pod, do not
block that, but draining and freezing do, because they take the row ``FOR UPDATE``, set their
flag and check again in a second statement. Whoever reads the flag through these functions
reads it under its lock; under READ COMMITTED checking two different rows without locks would
give write skew.

The task is locked first, by `tasks_app.transitions.lock_task`; the pool next, by
`pods_app.freeze.gate`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.functions import Least

from pods_app.models import Lease, ManagedPod, PodSlot, Pool
from pods_app.states import SlotStatus
from tasks_app.models.base import columns


def pod_accepts_work(pod_id: UUID) -> bool:
    """Lock the pod for key share; False if it drains, is not online, or is locked for update.

    Never waits: a pod that somebody drains or loses at this moment takes no work.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT NOT draining AND NOT ending AND phase = 'online' FROM pods_app_managedpod"
            " WHERE id = %s FOR KEY SHARE SKIP LOCKED",
            [pod_id],
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def pod_may_apply(pod_id: UUID) -> bool:
    """Lock the pod for key share; False if it is lost, gone, or deleted by a person."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT phase NOT IN ('lost', 'gone') AND deletion_reason = ''"
            " FROM pods_app_managedpod"
            " WHERE id = %s FOR KEY SHARE",
            [pod_id],
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def lock_pool(pool_id: UUID) -> Pool:
    """Return the pool locked for update, as draining and freezing need it."""
    return Pool.objects.select_for_update().get(pk=pool_id)


def lock_pod(pod_id: UUID) -> ManagedPod:
    """Return the pod locked for update, as draining and losing need it."""
    return ManagedPod.objects.select_for_update(of=("self",)).select_related("pool").get(pk=pod_id)


def usable_slot(prefix: str = "") -> Q:
    """Return the condition that a slot may take work: within what agent and pool offer now.

    Args:
        prefix: from the queried model to the slot, for example ``slots__``.
    """
    pod = prefix.removesuffix("slots__") if prefix else "pod__"
    return Q(
        **{
            f"{prefix}slot_id__lt": Least(F(f"{pod}slot_limit"), F(f"{pod}pool__slots_per_pod")),
        }
    )


def take_idle_slot(pod_id: UUID) -> PodSlot | None:
    """Return an idle slot of the pod, locked; None if all are taken or being taken."""
    return (
        PodSlot.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("pod")
        .filter(usable_slot(), pod_id=pod_id, status=SlotStatus.IDLE)
        .order_by("slot_id")
        .first()
    )


def _lock_slot_of(lease_id: UUID) -> None:
    """Lock the slot of a lease, which it keeps for ever, before the lease itself."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT slot.id FROM pods_app_podslot slot"
            " JOIN pods_app_lease lease ON lease.slot_id = slot.id"
            " WHERE lease.id = %s FOR UPDATE OF slot",
            [lease_id],
        )


def lock_lease(lease_id: UUID) -> Lease:
    """Return the lease and its slot locked, slot first."""
    _lock_slot_of(lease_id)
    return (
        Lease.objects.select_for_update(of=("self",))
        .select_related("task__workspace", "slot__pod__pool")
        .get(pk=lease_id)
    )


#: What is joined is locked after what it joins.
_SLOT_THEN_LEASE = f"""
WITH mine AS MATERIALIZED (
    SELECT slot.id FROM pods_app_podslot slot
    JOIN pods_app_lease lease ON lease.slot_id = slot.id
    WHERE lease.id = %(lease)s AND lease.task_id = %(task)s
    FOR UPDATE OF slot
)
SELECT {columns(Lease, "lease")} FROM mine
JOIN pods_app_lease lease ON lease.slot_id = mine.id
WHERE lease.id = %(lease)s
FOR UPDATE OF lease
"""


def lock_lease_alone(lease_id: UUID, task_id: UUID) -> Lease:
    """Do the same in one statement and without what the lease refers to: a permit waits for it."""
    return Lease.objects.raw(_SLOT_THEN_LEASE, {"lease": lease_id, "task": task_id})[0]


#: The value before, and the new one for the rest of the transaction.
_HURRY = """
WITH before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS value)
SELECT value, set_config('lock_timeout', %s, true) FROM before
"""


@contextmanager
def impatient(milliseconds: int = 250) -> Iterator[None]:
    """A savepoint whose lock waits end after ``milliseconds``.

    Raises:
        OperationalError: a lock was not to be had; the savepoint is rolled back.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_HURRY, [f"{milliseconds}ms"])
            before = cursor.fetchone()[0]
        yield
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
