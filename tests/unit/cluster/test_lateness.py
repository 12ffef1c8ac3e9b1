"""When a pod that starts is late: one judgement, of the reconciliation and of the autoscaler."""

import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pods_app.autoscaler import demand
from pods_app.cluster.decisions import STARTING_SECONDS, Object, Row, Wish, decide, is_late
from pods_app.cluster.diagnosis import Diagnosis, ObjectPhase
from pods_app.states import UNSTARTED, PodPhase

STARTING, ONLINE = PodPhase.STARTING, PodPhase.ONLINE
YOUNG, OLD = STARTING_SECONDS, STARTING_SECONDS + 1
RUNNING, PENDING, UNKNOWN = ObjectPhase.RUNNING, ObjectPhase.PENDING, ObjectPhase.UNKNOWN
NOW = datetime(2026, 3, 1, tzinfo=UTC)

#: name: (phase, node, seconds, occupied slots, the object's phase, late)
TABLE = {
    "within its deadline": (STARTING, "n1", YOUNG, 0, ObjectPhase.STARTING, False),
    "its container does not start": (STARTING, "n1", OLD, 0, ObjectPhase.STARTING, True),
    "it runs and never registered": (STARTING, "n1", OLD, 0, RUNNING, True),
    "its node vanished before it registered": (STARTING, "n1", OLD, 0, UNKNOWN, True),
    "no node has room": (STARTING, "", OLD, 0, PENDING, False),
    "a node has it since the last look": (STARTING, "", OLD, 0, ObjectPhase.STARTING, False),
    "it keeps something": (STARTING, "n1", OLD, 1, RUNNING, False),
    "online": (ONLINE, "n1", OLD, 0, RUNNING, False),
}


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_both_judge_alike(case):
    phase, node, seconds, occupied, seen, late = case
    assert is_late(phase, node, seconds, occupied) == late

    row = Row(
        id=uuid.UUID(int=1),
        name="pool-0",
        uid="uid",
        phase=phase,
        node=node,
        age_seconds=seconds,
        occupied=occupied,
        template="t1",
    )
    there = Object(
        "pool-0", "uid", Diagnosis(seen, node="" if seen == PENDING else "n1"), busy=occupied > 0
    )
    found = {(one.act, one.reason) for one in decide("pool", Wish(1, "t1"), [row], (), [there])}
    assert (("end", UNSTARTED) in found) == late
    assert (("create", "the pool wants 1 pods") in found) == late, "it is replaced"

    pod = SimpleNamespace(
        pod_name="pool-0",
        phase=phase,
        host=node,
        now=NOW,
        last_launch_at=NOW - timedelta(seconds=seconds),
        changed_at=NOW,
        running=occupied,
        reserved=0,
        draining=False,
        ending=False,
    )
    assert demand._pod(pod).late == late
