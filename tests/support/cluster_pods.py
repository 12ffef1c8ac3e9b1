"""Pods of a pool in the tests' cluster, where nothing runs in them."""

from __future__ import annotations

import uuid
from typing import Any

from pods_app.models import ManagedPod, PodSlot, Pool
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, SlotStatus
from tests.support.factories import make_task
from tests.support.namespaces import Space


def acts(pool: Pool) -> list[str]:
    """Reconcile; returns what was done, as "create pool-0"."""
    return [f"{change.action} {change.pod}" for change in reconcile_pods(pool)]


def resize(pool: Pool, number: int) -> None:
    Pool.objects.filter(pk=pool.pk).update(min_pods=number)
    pool.refresh_from_db()


def online(pod: ManagedPod) -> None:
    """What an agent's registration does."""
    ManagedPod.objects.filter(pk=pod.pk).update(
        phase=PodPhase.ONLINE, phase_reason="", agent_id=str(uuid.uuid4())
    )


def running(space: Space, pod: ManagedPod) -> dict[str, Any]:
    """What scheduler and kubelet do; returns the object as it was before."""
    found = space.pods.get_pod(pod.pod_name)
    assert found is not None
    space.bind(found)
    space.set_status(found, phase="Running")
    return found


def occupy(pod: ManagedPod, status: SlotStatus = SlotStatus.RESERVED) -> None:
    """Let a slot be taken, without a lease."""
    slot = PodSlot.objects.filter(pod=pod).first()
    assert slot is not None
    PodSlot.objects.filter(pk=slot.pk).update(status=status, task=make_task(), task_type="plan")
