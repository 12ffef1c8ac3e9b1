"""Every step of a warm-up, from every state: made and audited, or without any effect."""

import pytest

from tasks_app.actors import Actor
from tasks_app.models import Event, Task
from tasks_app.services import warmups
from tasks_app.states import WARMUP_TRANSITIONS, Status, WarmupStatus
from tests.support.factories import make_task

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system("test")

STEPS = {
    WarmupStatus.NONE: lambda task: warmups.reset(task, cause="because", actor=SYSTEM),
    WarmupStatus.WARMING: lambda task: warmups.begin(task, agent_id="a", actor=SYSTEM, lease=None),
    WarmupStatus.READY: lambda task: warmups.ready(
        task, agent_id="a", actor=SYSTEM, lease=None, cause="because"
    ),
    WarmupStatus.EXPIRED: lambda task: warmups.expire(task, cause="because", actor=SYSTEM),
    WarmupStatus.FAILED: lambda task: warmups.fail(
        task, cause="because", permanent=False, actor=SYSTEM, lease=None
    ),
}
NAMES = {**{status: status for status in WarmupStatus}, WarmupStatus.NONE: "reset"}
PAIRS = [(source, target) for source in WarmupStatus for target in WarmupStatus]
#: Saying again that it is ready only renews it.
RENEWED = (WarmupStatus.READY, WarmupStatus.READY)


def set_state(source, status=Status.APPLY_PENDING):
    task = make_task()
    Task.objects.filter(pk=task.pk).update(status=status, warmup_status=source)
    task.refresh_from_db()
    return task


@pytest.mark.parametrize(("source", "target"), PAIRS, ids=str)
def test_every_pair_of_states(source, target):
    task = set_state(source)
    moved = STEPS[target](task)
    legal = target in WARMUP_TRANSITIONS[source]
    assert moved == (legal or (source, target) == RENEWED)
    events = Event.objects.filter(task=task, kind__startswith="warmup.")
    assert list(events.values_list("kind", flat=True)) == [f"warmup.{NAMES[target]}"] * legal
    task.refresh_from_db()
    assert task.warmup_status == (target if legal else source)
    assert (task.warmup_at is not None) == legal, "in database time"
    assert (task.warmup_expires_at is not None) == (moved and target == WarmupStatus.READY)


@pytest.mark.parametrize("status", [one for one in Status if one != Status.APPLY_PENDING])
def test_nothing_moves_unless_the_plan_waits(status):
    for source in WarmupStatus:
        task = set_state(source, status)
        for step in STEPS.values():
            assert not step(task)
        task.refresh_from_db()
        assert (task.warmup_status, task.warmup_at) == (source, None)
        assert not Event.objects.filter(task=task, kind__startswith="warmup.").exists()
