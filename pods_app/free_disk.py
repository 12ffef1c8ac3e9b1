"""New work goes only where the disk has room for it; an apply finds its own directory anyway."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from pods_app.models import ManagedPod, WorkDirectory
from pods_app.selectors import has_directory
from pods_app.states import DirectoryState
from tasks_app.models import Task
from tasks_app.states import Status


def low(pod: ManagedPod) -> bool:
    """Return whether a pod reported less than ``disk_free_bytes_min`` bytes."""
    free = pod.disk_free_bytes
    return free is not None and free < settings.SLIPWAY.disk_free_bytes_min


def takes(task: Task) -> Q:
    """Return the condition that the disk of a pod lets it take ``task``."""
    least = settings.SLIPWAY.disk_free_bytes_min
    enough = Q(disk_free_bytes=None) | Q(disk_free_bytes__gte=least)
    if task.status != Status.CONFIRMED:
        return enough
    return enough | has_directory(task)


def keepers(pods: Collection[UUID]) -> set[tuple[UUID, UUID]]:
    """Return which confirmed tasks have their directory on which of ``pods``: task, pod."""
    if not pods:
        return set()
    return set(
        WorkDirectory.objects.filter(
            pod__in=pods, state=DirectoryState.KEPT, task__status=Status.CONFIRMED
        ).values_list("task_id", "pod_id")
    )
