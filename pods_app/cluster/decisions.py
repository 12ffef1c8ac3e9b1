"""Pure: a pool's rows and the cluster's objects become what is to be done.

Level-triggered: nothing but the present state counts, and each decision is safe to repeat.
Worker and reserved pods differ by their slots alone: a pod with an occupied one is never ended
here, whatever else is true of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

from pods_app.cluster.diagnosis import Diagnosis, ObjectPhase
from pods_app.cluster.names import pod_name
from pods_app.states import (
    ENDED_THERE,
    OUTDATED,
    RETURNING,
    SILENT,
    TOO_MANY,
    UNSTARTED,
    PodPhase,
)
from tasks_app.formats import seconds_words

#: A pod that a node has and whose agent has not registered for so long is replaced, in seconds.
STARTING_SECONDS = 600
#: A silent pod without work is replaced after so many seconds.
LOST_SECONDS = 120


class Act(StrEnum):
    """What can be done about a pod."""

    ENTER = "create"  # a row, then its object
    MAKE = "make"  # the object of a row
    NOTE = "note"  # the object of a row exists: take over its UID
    ADOPT = "adopt"  # an object of ours without a row
    GONE = "gone"  # the row: its object has ended, or does not exist
    CLEAN = "clean"  # an object that has ended, or whose row is over
    DELETE = "delete"  # at once, with what runs in it: a person said so
    RETIRE = "end"  # drain if free, then delete
    DRAIN = "drain"
    UNDRAIN = "undrain"
    MARK = "mark"  # busy or not
    EXPLAIN = "explain"  # the reason on the row
    WAIT = "wait"  # before another one is made, or the same is tried again
    LEAVE = "leave"  # of somebody else


@dataclass(frozen=True)
class Row:
    """A pod as the database has it."""

    id: UUID
    name: str
    uid: str
    phase: str = PodPhase.ONLINE
    reason: str = ""
    draining: bool = False
    deletion: str = ""  # who deletes it and why
    occupied: int = 0  # slots that run or keep something
    template: str = ""
    node: str = ""
    idle_seconds: float = 0.0  # since anything changed in its slots
    age_seconds: float = 0.0  # since its object was asked for, or has a node
    silent_seconds: float = 0.0  # since the last heartbeat
    pause_seconds: float = 0.0  # until its object may be asked for again


@dataclass(frozen=True)
class Object:
    """A pod as the cluster has it."""

    name: str
    uid: str
    diagnosis: Diagnosis
    version: str = ""
    row_id: str = ""  # as its annotation says
    ours: bool = True  # this installation's and this pool's
    busy: bool = False  # as its label says
    template: str = ""  # as its annotation says


@dataclass(frozen=True)
class Pause:
    """How long no pod is made, because the last ones ended soon after their start."""

    ended: int  # in a row
    seconds: int  # from the start of the last one
    until: datetime
    cause: str = ""  # why the last one ended

    @property
    def words(self) -> str:
        until = self.until.astimezone(UTC)
        last = (
            "one ended soon after its"
            if self.ended == 1
            else f"{self.ended} ended soon after their"
        )
        return (
            f"The next pod waits {seconds_words(self.seconds)}, until {until:%H:%M:%S} UTC, "
            f"because the last {last} start" + (f": {self.cause}" if self.cause else "")
        )


@dataclass(frozen=True)
class Wish:
    """What the pool should have."""

    pods: int
    template: str  # the digest of a pod made now; "" when none can be made
    frozen: bool = False
    delay_seconds: float = 0.0  # a pod that is too many is idle for so long before it goes
    pause: Pause | None = None  # before another pod may be made


@dataclass(frozen=True)
class Decision:
    """One thing to do, and why."""

    act: Act
    name: str
    reason: str
    row: Row | None = None
    object: Object | None = None


@dataclass
class _Pool:
    name: str
    wish: Wish
    objects: dict[str, Object]
    decisions: list[Decision] = field(default_factory=list)

    def decide(
        self, act: Act, name: str, reason: str, row: Row | None = None, obj: Object | None = None
    ) -> None:
        self.decisions.append(Decision(act, name, reason, row, obj))


def is_late(phase: str, node: str, age_seconds: float, occupied: int) -> bool:
    """Whether a pod has missed its deadline to come online: it is no supply, and is replaced.

    One that no node has room for keeps its place in the scheduler's queue, and stays supply.

    Args:
        node: that has it, as the database knows; of a local process, its machine.
        age_seconds: since it was asked for, or has a node.
        occupied: its slots that run or keep something.
    """
    waits = phase == PodPhase.STARTING and bool(node) and not occupied
    return waits and age_seconds > STARTING_SECONDS


def decide(
    pool: str, wish: Wish, rows: Sequence[Row], over: Iterable[UUID], objects: Iterable[Object]
) -> list[Decision]:
    """Return what is to be done, in the order in which to do it.

    Args:
        rows: the pool's pods that are not gone, oldest first.
        over: ids of its rows that are gone.
        objects: everything in the namespace whose name or labels could concern the pool.
    """
    pool_ = _Pool(pool, wish, {one.name: one for one in objects})
    supply = [row for row in rows if _supplies(pool_, row)]
    _strays(pool_, rows, {str(one) for one in over})
    supply = _retire(pool_, supply)
    _fill(pool_, rows, supply)
    return pool_.decisions


def _supplies(pool: _Pool, row: Row) -> bool:
    """Decide about one row; returns whether its pod counts towards what the pool wants."""
    obj = pool.objects.get(row.name)
    if obj is not None and row.uid and obj.uid != row.uid:
        obj = None  # a successor of the same name
    if obj is None:
        return _without_object(pool, row)
    if not obj.ours or (not row.uid and obj.row_id != str(row.id)):
        pool.decide(Act.GONE, row.name, "somebody else's pod has its name", row)
        return False
    seen = obj.diagnosis
    if not row.uid:
        pool.decide(Act.NOTE, row.name, "the cluster has made it", row, obj)
    if seen.phase == ObjectPhase.ENDED:
        pool.decide(Act.GONE, row.name, seen.reason, row)
        pool.decide(Act.CLEAN, row.name, seen.reason, row, obj)
        return False
    if row.deletion:
        pool.decide(Act.DELETE, row.name, row.deletion, row, obj)
        return False
    _mark(pool, row, obj)
    if seen.deleting and not row.draining:
        pool.decide(Act.DRAIN, row.name, seen.reason if seen.overdue else ENDED_THERE, row, obj)
        return False
    _explain(pool, row, seen)
    return not seen.deleting and _healthy(pool, row, obj)


def _without_object(pool: _Pool, row: Row) -> bool:
    if row.deletion:
        pool.decide(Act.GONE, row.name, row.deletion, row)
        return False
    if row.uid:
        # That of a frozen pool the freeze has deleted, and it takes the work away in its own way;
        # but not while its schedule cannot be read, and then a lost pod is not left behind.
        if not pool.wish.frozen or row.phase == PodPhase.LOST:
            pool.decide(Act.GONE, row.name, "it does not exist in the cluster any more", row)
        return False
    if pool.wish.frozen:
        pool.decide(Act.GONE, row.name, "the pool was frozen before it was made", row)
        return False
    if pool.wish.template and not row.pause_seconds:
        pool.decide(Act.MAKE, row.name, "it is entered, and the cluster does not have it", row)
    return not row.draining


def _mark(pool: _Pool, row: Row, obj: Object) -> None:
    busy = row.occupied > 0
    if busy != obj.busy:
        reason = f"{row.occupied} of its slots are occupied" if busy else "its slots are free"
        pool.decide(Act.MARK, row.name, reason, row, obj)


def _explain(pool: _Pool, row: Row, seen: Diagnosis) -> None:
    """Show on the row what the cluster says, unless it says already why it drains or is lost."""
    silent = row.phase == PodPhase.LOST and seen.phase != ObjectPhase.UNKNOWN
    told = row.reason if (row.draining or silent) and not seen.overdue else seen.reason
    if told != row.reason or seen.node != row.node:
        pool.decide(Act.EXPLAIN, row.name, told, row, pool.objects[row.name])


def _healthy(pool: _Pool, row: Row, obj: Object) -> bool:
    """Judge a pod that lives; returns whether it counts."""
    if row.draining:
        if row.reason in {OUTDATED, UNSTARTED, SILENT} and not row.occupied:
            pool.decide(Act.RETIRE, row.name, row.reason, row, obj)
        return row.reason in {TOO_MANY, RETURNING}  # it may be wanted again
    if row.phase == PodPhase.LOST:
        if not row.occupied and row.silent_seconds > LOST_SECONDS:
            pool.decide(Act.RETIRE, row.name, SILENT, row, obj)
        return False
    if is_late(row.phase, row.node, row.age_seconds, row.occupied):
        pool.decide(Act.RETIRE, row.name, UNSTARTED, row, obj)
        return False
    return True


def _strays(pool: _Pool, rows: Sequence[Row], over: set[str]) -> None:
    """Decide about objects that belong to no row."""
    known = {row.uid for row in rows if row.uid}
    unmade = {row.name for row in rows if not row.uid}
    for obj in pool.objects.values():
        if obj.uid in known or (obj.name in unmade and obj.ours):
            continue
        if not obj.ours:
            pool.decide(Act.LEAVE, obj.name, "it is not this installation's", obj=obj)
        elif obj.diagnosis.phase == ObjectPhase.ENDED:
            pool.decide(Act.CLEAN, obj.name, obj.diagnosis.reason, obj=obj)
        elif obj.diagnosis.deleting:
            continue
        elif obj.row_id in over:
            act = Act.DELETE if pool.wish.frozen else Act.CLEAN
            pool.decide(act, obj.name, "its row is over", obj=obj)
        else:
            reason = "the database does not know it: it may run work"
            pool.decide(Act.ADOPT, obj.name, reason, obj=obj)


def _retire(pool: _Pool, supply: list[Row]) -> list[Row]:
    """End what is too many or outdated; returns what stays."""
    surplus = _surplus(supply, pool.wish)
    for row in surplus:
        pool.decide(Act.RETIRE, row.name, TOO_MANY, row, pool.objects.get(row.name))
    stays = [row for row in supply if row not in surplus]
    if pool.wish.frozen or not pool.wish.template:
        return stays
    for row in _outdated(stays, pool.wish.template):
        pool.decide(Act.RETIRE, row.name, OUTDATED, row, pool.objects.get(row.name))
    return stays


def _outdated(rows: Sequence[Row], template: str) -> list[Row]:
    """Return the pods of another template that may go now.

    One that has not started, perhaps because of that template, goes at once. Of those that serve
    one goes at a time, and none while another starts, so that the pool keeps its capacity.
    """
    starting = [row for row in rows if row.phase == PodPhase.STARTING]
    old = [row for row in rows if row.uid and row.template != template and not row.occupied]
    if unstarted := [row for row in old if row in starting]:
        return unstarted
    return [] if starting else old[:1]


def _surplus(supply: Sequence[Row], wish: Wish) -> list[Row]:
    """Return the pods that are too many and may go: draining ones first, then the longest idle.

    What is occupied, or was a short while ago, stays, though it is too many.
    """
    too_many = len(supply) - wish.pods
    order = sorted(
        range(len(supply)),
        key=lambda number: (
            not supply[number].draining,
            supply[number].phase != PodPhase.STARTING,
            -supply[number].idle_seconds,
            -number,
        ),
    )
    idle = [
        supply[number]
        for number in order
        if not supply[number].occupied and supply[number].idle_seconds >= wish.delay_seconds
    ]
    return idle[:too_many] if too_many > 0 else []


def _fill(pool: _Pool, rows: Sequence[Row], supply: list[Row]) -> None:
    """Bring back pods that were too many, and enter the missing ones.

    What hindered the making of one is told until it is made, or not wanted any more.
    """
    if pool.wish.frozen:
        return
    for row in supply:
        if row.draining and row.reason in {TOO_MANY, RETURNING} and row.uid:
            pool.decide(Act.UNDRAIN, row.name, RETURNING, row, pool.objects[row.name])
        elif not row.uid and row.name not in pool.objects and row.pause_seconds and row.reason:
            pool.decide(Act.WAIT, row.name, row.reason, row)  # why the last try failed
    # How long to wait after one that has ended, the next pass knows.
    ended = any(one.act == Act.CLEAN and one.row for one in pool.decisions)
    if not pool.wish.template or ended:
        return
    taken = {row.name for row in rows} | pool.objects.keys()
    adopted = sum(one.act == Act.ADOPT for one in pool.decisions)
    missing, number = pool.wish.pods - len(supply) - adopted, 0
    while missing > 0:
        name = pod_name(pool.name, number)
        number += 1
        if name in taken:
            continue
        if pool.wish.pause:
            pool.decide(Act.WAIT, name, pool.wish.pause.words)
            return
        pool.decide(Act.ENTER, name, f"the pool wants {pool.wish.pods} pods")
        missing -= 1
