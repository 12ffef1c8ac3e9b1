"""What is done about a pool, as a table: its rows, the cluster's objects, the decisions."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from pods_app.cluster.decisions import (
    LOST_SECONDS,
    STARTING_SECONDS,
    Object,
    Pause,
    Row,
    Wish,
    decide,
)
from pods_app.cluster.diagnosis import Diagnosis, ObjectPhase
from pods_app.states import OUTDATED, RETURNING, SILENT, TOO_MANY, UNSTARTED, PodPhase

RUNNING = Diagnosis(ObjectPhase.RUNNING, node="n1")
ONE, TWO = Wish(1, "t1"), Wish(2, "t1")


def row(number=0, **changes):
    made = Row(
        id=uuid.UUID(int=number + 1),
        name=f"pool-{number}",
        uid=f"uid-{number}",
        template="t1",
        node="n1",
    )
    return replace(made, **changes)


def thing(number=0, diagnosis=RUNNING, **changes):
    made = Object(
        name=f"pool-{number}",
        uid=f"uid-{number}",
        diagnosis=diagnosis,
        version="7",
        row_id=str(uuid.UUID(int=number + 1)),
    )
    return replace(made, **changes)


def starting(phase=ObjectPhase.STARTING, reason="Its container is being created."):
    return Diagnosis(phase, reason, "n1")


def said(reason):
    return {"phase": PodPhase.STARTING, "reason": reason}


CREATING = said("Its container is being created.")
ENDED = Diagnosis(ObjectPhase.ENDED, "It ran out of memory.", "n1")
DELETING = replace(RUNNING, deleting=True)
STUCK = replace(DELETING, overdue=True, reason="Not confirmed.")
PAUSE = Pause(
    3,
    8,
    datetime(2026, 3, 1, 23, 59, 59, tzinfo=timezone(timedelta(hours=2))),
    "Its node evicted it: disk pressure",
)
LOST_NODE = Diagnosis(ObjectPhase.UNKNOWN, "Its node n1 is not heard of.", "n1")

#: name: (wish, rows, objects, decisions as "act pool-number")
TABLE = {
    "nothing is wanted": (Wish(0, "t1"), [], [], []),
    "missing": (TWO, [], [], ["create pool-0", "create pool-1"]),
    "a person deletes it, whatever runs there": (
        ONE,
        [row(deletion="deleted by ada", draining=True, occupied=2)],
        [thing(busy=True)],
        ["delete pool-0", "create pool-1"],
    ),
    "it was deleted and is gone": (
        ONE,
        [row(deletion="deleted by ada", draining=True, occupied=2)],
        [],
        ["gone pool-0", "create pool-1"],
    ),
    "it was deleted before it was made": (
        Wish(0, "t1"),
        [row(uid="", deletion="deleted by ada", draining=True)],
        [],
        ["gone pool-0"],
    ),
    "all is well": (ONE, [row()], [thing()], []),
    "a row whose pod was never asked for": (ONE, [row(uid="")], [], ["make pool-0"]),
    "the same, asked for a moment ago": (ONE, [row(uid="", pause_seconds=3)], [], []),
    "the answer to a creation was lost": (ONE, [row(uid="")], [thing()], ["note pool-0"]),
    "somebody else's pod has the name": (
        ONE,
        [row(uid="")],
        [thing(ours=False, row_id="")],
        ["gone pool-0", "leave pool-0", "create pool-1"],
    ),
    "another row's pod has the name": (
        ONE,
        [row(uid="")],
        [thing(row_id=str(uuid.UUID(int=99)))],
        ["gone pool-0", "create pool-1"],
    ),
    "a name of somebody else's is not taken": (
        ONE,
        [],
        [thing(ours=False, row_id="")],
        ["leave pool-0", "create pool-1"],
    ),
    "gone from the cluster": (ONE, [row()], [], ["gone pool-0", "create pool-1"]),
    "recreated under its name": (
        ONE,
        [row()],
        [thing(uid="another", row_id="")],
        ["gone pool-0", "adopt pool-0"],
    ),
    "failed": (
        ONE,
        [row()],
        [thing(diagnosis=ENDED)],
        ["gone pool-0", "clean pool-0"],
    ),
    "failed while busy": (
        ONE,
        [row(occupied=2)],
        [thing(diagnosis=ENDED, busy=True)],
        ["gone pool-0", "clean pool-0"],
    ),
    "failed again and again": (
        replace(TWO, pause=PAUSE),
        [],
        [],
        [
            "wait pool-0: The next pod waits 8 s, until 21:59:59 UTC, because the last 3 ended "
            "soon after their start: Its node evicted it: disk pressure"
        ],
    ),
    "failed once": (
        replace(ONE, pause=Pause(1, 2, PAUSE.until)),
        [],
        [],
        [
            "wait pool-0: The next pod waits 2 s, until 21:59:59 UTC, because the last one ended "
            "soon after its start"
        ],
    ),
    "failed again and again, and none is missing": (
        replace(ONE, pause=PAUSE),
        [row()],
        [thing()],
        [],
    ),
    "the cluster refused it a moment ago": (
        ONE,
        [row(uid="", node="", **said("The quota is used up."), pause_seconds=2)],
        [],
        ["wait pool-0: The quota is used up."],
    ),
    "the cluster refused it a moment ago, and it is not wanted any more": (
        Wish(0, "t1"),
        [row(uid="", node="", **said("The quota is used up."), pause_seconds=2)],
        [],
        [f"end pool-0: {TOO_MANY}"],
    ),
    "the cluster refused it, and may have made it all the same": (
        ONE,
        [row(uid="", node="", **said("No answer."), pause_seconds=2)],
        [thing(diagnosis=starting(reason="No answer."))],
        ["note pool-0", "explain pool-0"],
    ),
    "failed again and again, and a draining one is wanted again": (
        replace(ONE, pause=PAUSE),
        [row(draining=True, reason=TOO_MANY)],
        [thing()],
        ["undrain pool-0"],
    ),
    "failed again and again, and no pod can be made": (Wish(1, "", pause=PAUSE), [], [], []),
    "pending, and why": (
        ONE,
        [row(phase=PodPhase.STARTING)],
        [thing(diagnosis=starting())],
        ["explain pool-0"],
    ),
    "pending, and that is known": (ONE, [row(**CREATING)], [thing(diagnosis=starting())], []),
    "stuck on its node": (
        ONE,
        [row(**CREATING, age_seconds=STARTING_SECONDS + 1)],
        [thing(diagnosis=starting())],
        [f"end pool-0: {UNSTARTED}", "create pool-1"],
    ),
    "runs, but never registered": (
        ONE,
        [row(phase=PodPhase.STARTING, age_seconds=STARTING_SECONDS + 1)],
        [thing()],
        [f"end pool-0: {UNSTARTED}", "create pool-1"],
    ),
    "no node has room: it keeps its place in the queue": (
        ONE,
        [row(**said("No node."), node="", age_seconds=99999)],
        [thing(diagnosis=Diagnosis(ObjectPhase.PENDING, "No node."))],
        [],
    ),
    "a node has taken it after a long wait: its deadline begins": (
        ONE,
        [row(**CREATING, node="", age_seconds=99999)],
        [thing(diagnosis=starting())],
        ["explain pool-0"],
    ),
    "became busy": (ONE, [row(occupied=1)], [thing()], ["mark pool-0"]),
    "became idle": (ONE, [row()], [thing(busy=True)], ["mark pool-0"]),
    "too many: the youngest idle one": (
        ONE,
        [row(0), row(1)],
        [thing(0), thing(1)],
        [f"end pool-1: {TOO_MANY}"],
    ),
    "too many: a busy one stays": (
        ONE,
        [row(0), row(1, occupied=1)],
        [thing(0), thing(1, busy=True)],
        [f"end pool-0: {TOO_MANY}"],
    ),
    "too many, all busy": (
        Wish(0, "t1"),
        [row(0, occupied=3), row(1, occupied=1)],
        [thing(0, busy=True), thing(1, busy=True)],
        [],
    ),
    "too many: one that still starts goes first": (
        ONE,
        [row(0, **CREATING), row(1)],
        [thing(0, diagnosis=starting()), thing(1)],
        [f"end pool-0: {TOO_MANY}"],
    ),
    "drained as too many, and not deleted yet": (
        ONE,
        [row(0), row(1, draining=True, reason=TOO_MANY)],
        [thing(0), thing(1)],
        [f"end pool-1: {TOO_MANY}"],
    ),
    "drained as too many, and wanted again": (
        TWO,
        [row(0), row(1, draining=True, reason=TOO_MANY)],
        [thing(0), thing(1)],
        ["undrain pool-1"],
    ),
    "brought back halfway, and still wanted": (
        TWO,
        [row(0), row(1, draining=True, reason=RETURNING)],
        [thing(0), thing(1)],
        ["undrain pool-1"],
    ),
    "brought back halfway, and not wanted any more": (
        ONE,
        [row(0), row(1, draining=True, reason=RETURNING)],
        [thing(0), thing(1)],
        [f"end pool-1: {TOO_MANY}"],
    ),
    "drained as too many, and occupied all the same": (
        ONE,
        [row(0), row(1, draining=True, reason=TOO_MANY, occupied=1)],
        [thing(0), thing(1, busy=True)],
        [f"end pool-0: {TOO_MANY}", "undrain pool-1"],
    ),
    "too many, but idle for less than the delay": (
        replace(ONE, delay_seconds=60),
        [row(0, idle_seconds=59), row(1, idle_seconds=1)],
        [thing(0), thing(1)],
        [],
    ),
    "too many: the one that was idle for longest": (
        replace(ONE, delay_seconds=60),
        [row(0, idle_seconds=61), row(1, idle_seconds=59), row(2, idle_seconds=600)],
        [thing(0), thing(1), thing(2)],
        [f"end pool-2: {TOO_MANY}", f"end pool-0: {TOO_MANY}"],
    ),
    "too many: of those that drain already, though idle for shorter": (
        ONE,
        [row(0, idle_seconds=600), row(1, idle_seconds=1, draining=True, reason=TOO_MANY)],
        [thing(0), thing(1)],
        [f"end pool-1: {TOO_MANY}"],
    ),
    "not more than wanted: idle for ever, and they stay": (
        TWO,
        [row(0, idle_seconds=9999), row(1, idle_seconds=9999)],
        [thing(0), thing(1)],
        [],
    ),
    "drained by a person": (
        ONE,
        [row(draining=True, reason="disk")],
        [thing()],
        ["create pool-1"],
    ),
    "outdated": (ONE, [row(template="t0")], [thing()], [f"end pool-0: {OUTDATED}"]),
    "outdated and busy": (ONE, [row(template="t0", occupied=1)], [thing(busy=True)], []),
    "outdated: one at a time": (
        TWO,
        [row(0, template="t0"), row(1, template="t0")],
        [thing(0), thing(1)],
        [f"end pool-0: {OUTDATED}"],
    ),
    "outdated: not while another starts": (
        TWO,
        [row(0, template="t0"), row(1, **CREATING)],
        [thing(0), thing(1, diagnosis=starting())],
        [],
    ),
    "outdated, and no node takes it": (
        ONE,
        [row(template="t0", **said("No node fits."))],
        [thing(diagnosis=starting(ObjectPhase.PENDING, "No node fits."))],
        [f"end pool-0: {OUTDATED}"],
    ),
    "outdated: those that have not started go before those that serve": (
        Wish(3, "t1"),
        [row(0, template="t0"), row(1, template="t0", **CREATING), row(2, **CREATING)],
        [thing(0), thing(1, diagnosis=starting()), thing(2, diagnosis=starting())],
        [f"end pool-1: {OUTDATED}"],
    ),
    "outdated and drained, not deleted yet": (
        ONE,
        [row(template="t0", draining=True, reason=OUTDATED)],
        [thing()],
        [f"end pool-0: {OUTDATED}", "create pool-1"],
    ),
    "no pod can be made": (Wish(1, ""), [row(template="t0")], [thing()], []),
    "no pod can be made, and one is missing": (Wish(1, ""), [row(uid="")], [], []),
    "deleted by somebody": (
        ONE,
        [row(occupied=1)],
        [thing(diagnosis=DELETING, busy=True)],
        ["drain pool-0", "create pool-1"],
    ),
    "stuck terminating, deleted by somebody": (
        ONE,
        [row()],
        [thing(diagnosis=STUCK)],
        ["drain pool-0: Not confirmed.", "create pool-1"],
    ),
    "stuck terminating": (
        ONE,
        [row(draining=True, occupied=1)],
        [thing(diagnosis=STUCK, busy=True)],
        ["explain pool-0: Not confirmed.", "create pool-1"],
    ),
    "silent, without work": (
        ONE,
        [row(phase=PodPhase.LOST, reason="no heartbeat", silent_seconds=LOST_SECONDS + 1)],
        [thing()],
        [f"end pool-0: {SILENT}", "create pool-1"],
    ),
    "silent for a moment": (
        ONE,
        [row(phase=PodPhase.LOST, reason="no heartbeat", silent_seconds=LOST_SECONDS - 1)],
        [thing()],
        ["create pool-1"],
    ),
    "silent, and it may still apply": (
        ONE,
        [row(phase=PodPhase.LOST, reason="no heartbeat", silent_seconds=9999, occupied=1)],
        [thing(busy=True)],
        ["create pool-1"],
    ),
    "its node is lost": (
        ONE,
        [row(phase=PodPhase.LOST, reason="no heartbeat", occupied=1)],
        [thing(busy=True, diagnosis=LOST_NODE)],
        ["explain pool-0: Its node n1 is not heard of.", "create pool-1"],
    ),
    "without a row: adopted": (ONE, [], [thing()], ["adopt pool-0"]),
    "without a row, ended": (
        ONE,
        [],
        [thing(diagnosis=ENDED)],
        ["clean pool-0", "create pool-1"],
    ),
    "without a row, ending": (ONE, [], [thing(diagnosis=DELETING)], ["create pool-1"]),
    "frozen: what drains is not brought back": (
        replace(ONE, frozen=True),
        [row(draining=True, reason=TOO_MANY)],
        [thing()],
        [],
    ),
    "frozen: nothing is made": (replace(TWO, frozen=True), [], [], []),
    "frozen, and the freeze has deleted it": (
        replace(ONE, frozen=True),
        [row(0, occupied=1), row(1)],
        [],
        [],
    ),
    "frozen, and its agent is lost meanwhile": (
        replace(ONE, frozen=True),
        [row(phase=PodPhase.LOST)],
        [],
        ["gone pool-0"],
    ),
    "frozen before it was made": (replace(ONE, frozen=True), [row(uid="")], [], ["gone pool-0"]),
}


def run(wish, rows, objects, over=()):
    return [
        f"{one.act} {one.name}: {one.reason}" for one in decide("pool", wish, rows, over, objects)
    ]


@pytest.mark.parametrize("case", TABLE.values(), ids=TABLE.keys())
def test_decisions(case):
    wish, rows, objects, expected = case
    found = run(wish, rows, objects)
    assert len(found) == len(expected), found
    for decision, start in zip(found, expected, strict=True):
        assert f"{decision}:".startswith(f"{start}:") or decision == start, found


def test_an_object_whose_row_is_over_is_removed():
    found = run(Wish(0, "t1"), [], [thing()], over=[uuid.UUID(int=1)])
    assert found == ["clean pool-0: its row is over"]
    frozen = run(Wish(0, "t1", frozen=True), [], [thing()], over=[uuid.UUID(int=1)])
    assert frozen == ["delete pool-0: its row is over"]


def test_no_decision_ends_a_pod_with_an_occupied_slot():
    for name, (wish, rows, objects, _) in TABLE.items():
        busy = [replace(one, occupied=1) for one in rows]
        for decision in decide("pool", wish, busy, (), objects):
            assert decision.act != "end", name


def test_frozen_pools_make_nothing():
    for name, (wish, rows, objects, _) in TABLE.items():
        for decision in decide("pool", replace(wish, frozen=True), rows, (), objects):
            assert decision.act not in {"create", "make", "undrain"}, name


def test_decisions_settle():
    """Ten pods too few, then ten too many: never more than wanted, and nothing back and forth."""
    created = [one.name for one in decide("pool", Wish(10, "t1"), [], (), [])]
    assert created == [f"pool-{number}" for number in range(10)]
    rows = [row(number) for number in range(10)]
    objects = [thing(number) for number in range(10)]
    ended = {one.name for one in decide("pool", Wish(3, "t1"), rows, (), objects)}
    assert ended == {f"pool-{number}" for number in range(3, 10)}
    left = [one for one in rows if one.name not in ended]
    assert decide("pool", Wish(3, "t1"), left, (), objects[:3]) == []
