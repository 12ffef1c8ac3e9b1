"""The model's rules do what they say: one history in which each has its effect.

Random histories prove nothing about a rule that never comes to anything.
"""

from collections.abc import Iterator

import pytest

from pods_app import leases
from pods_app.models import ApplyPermit
from tasks_app.models import Event, Task
from tasks_app.states import Status, TaskType
from tests.db.pods.test_machine import Machine
from tests.support.pod_invariants import Invariants
from tests.support.warmups import events_of

pytestmark = pytest.mark.django_db


class History:
    """Plays rules for both agents of a machine; all invariants are checked after each."""

    def __init__(self, machine):
        self.machine = machine
        machine.begin()

    def play(self, rule, *arguments):
        getattr(self.machine, rule)(*arguments)
        for name, check in vars(Invariants).items():
            if not name.startswith("_"):
                check(self.machine)

    def each(self, rule, *arguments):
        for agent in (0, 1):
            self.play(rule, agent, *arguments)

    def planned(self):
        """Claim and plan a task, until it waits held."""
        self.play("create", 0, TaskType.PLAN_AND_APPLY)
        task = Task.objects.latest("id")
        assert (task.status, phase_of(task)) == (Status.PLANNING, "plan"), "it was claimed"
        self.each("work")
        self.each("plan", "planned")
        task.refresh_from_db()
        assert (task.status, phase_of(task)) == (Status.APPLY_PENDING, "hold")
        self.hold()
        return task

    def hold(self):
        self.each("work")
        for lease in range(4):  # also of those that are over, which has no effect
            self.each("warm", lease, "held")


def phase_of(task):
    lease = leases.lease_of(task)
    return lease.phase if lease else None


def status_of(task):
    return Status(Task.objects.values_list("status", flat=True).get(pk=task.pk))


@pytest.fixture
def history() -> Iterator[History]:
    machine = Machine()
    try:
        yield History(machine)
    finally:
        machine.teardown()


def test_claim_hold_warm_up_expire_lose_return_confirm(history):
    task = history.planned()
    assert leases.lease_of(task).held

    history.play("cool", 0)
    assert phase_of(task) == "warmup"
    history.hold()
    assert (phase_of(task), leases.lease_of(task).held) == ("hold", True)

    history.each("fall_silent")
    history.play("time_passes", 2000)
    history.play("tick")
    assert events_of(task)[-1] == "expired"
    history.each("work")  # it lets go
    history.each("beat", False)
    history.play("tick")
    assert (events_of(task)[-1], phase_of(task)) == ("warming", "warmup")
    history.hold()

    first = leases.lease_of(task)
    lost = [pod.pk for pod in history.machine.pods].index(first.slot.pod_id)
    history.play("vanish", lost)
    history.play("tick")
    taken = leases.lease_of(task)
    assert taken.slot.pod_id != first.slot.pod_id and taken.epoch > first.epoch
    history.play("beat", lost, False)
    assert Event.objects.filter(kind="pod.returned").exists()
    history.hold()

    history.play("confirm", 0)
    assert (status_of(task), phase_of(task)) == (Status.CONFIRMED, "apply")
    history.each("work")
    history.each("permit", 0)
    assert status_of(task) == Status.APPLYING
    assert ApplyPermit.objects.filter(task=task).exists()
    applies = [pod.pk for pod in history.machine.pods].index(taken.slot.pod_id)
    history.play("vanish", applies)
    assert status_of(task) == Status.APPLY_UNKNOWN
    history.play("beat", applies, False)
    assert status_of(task) == Status.APPLYING, "the same lease reports again"
    history.each("apply_ends", "applied")
    assert status_of(task) == Status.APPLIED
    assert history.machine.applied == {task.pk: 1}


def test_discard(history):
    task = history.planned()
    history.play("discard", 0)
    assert status_of(task) == Status.DISCARDED
    history.each("work")
    assert phase_of(task) is None
    history.each("warm", 0, "held")
    assert Task.objects.get(pk=task.pk).warmup_status == "none"
