"""What an audit row says of an apply whose agent vanished or was cut off: where to look."""

from __future__ import annotations

from typing import Any

from pods_app.models import ApplyPermit, Lease
from tasks_app.models import StateLock, Task


def traces(task: Task, lease: Lease) -> dict[str, Any]:
    """Return where a permitted apply ran, when it was permitted, and what became of its lock.

    Times are in ISO 8601; a lock or a permit that there never was is None.
    """
    pod = lease.slot.pod
    lock = StateLock.objects.filter(task=task).first()
    permit = ApplyPermit.objects.filter(task=task).first()
    return {
        "pod": pod.pod_name,
        "pod_uid": pod.pod_uid,
        "host": pod.host,
        "slot": lease.slot.slot_id,
        "last_heartbeat": pod.last_heartbeat and pod.last_heartbeat.isoformat(),
        "permit_granted_at": permit and permit.granted_at.isoformat(),
        "path": permit and permit.path,
        "lock_id": lock and lock.lock_id,
        "locked_at": lock and lock.created_at.isoformat(),
        "lock_released_at": lock and lock.released_at and lock.released_at.isoformat(),
    }
