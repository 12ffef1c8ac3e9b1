"""What a freeze does to plans that lie ready, and how they come back."""

from dataclasses import replace

import pytest

from pods_app.freeze.edges import follow_schedules
from pods_app.leases import unended
from pods_app.outcomes import end_reported
from pods_app.warmups import warm_pass
from tasks_app import blobs
from tasks_app.models import Blob, Event, Plan, Task
from tasks_app.states import Status
from tests.support.factories import make_pod, make_pool, make_waiting_task
from tests.support.freezes import window_row

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool():
    pool = make_pool()
    make_pod(pool)
    return pool


@pytest.mark.parametrize("state", ["ready", "warming", "expired", "failed"])
def test_entering_resets_every_warm_up(pool, state):
    task = make_waiting_task()
    Task.objects.filter(pk=task.pk).update(
        warmup_status=state, warmup_retry_count=3, warmup_error="it failed"
    )
    window_row()
    follow_schedules()
    task.refresh_from_db()
    assert (task.status, task.warmup_status) == (Status.APPLY_PENDING, "none")
    if state in {"expired", "failed"}:
        assert (task.warmup_retry_count, task.warmup_error) == (0, "")
    reset = Event.objects.get(task=task, kind="warmup.reset")
    assert "quarter end" in reset.cause


def test_what_waits_is_warmed_again_oldest_first_and_no_more_than_allowed(pool, settings):
    settings.SLIPWAY = replace(settings.SLIPWAY, warmups_per_pass=1)
    tasks = [make_waiting_task() for _ in range(2)]
    row = window_row()
    follow_schedules()
    for lease in unended().select_related("slot__pod"):
        end_reported(lease_id=lease.pk, epoch=lease.epoch, pod=lease.slot.pod)
    assert warm_pass() == 0
    row.delete()
    assert warm_pass() == 0, "its freeze is not left yet"
    follow_schedules()
    Plan.objects.update(bundle=blobs.store([b"bundle"], Blob.Retention.PLAN))
    for warmed in (1, 2):
        assert warm_pass() == 1
        states = [Task.objects.get(pk=task.pk).warmup_status for task in tasks]
        assert states == ["warming"] * warmed + ["none"] * (2 - warmed)
