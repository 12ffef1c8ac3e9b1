"""What operators are told of freezes: each fact once, as long as it is true, in words."""

from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app import jobs, leases, outcomes, reconcile
from pods_app.freeze import services
from pods_app.freeze.by_hand import end_override, freeze_now, grant_override, in_minutes, unfreeze
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.notices import passes
from pods_app.freeze.notices.passes import notice_pass
from pods_app.models import (
    FreezeNotice,
    FreezeOverride,
    FreezeTransition,
    FreezeWindow,
    ManagedPod,
    NoticeDelivery,
)
from pods_app.states import NoticeKind as Kind
from pods_app.states import PoolKind
from tasks_app.models import StateLock
from tasks_app.services import retention
from tasks_app.services.tasks import confirm_task
from tests.support.factories import PLAN_HASH, ask_permit, make_pod, make_pool, make_waiting_task
from tests.support.freezes import now, soon, window_row

pytestmark = pytest.mark.django_db
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@pytest.fixture(autouse=True)
def channel(settings, monkeypatch):
    """One address, greeted long ago; what happens in a row is told at once."""
    settings.NOTICE_EMAILS = ["ops@example.org"]
    monkeypatch.setattr(passes, "_SETTLED", -MINUTE)
    assert notice_pass() == 1
    FreezeNotice.objects.update(created_at=now() - timedelta(days=30))
    mail.outbox.clear()


@pytest.fixture
def main():
    return make_pool(name="main")


def told():
    """Make a pass; return what arrived by it: subject and text."""
    mail.outbox.clear()
    notice_pass()
    return [(one.subject.removeprefix("[Slipway] "), one.body) for one in mail.outbox]


def kinds():
    return list(FreezeNotice.objects.exclude(kind=Kind.CHANNEL).values_list("kind", flat=True))[
        ::-1
    ]


def moved(ago, **which):
    """Let what happened have happened at another time; transitions are never updated."""
    for row in list(FreezeTransition.objects.filter(**which)):
        FreezeTransition.objects.filter(pk=row.pk).delete()
        row.at = now() - ago
        row.save(force_insert=True)


def test_without_a_channel_nothing_is_made_and_nothing_asked(settings, main):
    settings.NOTICE_EMAILS = []
    window_row(main, begins=10 * MINUTE, ends=HOUR)
    with CaptureQueriesContext(connection) as queries:
        assert jobs.send_notices() == 0
    assert not queries.captured_queries and not kinds()


def test_a_new_channel_is_greeted_once_and_told_nothing_old(settings, main):
    window_row(main)
    follow_schedules()
    FreezeNotice.objects.all().delete()
    ((subject, text),) = told()
    assert subject == "Notices of freezes come here" and "http://127.0.0.1:8000/admin/" in text
    assert told() == [] and kinds() == []


def test_another_channel_is_not_told_what_happened_while_there_was_none(settings, main):
    window_row(main)
    follow_schedules()
    settings.NOTICE_EMAILS, settings.NOTICE_WEBHOOK_URLS = [], ["http://127.0.0.1:1/"]
    assert notice_pass() == 0 and kinds() == []
    settings.NOTICE_EMAILS, settings.NOTICE_WEBHOOK_URLS = ["ops@example.org"], []
    assert len(told()) == 1 and kinds() == [Kind.BEGAN]  # the former one is


@pytest.mark.parametrize(
    ("begins", "kind"),
    [
        (23 * HOUR, Kind.DAY_AHEAD),
        (50 * MINUTE, Kind.HOUR_AHEAD),
        (10 * MINUTE, Kind.QUARTER_AHEAD),
    ],
)
def test_one_look_ahead_for_all_pools_of_a_window(main, begins, kind):
    staging = make_pool(name="staging")
    window_row(
        main,
        staging,
        begins=begins,
        ends=begins + HOUR,
        time_zone="Europe/Berlin",
        ticket="CHG-4711",
    )
    ((subject, text),) = told()
    assert told() == [] and kinds() == [kind]
    assert subject.startswith("Freeze from ") and subject.endswith(" UTC): main, staging")
    assert "“quarter end” begins at" in text and "main, staging: Frozen until" in text
    assert "(quarter end [CHG-4711])." in text and "Reason: the books are closed" in text
    assert "If it began now: It would hit" in text
    assert "/admin/pods_app/freezewindow/" in text


def test_a_window_moves_on_from_one_kind_to_the_next(main):
    row = window_row(main, begins=23 * HOUR, ends=26 * HOUR)
    assert len(told()) == 1
    for begins in (50 * MINUTE, 10 * MINUTE):
        later = now() + begins
        FreezeWindow.objects.update(first_day=later.date(), start_time=later.time())
        assert len(told()) == 1 and told() == []
    assert kinds() == [Kind.DAY_AHEAD, Kind.HOUR_AHEAD, Kind.QUARTER_AHEAD]
    assert row.pk


def test_what_is_called_off_before_it_arrived_is_withdrawn(main, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionRefusedError

    row = window_row(main, begins=10 * MINUTE, ends=HOUR)
    with monkeypatch.context() as broken:
        broken.setattr("django.core.mail.EmailMessage.send", refuse)
        assert told() == []
    FreezeWindow.objects.filter(pk=row.pk).update(enabled=False)
    NoticeDelivery.objects.filter(sent_at=None).update(next_at=now())
    assert told() == []
    delivery = NoticeDelivery.objects.get(sent_at=None)
    assert delivery.next_at is None and delivery.error == "It was not true any more"


@pytest.mark.parametrize("how", ["disabled", "deleted", "frozen already", "overridden"])
def test_no_look_ahead_of_what_begins_nothing(main, admin, how):
    row = window_row(main, begins=10 * MINUTE, ends=HOUR)
    if how == "disabled":
        FreezeWindow.objects.update(enabled=False)
    elif how == "deleted":
        services.delete_window(actor=admin, window=row)
    elif how == "frozen already":
        window_row(main, name="longer", begins=-HOUR, ends=9 * MINUTE)  # nine and ten: one freeze
    else:
        grant_override(actor=admin, pool=main, reason="a hotfix", expires_at=in_minutes(60))
    told()
    assert not {Kind.DAY_AHEAD, Kind.HOUR_AHEAD, Kind.QUARTER_AHEAD} & set(kinds())


def test_a_freeze_of_many_pools_begins_and_ends_in_one_notice_each(main, admin):
    make_pool(name="staging")
    row = window_row()
    follow_schedules()
    ((subject, text),) = told()
    assert subject.startswith("Freeze began at ") and subject.endswith(": main, staging")
    assert "Pools main, staging are frozen since" in text and "(quarter end)." in text
    assert "Reason: the books are closed" in text
    assert told() == []
    services.end_early(actor=admin, window=row, reason="done")
    follow_schedules()
    ((subject, text),) = told()
    assert subject.startswith("Freeze ended at ") and subject.endswith(": main, staging")
    assert "frozen no more since" in text and "The freeze had begun at" in text
    assert told() == [] and kinds() == [Kind.BEGAN, Kind.ENDED]
    assert FreezeNotice.objects.get(kind=Kind.BEGAN).data["pools"] == ["main", "staging"]


def test_a_pool_that_enters_later_is_told_of_by_itself(main, monkeypatch):
    staging = make_pool(name="staging")
    window_row()
    follow_schedules([main])
    assert len(told()) == 1
    follow_schedules([staging])
    ((subject, _),) = told()
    assert subject.endswith(": staging")


def test_pools_that_are_still_entering_are_waited_for(main, monkeypatch):
    monkeypatch.setattr(passes, "_SETTLED", timedelta(seconds=15))
    window_row()
    follow_schedules()
    assert told() == []
    moved(timedelta(seconds=16))
    assert len(told()) == 1


def test_what_nobody_could_tell_in_time_is_told_as_past(main, admin):
    """The worker was down: of a freeze that is over there is one notice, from when to when."""
    row = window_row()
    follow_schedules()
    services.end_early(actor=admin, window=row, reason="done")
    follow_schedules()
    moved(9 * HOUR, to_state="frozen")
    moved(HOUR, from_state="frozen")
    ((subject, text),) = told()
    assert kinds() == [Kind.ENDED] and "The freeze had begun at" in text
    assert subject.startswith(f"Freeze ended at {now() - HOUR:%H:}")


def test_what_happened_long_ago_is_not_told(main):
    window_row(begins=-timedelta(days=5))
    follow_schedules()
    moved(timedelta(days=4))
    assert told() == []


def test_an_override_is_told_and_is_no_end_of_the_freeze(main, admin):
    window_row(main)
    follow_schedules()
    told()
    override = grant_override(actor=admin, pool=main, reason="a hotfix", expires_at=in_minutes(30))
    follow_schedules()
    ((subject, text),) = told()
    assert subject.startswith("Override of freezes until ") and subject.endswith(": main")
    assert f"{admin.user.username} lets pool main work" in text and "Reason: a hotfix" in text
    end_override(actor=admin, override=override)
    follow_schedules()
    subjects = dict(told())
    assert [one.split(" at ")[0] for one in sorted(subjects)] == [
        "Freeze began",
        "Override ended",
    ]
    ended = next(text for subject, text in subjects.items() if subject.startswith("Over"))
    assert "its windows count again. Now: Frozen until" in ended
    assert kinds().count(Kind.BEGAN) == 2 and Kind.ENDED not in kinds()


def test_an_override_that_is_over_is_told_once(main, admin):
    FreezeOverride.objects.create(
        pool=main, reason="x", begins_at=now() - HOUR, expires_at=now() - MINUTE
    )
    ((subject, text),) = told()
    assert subject.startswith("Override ended at") and "Now: Open" in text
    assert told() == [] and kinds() == [Kind.OVERRIDE_ENDED]


@pytest.fixture
def local(monkeypatch):
    """A pool whose pods are gone as soon as somebody deletes them."""

    class Hosting:
        kills_at_once = 1

        def here(self):
            return "here"

        def kill(self, pod):
            return True

        def forget(self, pod):
            """Nothing is kept."""

    monkeypatch.setitem(reconcile._HOSTINGS, PoolKind.LOCAL, Hosting())
    pool = make_pool(name="main", kind=PoolKind.LOCAL)
    make_pod(pool)
    ManagedPod.objects.update(kind=PoolKind.LOCAL, host="here")
    return pool


def test_an_interrupted_apply_and_a_delayed_one(local, admin):
    def confirmed():
        task = make_waiting_task()
        return confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)

    cut, held_back = confirmed(), confirmed()
    ask_permit(cut.leases.select_related("slot__pod__pool").latest("epoch"))
    window_row(local)
    follow_schedules()
    found = {subject.partition(":")[0]: text for subject, text in told()}
    assert found["1 apply interrupted by a freeze"].endswith(
        f"{cut.workspace.name} #{cut.number} in pool main: "
        f"http://127.0.0.1:8000/admin/tasks_app/task/{cut.pk}/change/\n"
    )
    assert "Frozen until" in found["1 apply delayed by a freeze"]
    assert str(held_back.pk) in found["1 apply delayed by a freeze"]
    assert told() == [] and sorted(kinds()) == [Kind.DELAYED, Kind.INTERRUPTED, Kind.BEGAN]
    assert FreezeNotice.objects.get(kind=Kind.DELAYED).data["tasks"][0]["pool"] == "main"


def test_an_apply_that_stopped_when_it_was_asked_to_is_interrupted_too(main, admin):
    pod = make_pod(main)
    task = make_waiting_task()
    task = confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    ask_permit(task.leases.select_related("slot__pod__pool").latest("epoch"))
    lease = leases.lease_of(task)
    StateLock.objects.create(
        workspace=task.workspace, task=task, lock_id="lock-1", lease_id=lease.pk
    )
    soon(main, minutes=10, grace_seconds=3600)
    follow_schedules()
    assert kinds() == []
    report = outcomes.Report("cancelled")
    outcomes.finish_apply(lease_id=lease.pk, epoch=lease.epoch, pod=pod, report=report)
    assert [one for one, _ in told() if f"{task.workspace.name} #{task.number}" in one]
    assert told() == [] and Kind.INTERRUPTED in kinds()


def test_by_hand_without_an_end(main, admin):
    freeze_now(actor=admin, pool=main, reason="incident 4711")
    follow_schedules()
    ((_, text),) = told()
    assert "Frozen until somebody ends it (main by hand" in text and "incident 4711" in text
    unfreeze(actor=admin, pool=main, reason="fixed")
    follow_schedules()
    assert len(told()) == 1 and kinds() == [Kind.BEGAN, Kind.ENDED]


def test_old_notices_go_and_greetings_stay(main):
    window_row(main)
    follow_schedules()
    told()
    FreezeNotice.objects.update(created_at=now() - timedelta(days=91))
    retention.purge()
    assert [one.kind for one in FreezeNotice.objects.all()] == [Kind.CHANNEL]


def test_a_pass_asks_the_same_however_many_pools_there_are(main):
    def asked():
        with CaptureQueriesContext(connection) as queries:
            assert told() == []
        return len(queries)

    window_row(begins=-9 * HOUR)
    follow_schedules()
    told()
    before = asked()
    for number in range(5):
        make_pool(name=f"more-{number}")
    follow_schedules()
    told()
    assert asked() == before <= 13
