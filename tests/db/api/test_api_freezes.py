"""Freeze windows and states over REST."""

from datetime import timedelta

import pytest

from pods_app.freeze.edges import follow_schedules
from tests.support.factories import make_pool, make_user
from tests.support.freezes import now, window_row
from tests.support.rest import Person, problem

pytestmark = pytest.mark.django_db

WINDOWS = "/api/v1/freeze-windows/"
WEEKLY = {
    "name": "nightly",
    "reason": "backups",
    "all_pools": True,
    "time_zone": "Europe/Berlin",
    "weekdays": [0, 1],
    "start_time": "22:00",
    "end_time": "06:00",
    "days_later": 1,
    "confirm": "nightly",
}


@pytest.fixture
def pool():
    return make_pool(name="main")


def test_windows_are_created_read_changed_and_deleted(admin, pool):
    made = admin.post(WINDOWS, {**WEEKLY, "weekdays": [far_day()]})
    assert made.status_code == 201
    row = made.json()
    assert (row["start_time"], row["pools"], row["lead_minutes"]) == ("22:00:00", [], 15)
    assert len(row["next_occurrences"]) == 5
    address = made["Location"]
    changed = admin.patch(
        address,
        {
            "all_pools": False,
            "pools": ["main"],
            "exceptions": [{"first": "2030-12-24", "last": "2030-12-26"}],
            "ticket": "CHG-4711",
            "until": f"{now() + timedelta(days=11):%Y-%m-%d}",
        },
    ).json()
    assert (row["ticket"], changed["ticket"]) == ("", "CHG-4711")
    assert len(changed["next_occurrences"]) == 2, "it ends before the third"
    assert admin.patch(address, {"until": None}).json()["until"] is None
    assert (changed["pools"], changed["name"]) == (["main"], "nightly")
    assert changed["exceptions"] == [{"first": "2030-12-24", "last": "2030-12-26"}]
    assert [one["id"] for one in admin.get(WINDOWS).json()["results"]] == [row["id"]]
    assert admin.delete(address).status_code == 204
    assert admin.get(address).status_code == 404


def far_day():
    return (now() + timedelta(days=3)).weekday()


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"time_zone": "Mars/Olympus"}, "time_zone", "no time zone"),
        ({"days_later": 0}, "end_time", "set days_later to 1"),
        ({"end_time": "22:00", "days_later": 0}, "end_time", "no length"),
        ({"pools": ["none"], "all_pools": False}, "pools", "no pool “none”"),
        (
            {
                "exceptions": [
                    {"first": "2030-12-24", "last": "2030-12-26"},
                    {"first": "2030-12-26", "last": "2030-12-26"},
                ]
            },
            "exceptions",
            "overlap; join them",
        ),
        ({"exceptions": [{"first": "2030-12-24"}]}, "exceptions", "Name both days"),
        ({"start_time": "25:00"}, "start_time", ""),
        ({"start_time": 5}, "start_time", ""),
        ({"weekdays": [7]}, "weekdays", ""),
        ({"ticket": "x" * 101}, "ticket", "100 characters"),
        ({"ticket": "CHG-1\nCHG-2"}, "ticket", "one line"),
        ({"ticket": 4711}, "ticket", "a text"),
        ({"until": "2020-01-01"}, "until", "use a later day, or none"),
        ({"until": "2030-02-30"}, "until", ""),
        ({"what": 1}, "what", "no such field"),
    ],
)
def test_bad_input_names_field_and_remedy(admin, pool, fields, field, words):
    answer = admin.post(WINDOWS, {**WEEKLY, **fields})
    found = problem(answer, 400)
    assert field in str(found) and words in str(found)


def test_what_begins_soon_needs_its_name(admin, pool):
    moment = now() - timedelta(minutes=5)
    end = now() + timedelta(hours=1)
    soon = {
        **{key: WEEKLY[key] for key in ("name", "reason", "all_pools")},
        "time_zone": "UTC",
        "first_day": f"{moment:%Y-%m-%d}",
        "last_day": f"{end:%Y-%m-%d}",
        "start_time": f"{moment:%H:%M}",
        "end_time": f"{end:%H:%M}",
    }
    assert "type its name" in str(problem(admin.post(WINDOWS, soon), 400))
    made = admin.post(WINDOWS, {**soon, "confirm": "nightly"})
    assert made.status_code == 201
    address = made["Location"]
    assert problem(admin.patch(address, {"lead_minutes": 1}), 409)
    assert problem(admin.delete(address), 409)
    later = now() + timedelta(hours=3)
    nowhere = {"until": f"{later:%Y-%m-%dT%H:%M}", "reason": "more"}
    assert "Add an offset" in str(problem(admin.post(f"{address}extend/", nowhere), 400))
    extended = admin.post(f"{address}extend/", {"until": later.isoformat(), "reason": "more"})
    assert extended.json()["adjusted_reason"] == "more"
    assert admin.post(f"{address}end/", {"reason": "done"}).status_code == 200
    assert problem(admin.post(f"{address}end/", {"reason": "done"}), 409)


def test_the_state_of_a_pool_and_of_another_time(admin, pool):
    address = f"/api/v1/pools/{pool.pk}/freeze-state/"
    assert admin.get(address).json()["state"] == "open"
    row = window_row(pool, ticket="CHG-4711")
    state = admin.get(address).json()
    assert "(quarter end [CHG-4711])" in state["reason"]
    assert (state["state"], state["confirmed_stopped"]) == ("frozen", False)
    follow_schedules()
    state = admin.get(address).json()
    assert (state["windows"], state["confirmed_stopped"]) == ([row.name], True)
    assert " UTC on " in state["reason"] and state["until"] == state["frozen_until"]
    later = admin.get(address, at=(now() + timedelta(hours=2)).isoformat()).json()
    assert (later["state"], later["confirmed_stopped"]) == ("open", None)
    for at in ("", "yesterday", "1800-01-01T00:00:00Z"):
        assert problem(admin.get(address, at=at), 400)
    assert problem(admin.get(address, when="now"), 400)
    row.delete()
    assert admin.get(address).json()["state"] == "reopening"


def test_who_sees_and_who_may(pool):
    from tasks_app.models import Project

    mine, other = (Project.objects.create(name=name) for name in ("mine", "other"))
    theirs = make_pool(name="theirs")
    theirs.projects.add(other)
    pool.projects.add(mine)
    seen, hidden, everywhere = window_row(pool), window_row(theirs), window_row()
    viewer, nobody = Person(make_user("viewer", mine)), Person(make_user())
    ids = {one["id"] for one in viewer.get(WINDOWS).json()["results"]}
    assert ids == {str(seen.pk), str(everywhere.pk)}
    assert nobody.get(WINDOWS).json()["results"] == []
    assert viewer.get(f"{WINDOWS}{hidden.pk}/").status_code == 404
    assert viewer.get(f"/api/v1/pools/{theirs.pk}/freeze-state/").status_code == 404
    manager = Person(make_user("manager", mine))
    for person in (viewer, manager):
        assert person.post(WINDOWS, WEEKLY).status_code == 403
        assert person.delete(f"{WINDOWS}{seen.pk}/").status_code == 403
        assert person.patch(f"{WINDOWS}{seen.pk}/", {"enabled": False}).status_code == 403
        assert person.post(f"{WINDOWS}{seen.pk}/end/", {"reason": "r"}).status_code == 403


def test_the_list_costs_the_same_for_many(admin, pool, django_assert_max_num_queries):
    for _ in range(3):
        window_row(pool)
    admin.get(WINDOWS)
    with django_assert_max_num_queries(10):
        assert len(admin.get(WINDOWS).json()["results"]) == 3
    for _ in range(6):
        window_row(pool)
    with django_assert_max_num_queries(10):
        assert len(admin.get(WINDOWS).json()["results"]) == 9
