"""What the server wants of every lease of a pod now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pods_app.models import Lease, ManagedPod
from pods_app.states import RESERVING, LeaseState
from tasks_app.models.base import columns
from tasks_app.states import Status


@dataclass(frozen=True)
class Wish:
    """What the server wants of a lease now; ``directive`` is a value of schema.Directive."""

    lease: Lease
    workspace_id: UUID
    directive: str
    keep_directory: bool


#: Every poll asks this, those of idle agents and those that a person waits for: one statement,
#: and of the tasks only what decides.
_WISHES = f"""
SELECT {columns(Lease, "lease")},
    task.workspace_id,
    task.status AS task_status,
    task.kill_requested_at AS task_kill,
    task.cancel_requested_at AS task_cancel
FROM pods_app_lease lease
JOIN pods_app_podslot slot ON slot.id = lease.slot_id
JOIN workspace_tasks task ON task.id = lease.task_id
WHERE slot.pod_id = %s AND lease.state <> 'ended'
ORDER BY lease.id
"""


def wishes(pod: ManagedPod) -> list[Wish]:
    """Return what the server wants of every lease of a pod, oldest first; one query."""
    rows: Any = Lease.objects.raw(_WISHES, [pod.pk])  # leases with annotations
    return [Wish(row, row.workspace_id, _directive(row), row.keep_directory) for row in rows]


def _directive(row: Any) -> str:
    if row.frozen_at and row.task_status == Status.INTERRUPTED:
        return "kill"
    if row.frozen_at and row.task_status == Status.APPLYING:
        return "cancel"
    if row.state == LeaseState.ENDING:
        return "end"
    if row.phase not in RESERVING and row.task_kill:
        return "kill"
    if row.phase not in RESERVING and row.task_cancel:
        return "cancel"
    phase: str = row.phase
    return phase
