"""Permits and claims against the entry of a freeze: a thousand times and more."""

import random
import time
import uuid
from datetime import timedelta
from functools import partial
from itertools import pairwise

import pytest
from django.db import connection, transaction

from pods_app import leases, permits
from pods_app.dispatch import dispatch_task
from pods_app.freeze.edges import enter, follow_schedules, leave
from pods_app.freeze.services import end_early
from pods_app.models import ApplyPermit, FreezeTransition, FreezeWindow
from tasks_app.exceptions import PermitRefused, SlipwayError
from tasks_app.models import Event, Task
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status
from tasks_app.transitions import lock_task
from tests.support.factories import (
    MANIFEST,
    PLAN_HASH,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
)
from tests.support.freezes import now, window_row
from tests.support.racing import race

pytestmark = pytest.mark.django_db(transaction=True)
RACES, _PERMITS = 1000, 4


@pytest.fixture
def pool():
    pool = make_pool()
    make_pod(pool)
    return pool


def ask(task, lease):
    """Ask for the permit; returns whether it was granted."""
    try:
        permits.grant(
            lease_id=lease.pk,
            epoch=lease.epoch,
            pod=lease.slot.pod,
            key=uuid.uuid4(),
            plan_hash=PLAN_HASH,
            manifest_digest=MANIFEST,
            path="kept",
            environment_digest=lease.environment_digest,
        )
    except PermitRefused as refusal:
        if "freeze" not in refusal.detail and "frozen" not in refusal.detail:
            raise
        return False
    return True


def jitter():
    time.sleep(random.choice([0.0, 0.001, 0.004]) * random.random())


@pytest.mark.timeout(900)
def test_nothing_is_permitted_after_the_freeze_is_committed(admin, pool):
    """Each entry races four permits. Which side wins differs, and both must at times."""
    make_pod(pool)
    tasks = [
        confirm_task(actor=admin, task_id=make_waiting_task().pk, plan_hash=PLAN_HASH)
        for _ in range(_PERMITS)
    ]
    held = [(task, leases.lease_of(task)) for task in tasks]
    outcomes = {True: 0, False: 0}
    for round_ in range(RACES // _PERMITS):

        def freeze():
            jitter()
            row = window_row(pool)
            assert enter(pool.pk)
            return row, ApplyPermit.objects.count()

        def permit(task, lease):
            jitter()
            return ask(task, lease)

        entered, *granted = race([freeze, *(partial(permit, *one) for one in held)])
        assert not [r for r in (entered, *granted) if isinstance(r, Exception)], granted
        row, seen = entered
        assert ApplyPermit.objects.count() == seen == sum(granted), round_
        late = next((one for one, given in zip(held, granted, strict=True) if not given), None)
        assert late is None or not ask(*late), "granted in a frozen pool"
        for given in granted:
            outcomes[given] += 1
        ApplyPermit.objects.all().delete()
        Task.objects.filter(pk__in=[task.pk for task in tasks]).update(status=Status.CONFIRMED)
        row.delete()
        assert leave(pool.pk)
    assert sum(outcomes.values()) >= RACES and min(outcomes.values()) > 0, outcomes


def test_a_window_that_begins_by_itself_lets_no_permit_by(admin, pool):
    """No process enters it: the clock alone closes the pool, in the middle of the questions."""
    task = confirm_task(actor=admin, task_id=make_waiting_task().pk, plan_hash=PLAN_HASH)
    lease = leases.lease_of(task)
    before_start = 0
    for _ in range(30):
        row = window_row(pool, begins=timedelta(milliseconds=100))
        start = row_start(row)

        def asking(start=start):
            granted = []
            while now() < start + timedelta(milliseconds=15):
                before = now()
                if ask_once(task, lease):
                    granted.append(before)
            return granted

        for result in race([asking, asking]):
            assert not isinstance(result, Exception), result
            assert all(moment < start for moment in result), "asked after the start, and granted"
            before_start += len(result)
        row.delete()
    assert before_start > 0


def ask_once(task, lease):
    """Ask as if nobody had asked before."""
    with transaction.atomic():
        granted = ask(task, lease)
        transaction.set_rollback(True)
    return granted


def row_start(row):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (first_day + start_time) AT TIME ZONE 'UTC' FROM pods_app_freezewindow"
            " WHERE id = %s",
            [row.pk],
        )
        return cursor.fetchone()[0]


def test_no_claim_commits_behind_the_freeze(admin, pool):
    row = window_row(pool)
    task = make_task()
    row.delete()

    def claim():
        jitter()
        with transaction.atomic():
            dispatch_task(lock_task(task.pk))

    def freeze():
        jitter()
        window_row(pool)
        enter(pool.pk)
        return leases.unended().count()

    for _ in range(120):
        seen, claimed = race([freeze, claim])
        assert not isinstance(claimed, Exception), claimed
        assert leases.unended().count() == seen
        for lease in leases.unended().select_related("slot__pod", "task"):
            with transaction.atomic():
                leases.end(lease, actor=admin, reason="next round")
        FreezeWindow.objects.all().delete()
        leave(pool.pk)
        Task.objects.filter(pk=task.pk).update(status=Status.PENDING, plan_attempts=0)


def test_two_controllers_and_a_person_cross_the_edges_together(admin, pool):
    """Each edge is crossed once, however many see it, and the history is a chain."""
    for _ in range(20):
        row = window_row(pool)
        make_task()

        def end(row=row):
            jitter()
            end_early(actor=admin, window=row, reason="over")

        results = race([follow_schedules, follow_schedules, end, follow_schedules])
        errors = [r for r in results if isinstance(r, Exception)]
        assert not [e for e in errors if not isinstance(e, SlipwayError)], errors
        follow_schedules()
        pool.refresh_from_db()
        assert not pool.frozen
        FreezeWindow.objects.all().delete()
        Task.objects.update(status=Status.CANCELLED)
    chain = list(FreezeTransition.objects.order_by("id").values_list("from_state", "to_state"))
    assert all(one[1] == after[0] for one, after in pairwise(chain)), chain
    entered = Event.objects.filter(kind="pool.frozen").count()
    left = Event.objects.filter(kind="pool.unfrozen").count()
    assert entered == left > 0
