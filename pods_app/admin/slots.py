"""The slot grid: one square per slot, told apart by pattern and words, not by colour alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db.models import Prefetch
from django.utils import timezone
from django.utils.safestring import SafeString

from pods_app.admin.health import health_badge, heard
from pods_app.api.visibility import visible_project_ids
from pods_app.health import doubt_seconds
from pods_app.models import ManagedPod, PodSlot
from pods_app.selectors import slot_counts
from pods_app.states import PodPhase, SlotStatus
from tasks_app.admin.base import object_url
from tasks_app.formats import seconds_words


def with_slots(pod: str = "") -> Prefetch[Any]:
    """Return the prefetch of what :func:`squares` reads, in one query.

    Args:
        pod: from the model to the pod, for example ``pod__``.
    """
    slots = PodSlot.objects.select_related("task__workspace").defer("task__diagnostics")
    return Prefetch(f"{pod}slots", slots)


@dataclass(frozen=True)
class Square:
    """A slot as it is drawn."""

    status: str
    words: str
    url: str
    task: str  # its name; "" if idle or not to be named
    age: str
    mark: str  # of its pod: draining, doubt, gone; "" if all is well


@dataclass(frozen=True)
class Row:
    """A pod with its slots as they are drawn."""

    pod: ManagedPod
    url: str
    squares: list[Square]
    badge: SafeString
    heard: SafeString


def squares(pod: ManagedPod, slots: Iterable[PodSlot], visible: set[Any]) -> list[Square]:
    """Return a pod's slots; a task of a project that may not be seen is not named.

    Args:
        slots: with their tasks and workspaces.
        visible: ids of the projects whose tasks may be named.
    """
    return [_square(pod, slot, visible) for slot in sorted(slots, key=lambda slot: slot.slot_id)]


def _mark(pod: Any) -> tuple[str, str]:
    """Return how slots of a pod look besides their status, and the words for it."""
    if pod.deletion_reason:
        return "gone", "its pod is being deleted"
    if pod.phase in (PodPhase.LOST, PodPhase.GONE):
        return "gone", f"its pod is {pod.phase}"
    if pod.phase == PodPhase.STARTING:
        return "doubt", "its pod is starting"
    if pod.draining or pod.ending:
        return "draining", "draining: takes no work"
    limit = timezone.now() - timedelta(seconds=doubt_seconds())
    if pod.last_heartbeat is None or pod.last_heartbeat < limit:
        return "doubt", "its agent is in doubt"
    return "", ""


def _square(pod: ManagedPod, slot: PodSlot, visible: set[Any]) -> Square:
    age = seconds_words((timezone.now() - slot.updated_at).total_seconds())
    words, url, name = f"Slot {slot.slot_id}: {slot.get_status_display().lower()} for {age}", "", ""
    task = slot.task
    if task is not None:
        if task.workspace.project_id in visible:
            name, url = f"{task.workspace.name} #{task.number}", object_url(task)
            words = f"{words}, {name}"
        else:
            words += ", a task of another project"
    mark, state = _mark(pod)
    return Square(slot.status, f"{words}, {state}" if state else words, url, name, age, mark)


def rows(pods: Iterable[Any], user: Any) -> list[Row]:
    """Return pods with their grids; the pods come `with_load` and :func:`with_slots`."""
    visible = visible_project_ids(user)
    return [
        Row(
            pod,
            object_url(pod),
            squares(pod, pod.slots.all(), visible),
            health_badge(pod, pod.silence),
            heard(pod, pod.silence),
        )
        for pod in pods
    ]


def tally(slots: Iterable[PodSlot]) -> dict[str, Any]:
    """Count slots by status, with their shares in percent for a gauge."""
    counts = slot_counts(slots)
    share = 100 / counts["total"] if counts["total"] else 0
    return {
        **counts,
        "running_share": share * counts[SlotStatus.RUNNING],
        "reserved_share": share * counts[SlotStatus.RESERVED],
    }
