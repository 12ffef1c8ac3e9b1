"""Nothing starts in a window, even if no process ever notices that it began."""

from datetime import time, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app import leases, queue
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.gate import Start, refusal
from pods_app.freeze.stored import read
from pods_app.models import ApplyPermit, FreezeOverride, FreezeWindow
from tasks_app.exceptions import PermitRefused
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
)
from tests.support.freezes import now, soon, window_row

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool():
    pool = make_pool(name="main")
    make_pod(pool)
    return pool


def confirm(admin, task):
    return confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)


def ask(task):
    return ask_permit(task.leases.select_related("slot__pod__pool").latest("epoch"))


def test_a_window_lets_nothing_start(pool):
    row = window_row()
    task = make_task()
    assert task.status == Status.PENDING
    assert task.waiting_reason.startswith("Pool main is frozen until ")
    assert " UTC on " in task.waiting_reason and "(quarter end)" in task.waiting_reason
    assert queue.dispatch_pass() == 0
    row.delete()
    assert queue.dispatch_pass() == 1


def test_the_reason_names_the_end_in_the_zone_of_the_window(pool):
    window_row(time_zone="Asia/Kolkata", begins=timedelta(days=-2), ends=timedelta(days=2))
    assert " IST on " in make_task().waiting_reason


def test_confirming_is_allowed_and_says_until_when_it_waits(pool, admin):
    task = make_waiting_task()
    window_row(pool)
    task = confirm(admin, task)
    assert task.status == Status.CONFIRMED
    assert task.waiting_reason.startswith("Pool main is frozen until ")
    assert leases.lease_of(task).phase == "hold"


def test_no_permit_in_a_window_nor_shortly_before(pool, admin):
    task = confirm(admin, make_waiting_task())
    row = soon()
    with pytest.raises(PermitRefused, match="freezes at"):
        ask(task)
    row.delete()
    row = window_row()
    with pytest.raises(PermitRefused, match="is frozen until"):
        ask(task)
    assert not ApplyPermit.objects.exists()
    row.delete()
    ask(task)


def test_while_closing_plans_start_and_nothing_else_does(pool, admin):
    task = make_waiting_task()
    soon(pool)
    assert refusal(pool.pk, Start.PLAN) is None
    for start in (Start.APPLY, Start.HOLD, Start.WARMUP):
        assert refusal(pool.pk, start).state == "closing"
    assert make_task().status == Status.PLANNING
    task = confirm(admin, task)
    assert leases.lease_of(task).phase == "hold"
    assert task.waiting_reason.startswith("Pool main freezes at ")
    queue.dispatch_pass()
    task.refresh_from_db()
    assert task.waiting_reason.startswith("Pool main freezes at ")


def test_nothing_starts_that_would_only_be_interrupted(pool):
    soon(pool, minutes=5, lead=0, grace_seconds=600)
    assert refusal(pool.pk, Start.APPLY).state == "closing"


def test_windows_are_for_their_pools_alone(pool):
    other = make_pool()
    window_row(other)
    assert refusal(pool.pk, Start.PLAN) is None
    assert refusal(other.pk, Start.PLAN).state == "frozen"


def test_what_is_switched_off_or_over_counts_no_more(pool):
    row = window_row(enabled=False)
    assert refusal(pool.pk, Start.APPLY) is None
    FreezeWindow.objects.filter(pk=row.pk).update(enabled=True)
    assert refusal(pool.pk, Start.APPLY) is not None
    FreezeWindow.objects.all().delete()
    window_row(begins=timedelta(hours=-2), ends=timedelta(hours=-1))
    assert refusal(pool.pk, Start.APPLY) is None


def test_what_is_over_for_days_is_not_even_read(pool):
    days = timedelta(days=4)
    for fields in ({}, {"ends": None}):
        row = window_row(**{"begins": -days, "ends": -days + timedelta(hours=1), **fields})
        if fields:
            adjusted = {"adjusted_start": now() - days, "adjusted_end": now() - days}
            FreezeWindow.objects.filter(pk=row.pk).update(adjusted_reason="r", **adjusted)
    extended = window_row(begins=-days, ends=-days + timedelta(hours=1))
    FreezeWindow.objects.filter(pk=extended.pk).update(
        adjusted_start=now() - days, adjusted_end=now() + days, adjusted_reason="r"
    )
    assert [rule.id for rule in read([pool.pk]).windows[pool.pk]] == [extended.pk]
    assert len(read([pool.pk], past=True).windows[pool.pk]) == 3


def test_exceptions_are_read(pool):
    today = now().date()
    row = window_row(
        weekdays=list(range(7)),
        first_day=None,
        last_day=None,
        start_time=time(0),
        end_time=time(0),
        days_later=1,
    )
    assert refusal(pool.pk, Start.PLAN) is not None
    around = [(today - timedelta(days=1), today + timedelta(days=2))]
    FreezeWindow.objects.filter(pk=row.pk).update(exceptions=around)
    assert refusal(pool.pk, Start.PLAN) is None


def test_an_override_opens_one_pool(pool):
    other = make_pool()
    window_row()
    FreezeOverride.objects.create(pool=pool, reason="r", expires_at=now() + timedelta(hours=1))
    assert refusal(pool.pk, Start.APPLY) is None
    assert refusal(other.pk, Start.APPLY) is not None
    FreezeOverride.objects.update(expires_at=now())
    assert refusal(pool.pk, Start.APPLY) is not None


def test_an_unreadable_window_freezes_and_says_why(pool):
    window_row(time_zone="Mars/Olympus")
    task = make_task()
    assert task.status == Status.PENDING
    assert "Mars/Olympus" in task.waiting_reason


def test_reading_costs_few_queries_however_many_there_are(django_assert_max_num_queries):
    pools = [make_pool() for _ in range(5)]
    with django_assert_max_num_queries(1):
        read([pool.pk for pool in pools])
    for _ in range(4):
        window_row(*pools)
        window_row()
    FreezeOverride.objects.create(pool=pools[0], reason="r", expires_at=now() + timedelta(hours=1))
    with django_assert_max_num_queries(3):
        found = read([pool.pk for pool in pools])
    assert [len(found.windows[pool.pk]) for pool in pools] == [8] * 5
    assert found.state(pools[0].pk).override.reason == "r"


def test_open_pools_cost_the_same_queries_however_many(django_assert_num_queries):
    make_pool()
    with CaptureQueriesContext(connection) as few:
        follow_schedules()
    for _ in range(8):
        make_pool()
    with django_assert_num_queries(len(few)):
        follow_schedules()
