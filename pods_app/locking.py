"""The one lock order: task, pool, pod, slot, lease.

Claims and permits take pool and pod ``FOR KEY SHARE``: heartbeats, which update a pod, do not
block that, but draining and freezing do, because they take the row ``FOR UPDATE``, set their
flag and check again in a second statement. Whoever reads the flag through these functions
reads it under its lock; under READ COMMITTED checking two different rows without locks would
give write skew.

The task is locked first, by `tasks_app.transitions.lock_task`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection, transaction

from pods_app.models import Lease, ManagedPod, PodSlot, Pool
from pods_app.states import SlotStatus


def pool_accepts_work(pool_id: UUID) -> bool:
    """Lock the pool for key share and return whether it is not frozen."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT NOT frozen FROM pods_app_pool WHERE id = %s FOR KEY SHARE", [pool_id]
        )
        row = cursor.fetchone()
    return bool(row and row[0])


def pod_accepts_work(pod_id: UUID) -> bool:
    """Lock the pod for key share; False if it drains, is not online, or is locked for update."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT NOT draining AND phase = 'online' FROM pods_app_managedpod"
            " WHERE id = %s FOR KEY SHARE SKIP LOCKED",
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


def take_idle_slot(pod_id: UUID) -> PodSlot | None:
    """Return an idle slot of the pod, locked; None if all are taken or being taken."""
    return (
        PodSlot.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("pod")
        .filter(pod_id=pod_id, status=SlotStatus.IDLE)
        .order_by("slot_id")
        .first()
    )


def lock_lease(lease_id: UUID) -> Lease:
    """Return the lease and its slot locked, slot first."""
    slot_id = Lease.objects.values_list("slot_id", flat=True).get(pk=lease_id)
    PodSlot.objects.select_for_update().get(pk=slot_id)
    return (
        Lease.objects.select_for_update(of=("self",))
        .select_related("task__workspace", "slot__pod__pool")
        .get(pk=lease_id)
    )


@contextmanager
def impatient(milliseconds: int = 250) -> Iterator[None]:
    """A savepoint whose lock waits end after ``milliseconds``.

    Raises:
        OperationalError: a lock was not to be had; the savepoint is rolled back.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('lock_timeout')")
            before = cursor.fetchone()[0]
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{milliseconds}ms"])
        yield
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])
