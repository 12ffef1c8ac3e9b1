"""Pure: what a pod's object and events say, as a phase and a reason in words.

The reasons are those that kubelet, scheduler and controllers write (Kubernetes' API reference:
PodStatus, PodConditions; "Pod disruption conditions").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

#: A pod that still exists so long after its grace period has ended is stuck, in seconds.
OVERDUE_SECONDS = 60
_REASON_MAX = 500


class ObjectPhase(StrEnum):
    """Where a pod is, as the cluster sees it."""

    PENDING = "pending"  # no node has it yet
    STARTING = "starting"  # a node has it, the agent's container does not run yet
    RUNNING = "running"
    UNKNOWN = "unknown"  # its node is not heard of
    ENDED = "ended"  # its containers have ended and stay so


@dataclass(frozen=True)
class Diagnosis:
    """A pod's phase and what to tell people about it; "" if there is nothing to tell."""

    phase: ObjectPhase
    reason: str = ""
    node: str = ""
    deleting: bool = False
    overdue: bool = False  # it should have ended, and the cluster did not confirm it


_IMAGE = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_CREATING = {"ContainerCreating", "PodInitializing", ""}
_DISRUPTIONS = {
    "PreemptionByScheduler": "a pod of higher priority took its place",
    "DeletionByTaintManager": "its node was tainted, because it is not heard of or is drained",
    "EvictionByEvictionAPI": "it was evicted, for example by a drain of its node",
    "DeletionByPodGC": "its node is gone",
    "TerminationByKubelet": "the kubelet ended it, for want of resources or at a shutdown",
}
#: Events that explain why a container is not created.
_START_EVENTS = {
    "FailedMount",
    "FailedAttachVolume",
    "FailedCreatePodSandBox",
    "FailedScheduling",
    "NetworkNotReady",
}


def diagnose(
    pod: dict[str, Any], now: datetime, events: Sequence[dict[str, Any]] = ()
) -> Diagnosis:
    """Judge a pod.

    Args:
        pod: its object, as the API returns it.
        now: aware; compared with the object's own times.
        events: the pod's, in any order; only asked where the object itself says nothing.
    """
    metadata, status = pod["metadata"], pod.get("status") or {}
    deletion = metadata.get("deletionTimestamp")
    overdue = bool(deletion) and now > _time(deletion) + timedelta(seconds=OVERDUE_SECONDS)
    phase, reason = _judge(pod, status, events)
    node = (pod.get("spec") or {}).get("nodeName", "")
    if overdue:
        where = f"node {node}" if node else "the cluster"
        reason = (
            f"It was to end by {deletion}, and {where} has not confirmed that it did. Its process "
            "may still run: it is not replaced by force."
        )
    return Diagnosis(phase, reason[:_REASON_MAX], node, bool(deletion), overdue)


def _judge(
    pod: dict[str, Any], status: dict[str, Any], events: Sequence[dict[str, Any]]
) -> tuple[ObjectPhase, str]:
    phase = status.get("phase") or "Pending"
    if phase in {"Failed", "Succeeded"}:
        return ObjectPhase.ENDED, _why_ended(pod, status)
    ready = _condition(status, "Ready")
    if phase == "Unknown" or (ready.get("reason") == "NodeNotReady" and not _is_true(ready)):
        node = (pod.get("spec") or {}).get("nodeName", "")
        return ObjectPhase.UNKNOWN, f"Its node {node} is not heard of; its process may still run."
    if phase == "Running":
        return ObjectPhase.RUNNING, ""
    if not (pod.get("spec") or {}).get("nodeName"):
        return ObjectPhase.PENDING, _why_pending(status, events)
    return ObjectPhase.STARTING, _why_starting(status, events)


def _why_pending(status: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    scheduled = _condition(status, "PodScheduled")
    if scheduled.get("reason") == "Unschedulable":
        return f"No node has room for it: {_message(scheduled)}"
    if scheduled.get("reason") == "SchedulingGated":
        return f"Something holds back its scheduling: {_message(scheduled)}"
    return _from_events(events) or "It waits for a node."


def _why_starting(status: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    for container in _containers(status):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in _IMAGE:
            return f"Its image {container.get('image', '')} cannot be had: {_message(waiting)}"
        if reason not in _CREATING:
            name = container.get("name", "")
            return f"Its container “{name}” does not start: {_message(waiting)}"
    return _from_events(events) or "Its container is being created."


def _why_ended(pod: dict[str, Any], status: dict[str, Any]) -> str:
    reason, disruption = status.get("reason", ""), _condition(status, "DisruptionTarget")
    if reason == "Evicted":
        return f"Its node evicted it: {_message(status)}"
    if disruption and _is_true(disruption):
        words = _DISRUPTIONS.get(disruption.get("reason", ""))
        return f"{(words or _message(disruption)).capitalize()}."
    for container in _containers(status):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("reason") == "OOMKilled":
            return _out_of_memory(pod, container.get("name", ""))
    if reason:
        return f"{reason}: {status.get('message', '')}".rstrip(": ")
    for container in _containers(status):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            said = f": {ended['message'].strip()}" if ended.get("message") else ""
            return f"Its container “{container.get('name', '')}” ended with {_ending(ended)}{said}."
    return "Its agent ended by itself."


def _out_of_memory(pod: dict[str, Any], name: str) -> str:
    for container in (pod.get("spec") or {}).get("containers") or []:
        if container.get("name") == name:
            limit = ((container.get("resources") or {}).get("limits") or {}).get("memory", "")
            if limit:
                return f"Its container “{name}” ran out of memory; its limit is {limit}."
    return f"Its container “{name}” ran out of memory."


def _ending(ended: dict[str, Any]) -> str:
    return f"signal {ended['signal']}" if ended.get("signal") else f"exit code {ended['exitCode']}"


def _from_events(events: Sequence[dict[str, Any]]) -> str:
    """Return the newest event that explains why a pod does not start."""
    telling = [event for event in events if event.get("reason") in _START_EVENTS]
    newest = max(telling, key=_event_time, default=None)
    return f"{newest['reason']}: {newest.get('message', '')}" if newest else ""


def _event_time(event: dict[str, Any]) -> str:
    # RFC 3339 in UTC sorts as text.
    series = (event.get("series") or {}).get("lastObservedTime")
    return series or event.get("lastTimestamp") or event.get("eventTime") or ""


def _containers(status: dict[str, Any]) -> Iterable[dict[str, Any]]:
    yield from status.get("initContainerStatuses") or []
    yield from status.get("containerStatuses") or []


def _condition(status: dict[str, Any], kind: str) -> dict[str, Any]:
    for condition in status.get("conditions") or []:
        if condition.get("type") == kind:
            found: dict[str, Any] = condition
            return found
    return {}


def _is_true(condition: dict[str, Any]) -> bool:
    return condition.get("status") == "True"


def _message(part: dict[str, Any]) -> str:
    return part.get("message") or part.get("reason") or "no reason is given"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
