"""What an object says, in words."""

from datetime import UTC, datetime, timedelta

import pytest

from pods_app.cluster.diagnosis import OVERDUE_SECONDS, ObjectPhase, diagnose

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def pod(phase="Pending", node="", deleted=None, limits=None, **status):
    metadata = {"deletionTimestamp": deleted.strftime("%Y-%m-%dT%H:%M:%SZ")} if deleted else {}
    container = {"name": "agent", "resources": {"limits": limits or {}}}
    spec = {"containers": [container]} | ({"nodeName": node} if node else {})
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase, **status}}


def waiting(reason, message="", image="registry.example/agent:1"):
    state = {"waiting": {"reason": reason, "message": message}}
    return [{"name": "agent", "image": image, "state": state}]


def terminated(**ended):
    return [{"name": "agent", "state": {"terminated": ended}}]


def condition(kind, status, reason, message=""):
    return [{"type": kind, "status": status, "reason": reason, "message": message}]


CASES = {
    "no status yet": ({"metadata": {}, "spec": {}}, "pending", "waits for a node"),
    "no room": (
        pod(conditions=condition("PodScheduled", "False", "Unschedulable", "0/3 nodes: cpu")),
        "pending",
        "No node has room for it: 0/3 nodes: cpu",
    ),
    "held back": (
        pod(conditions=condition("PodScheduled", "False", "SchedulingGated", "gate quota")),
        "pending",
        "holds back its scheduling",
    ),
    "being created": (
        pod(node="n1", containerStatuses=waiting("ContainerCreating")),
        "starting",
        "being created",
    ),
    "no image": (
        pod(node="n1", containerStatuses=waiting("ImagePullBackOff", "not found")),
        "starting",
        "Its image registry.example/agent:1 cannot be had: not found",
    ),
    "a secret is missing": (
        pod(node="n1", containerStatuses=waiting("CreateContainerConfigError", 'secret "x"')),
        "starting",
        'does not start: secret "x"',
    ),
    "init container": (
        pod(node="n1", initContainerStatuses=waiting("ErrImagePull", "denied")),
        "starting",
        "denied",
    ),
    "runs": (pod("Running", node="n1"), "running", ""),
    "node not heard of": (
        pod("Running", node="n1", conditions=condition("Ready", "False", "NodeNotReady")),
        "unknown",
        "node n1 is not heard of",
    ),
    "unknown": (pod("Unknown", node="n1"), "unknown", "n1"),
    "evicted": (
        pod("Failed", reason="Evicted", message="The node was low on resource: disk"),
        "ended",
        "evicted it: The node was low on resource: disk",
    ),
    "preempted": (
        pod("Failed", conditions=condition("DisruptionTarget", "True", "PreemptionByScheduler")),
        "ended",
        "higher priority",
    ),
    "node gone": (
        pod("Failed", conditions=condition("DisruptionTarget", "True", "DeletionByPodGC")),
        "ended",
        "node is gone",
    ),
    "an unknown disruption": (
        pod("Failed", conditions=condition("DisruptionTarget", "True", "Other", "because")),
        "ended",
        "Because",
    ),
    "out of memory": (
        pod(
            "Failed",
            limits={"memory": "4Gi"},
            containerStatuses=terminated(reason="OOMKilled", exitCode=137),
        ),
        "ended",
        "ran out of memory; its limit is 4Gi",
    ),
    "out of memory without a limit": (
        pod("Failed", containerStatuses=terminated(reason="OOMKilled", exitCode=137)),
        "ended",
        "ran out of memory.",
    ),
    "too long": (
        pod("Failed", reason="DeadlineExceeded", message="Pod was active too long"),
        "ended",
        "DeadlineExceeded: Pod was active too long",
    ),
    "exit code": (
        pod("Failed", containerStatuses=terminated(exitCode=1, message="no token\n")),
        "ended",
        "ended with exit code 1: no token.",
    ),
    "signal": (
        pod("Failed", containerStatuses=terminated(exitCode=137, signal=9)),
        "ended",
        "ended with signal 9.",
    ),
    "drained": (
        pod("Succeeded", containerStatuses=terminated(exitCode=0)),
        "ended",
        "ended by itself",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_an_object_says_where_the_pod_is_and_why(case):
    thing, phase, words = case
    seen = diagnose(thing, NOW)
    assert seen.phase == ObjectPhase(phase)
    assert words in seen.reason
    assert (seen.reason == "") == (words == "")
    assert not seen.deleting and not seen.overdue


def test_events_explain_what_the_object_does_not():
    events = [
        {"reason": "FailedMount", "message": "old", "lastTimestamp": "2026-05-01T10:00:00Z"},
        {"reason": "FailedMount", "message": "volume x", "lastTimestamp": "2026-05-01T11:00:00Z"},
        {"reason": "Pulling", "message": "noise", "lastTimestamp": "2026-05-01T11:30:00Z"},
    ]
    seen = diagnose(pod(node="n1", containerStatuses=waiting("ContainerCreating")), NOW, events)
    assert seen.reason == "FailedMount: volume x"
    assert diagnose(pod(), NOW, [{"reason": "Pulled"}]).reason == "It waits for a node."


def test_a_deletion_is_overdue_only_after_its_grace():
    late = NOW - timedelta(seconds=OVERDUE_SECONDS + 1)
    assert not diagnose(pod("Running", node="n1", deleted=NOW), NOW).overdue
    seen = diagnose(pod("Running", node="n1", deleted=late), NOW)
    assert (seen.deleting, seen.overdue) == (True, True)
    assert "node n1 has not confirmed" in seen.reason
    assert "the cluster has not confirmed" in diagnose(pod(deleted=late), NOW).reason


def test_a_reason_fits_its_column():
    long = pod("Failed", reason="Evicted", message="x" * 2000)
    assert len(diagnose(long, NOW).reason) == 500
