"""What people do with freezes: who may, what is refused with which words, and what is audited."""

from datetime import UTC, date, datetime, time, timedelta

import pytest

from pods_app.freeze import services
from pods_app.freeze.by_hand import end_override, freeze_now, grant_override, in_minutes
from pods_app.freeze.checks import Days
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.gate import Start, refusal
from pods_app.freeze.services import (
    change_window,
    create_window,
    delete_window,
    end_early,
    extend,
)
from pods_app.freeze.stored import read
from pods_app.freeze.words import days_words
from pods_app.models import FreezeWindow
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput, NotFound, NotPermitted
from tasks_app.models import Event
from tests.support.factories import make_user
from tests.support.freezes import now, soon, window_row

pytestmark = pytest.mark.django_db

WEEKLY = {
    "name": "nightly",
    "reason": "backups",
    "all_pools": True,
    "time_zone": "Europe/Berlin",
    "start_time": time(22),
    "end_time": time(6),
    "days_later": 1,
}


def weekly(admin, **fields):
    """Not today nor tomorrow, so that it needs no typed name."""
    far = (now() + timedelta(days=3)).weekday()
    return create_window(actor=admin, **{**WEEKLY, "weekdays": [far], **fields})


def once(day, **fields):
    usual = {"first_day": day, "last_day": day + timedelta(days=1), "days_later": 0}
    return {**WEEKLY, **usual, **fields}


def test_windows_are_created_changed_and_deleted_and_it_is_written_down(admin, pool):
    christmas = [Days(date(2030, 12, 24), date(2030, 12, 26))]
    row = weekly(admin, exceptions=christmas, ticket=" CHG-4711 ")
    assert services.exceptions_of(row) == [Days(date(2030, 12, 24), date(2030, 12, 26))]
    row = change_window(actor=admin, window=row, lead_minutes=30, all_pools=False, pools=[pool])
    assert (row.lead_minutes, row.name, list(row.pools.all())) == (30, "nightly", [pool])
    assert services.exceptions_of(row) and row.ticket == "CHG-4711", "what was not named stays"
    delete_window(actor=admin, window=row)
    kinds = Event.objects.filter(kind__startswith="freeze_window.").order_by("id")
    assert [event.kind.partition(".")[2] for event in kinds] == ["created", "changed", "deleted"]
    assert {event.actor for event in kinds} == {admin.name}
    assert [event.data.get("ticket") for event in kinds] == ["CHG-4711", "CHG-4711", None]
    with pytest.raises(NotFound):
        delete_window(actor=admin, window=row)


@pytest.mark.parametrize("role", ["viewer", "planner", "approver", "manager"])
def test_only_managers_of_everything_may(admin, pool, role):
    row, live = weekly(admin), window_row(pool)
    override = grant_override(actor=admin, pool=pool, reason="r", expires_at=in_minutes(5))
    project = None if role != "manager" else make_project()
    somebody = Actor.person(make_user(role, project))
    for call in (
        lambda: weekly(somebody),
        lambda: change_window(actor=somebody, window=row, lead_minutes=1),
        lambda: delete_window(actor=somebody, window=row),
        lambda: end_early(actor=somebody, window=live, reason="r"),
        lambda: extend(actor=somebody, window=live, until=now(), reason="r"),
        lambda: freeze_now(actor=somebody, pool=pool, reason="r"),
        lambda: grant_override(actor=somebody, pool=pool, reason="r", expires_at=in_minutes(5)),
        lambda: end_override(actor=somebody, override=override),
    ):
        with pytest.raises(NotPermitted):
            call()
    weekly(Actor.person(make_user("manager")))


def make_project():
    from tasks_app.models import Project

    return Project.objects.create(name="one")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"time_zone": "Europe/Berln"}, "time_zone", "Do you mean Europe/Berlin"),
        ({"time_zone": ""}, "time_zone", "IANA name"),
        ({"days_later": 0}, "end_time", "before it starts at 22:00; set days_later to 1"),
        ({"days_later": 0, "end_time": time(22)}, "end_time", "no length; set days_later"),
        ({"days_later": 7}, "days_later", "Between 0 and 6"),
        ({"end_time": None}, "end_time", "when it ends"),
        ({"weekdays": [7]}, "weekdays", "0 \\(Monday\\) to 6"),
        ({"weekdays": [1, 1]}, "weekdays", "once"),
        ({"weekdays": []}, "first_day", "either"),
        ({"first_day": date(2030, 1, 1)}, "weekdays", "either"),
        ({"last_day": date(2030, 1, 1)}, "last_day", "until which day a weekly one starts"),
        ({"until": date(2020, 1, 1)}, "until", "start again until 2020-01-01; use a later day"),
        ({"until": date(2200, 1, 1)}, "until", "2199"),
        ({"all_pools": False}, "pools", "either some pools or all"),
        ({"reason": " "}, "reason", "Say why"),
        ({"name": " "}, "name", "Give it a name"),
        ({"ticket": "x" * 101}, "ticket", "one line of at most 100"),
        ({"ticket": "CHG-1\nCHG-2"}, "ticket", "one line of at most 100"),
        ({"lead_minutes": 1441}, "lead_minutes", "1440"),
        ({"grace_seconds": -1}, "grace_seconds", "3600"),
        (
            {
                "exceptions": [
                    Days(date(2030, 12, 26), date(2030, 12, 28)),
                    Days(date(2030, 12, 24), date(2030, 12, 26)),
                ]
            },
            "exceptions",
            "2030-12-24 to 2030-12-26 and 2030-12-26 to 2030-12-28 overlap; join",
        ),
        ({"exceptions": [Days(date(2030, 1, 2), date(2030, 1, 1))]}, "exceptions", "swap"),
        (once(date(2030, 1, 2), last_day=date(2030, 1, 1)), "last_day", "before it starts"),
        (once(date(2030, 1, 2), last_day=date(2030, 1, 2)), "end_time", "later last day"),
        (once(date(2030, 1, 2), last_day=None), "last_day", "neither if a person ends it"),
        (once(date(2030, 1, 2), days_later=1), "days_later", "last day instead"),
        (once(date(2030, 1, 2), until=date(2030, 2, 1)), "until", "does not repeat"),
        (once(date(2020, 1, 2)), "last_day", "over already"),
        (once(date(1999, 1, 2)), "first_day", "2000"),
    ],
)
def test_bad_windows_are_refused_with_field_and_remedy(admin, fields, field, words):
    usual = {} if "first_day" in fields and fields.get("weekdays") is None else {"weekdays": [0]}
    if fields.get("first_day") == date(2030, 1, 1):
        usual = {"weekdays": [0]}
    with pytest.raises(InvalidInput, match=words) as refusal:
        create_window(actor=admin, **{**WEEKLY, **usual, **fields})
    assert refusal.value.field == field
    assert not FreezeWindow.objects.exists()


def test_a_weekly_window_ends_with_its_last_day(admin, pool):
    far = now().date() + timedelta(days=3)
    with pytest.raises(InvalidInput, match="start again until") as refused:
        weekly(admin, until=far - timedelta(days=1))
    assert refused.value.field == "until", "none of its weekdays is left until then"
    row = weekly(admin, until=far, time_zone="UTC")
    assert days_words(row).endswith(f" until {far}")
    schedules = read([pool.pk])
    noon = datetime.combine(far, time(12), UTC)
    for weeks, state in ((0, "frozen"), (1, "open")):
        night = noon + timedelta(days=7 * weeks, hours=12)
        assert schedules.state(pool.pk, night).state == state
    row = change_window(actor=admin, window=row, until=None)
    assert read([pool.pk]).state(pool.pk, noon + timedelta(days=7, hours=12)).state == "frozen"


def test_what_is_in_force_soon_is_confirmed_by_its_name(admin, pool):
    moment = now() + timedelta(minutes=10)
    fields = once(moment.date(), time_zone="UTC", start_time=moment.time(), end_time=moment.time())
    for confirm in ("", "Nightly"):
        with pytest.raises(InvalidInput, match="type its name: nightly") as refusal:
            create_window(actor=admin, confirm=confirm, **fields)
        assert refusal.value.field == "confirm"
    row = create_window(actor=admin, confirm="nightly", **fields)
    assert refusal_of(pool).state == "closing"
    with pytest.raises(InvalidInput, match="type its name"):
        change_window(actor=admin, window=row, lead_minutes=20)
    change_window(actor=admin, window=row, enabled=False)
    assert refusal_of(pool) is None


def refusal_of(pool):
    return refusal(pool.pk, Start.APPLY)


def test_what_is_in_force_is_ended_early_but_neither_changed_nor_deleted(admin, pool):
    row = window_row(pool)
    for call in (
        lambda: change_window(actor=admin, window=row, enabled=False),
        lambda: delete_window(actor=admin, window=row),
    ):
        with pytest.raises(Conflict, match="end it early"):
            call()
    with pytest.raises(InvalidInput, match="Say why"):
        end_early(actor=admin, window=row, reason=" ")
    end_early(actor=admin, window=row, reason="all is well")
    assert refusal_of(pool) is None
    event = Event.objects.get(kind="freeze_window.ended_early")
    assert (event.cause, event.actor) == ("all is well", admin.name)
    with pytest.raises(Conflict, match="not in force"):
        end_early(actor=admin, window=row, reason="again")
    change_window(actor=admin, window=row, name="renamed", confirm="renamed")
    assert refusal_of(pool) is None, "what was ended early stays ended"
    delete_window(actor=admin, window=row)


def test_what_is_in_force_is_extended(admin, pool):
    row = window_row(pool)
    later = now() + timedelta(hours=5)
    for until, words in (
        (now() + timedelta(minutes=5), "already; use a later time"),
        (now() + timedelta(days=40), "At most 31 days"),
    ):
        with pytest.raises(InvalidInput, match=words):
            extend(actor=admin, window=row, until=until, reason="more work")
    extend(actor=admin, window=row, until=later, reason="more work")
    assert refusal_of(pool).until == later
    with pytest.raises(Conflict, match="not in force"):
        extend(actor=admin, window=soon(pool), until=later, reason="too early")
    endless = window_row(pool, ends=None)
    with pytest.raises(InvalidInput, match="needs no more"):
        extend(actor=admin, window=endless, until=later, reason="more")


def test_freezing_by_hand_lasts_until_somebody_ends_it(admin, pool):
    row = freeze_now(actor=admin, pool=pool, reason="an incident")
    assert "until somebody ends it" in refusal_of(pool).reason
    assert follow_schedules() == 1
    end_early(actor=admin, window=row, reason="over")
    assert follow_schedules() == 1 and refusal_of(pool) is None
    until = now() + timedelta(hours=1)
    freeze_now(actor=admin, pool=pool, reason="again", ticket="INC-7", until=until)
    assert refusal_of(pool).until is not None
    assert "[INC-7])" in refusal_of(pool).reason


def test_an_override_needs_a_reason_and_a_short_time(admin, pool):
    window_row(pool)
    for reason, seconds, field in (
        (" ", 300, "reason"),
        ("r", 0, "expires_at"),
        ("r", -5, "expires_at"),
        ("r", 4 * 3600 + 60, "expires_at"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            expires_at = now() + timedelta(seconds=seconds)
            grant_override(actor=admin, pool=pool, reason=reason, expires_at=expires_at)
        assert refusal.value.field == field
    for minutes in (0, 241):
        with pytest.raises(InvalidInput, match="Between 1 and 240 minutes"):
            in_minutes(minutes)
    reason = "the database must be fixed"
    row = grant_override(actor=admin, pool=pool, reason=reason, expires_at=in_minutes(240))
    assert refusal_of(pool) is None
    end_override(actor=admin, override=row, reason="fixed")
    assert refusal_of(pool) is not None
    with pytest.raises(Conflict, match="expired"):
        end_override(actor=admin, override=row)
    kinds = Event.objects.filter(kind__startswith="freeze_override.").order_by("id")
    assert [(event.kind.partition(".")[2], event.cause) for event in kinds] == [
        ("granted", reason),
        ("ended", "fixed"),
    ]
    assert {event.data["override"] for event in kinds} == {str(row.pk)}
