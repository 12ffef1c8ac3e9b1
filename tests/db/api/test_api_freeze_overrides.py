"""Overrides of freezes over REST: who may, with a token above all, for how long, and once."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client

from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.gate import Start, refusal
from pods_app.models import FreezeOverride
from tasks_app.models import Event, Project
from tests.support.factories import make_admin, make_pool, make_user
from tests.support.freezes import now, overridden, window_row
from tests.support.programs import wait_until
from tests.support.rest import Person, problem

pytestmark = pytest.mark.django_db

OVERRIDES = "/api/v1/freeze-overrides/"


@pytest.fixture
def pool():
    return make_pool(name="main")


@pytest.fixture
def frozen(pool):
    window_row(pool)
    follow_schedules()
    return pool


@pytest.fixture
def operator():
    """A manager of everything whose tokens may."""
    return Person(by_name(make_user("manager")))


def by_name(user):
    user.user_permissions.add(Permission.objects.get(codename="override_by_token"))
    return user


def body(**changes):
    until = now() + timedelta(minutes=30)
    return {
        "pool": "main",
        "reason": "the fix must go out",
        "expires_at": until.isoformat(),
        **changes,
    }


def test_a_pool_works_until_the_override_is_ended(operator, frozen):
    made = operator.post(OVERRIDES, body())
    assert made.status_code == 201
    row = made.json()
    assert (row["pool"], row["in_force"]) == ("main", True)
    assert row["created_by"] == operator.user.username
    assert operator.get(made["Location"]).json() == row
    assert follow_schedules() == 1 and refusal(frozen.pk, Start.APPLY) is None
    ended = operator.post(f"{made['Location']}end/", {"reason": "it is out"}).json()
    assert not ended["in_force"] and ended["expires_at"] < row["expires_at"]
    assert refusal(frozen.pk, Start.APPLY).state == "frozen"
    problem(operator.post(f"{made['Location']}end/"), 409)
    events = Event.objects.filter(kind__startswith="freeze_override.").order_by("id")
    assert [(one.kind, one.cause) for one in events] == [
        ("freeze_override.granted", "the fix must go out"),
        ("freeze_override.ended", "it is out"),
    ]
    assert {one.actor for one in events} == {f"user:{operator.user.username}"}


def test_it_expires_by_itself(operator, frozen):
    until = now() + timedelta(seconds=1)
    row = operator.post(OVERRIDES, body(expires_at=until.isoformat())).json()
    assert row["in_force"]
    wait_until(lambda: now() >= until, "it has expired")
    assert not operator.get(f"{OVERRIDES}{row['id']}/").json()["in_force"]
    assert refusal(frozen.pk, Start.APPLY).state == "frozen"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"pool": "none"}, "pool", "no pool “none”"),
        ({"pool": None}, "pool", ""),
        ({"reason": " "}, "reason", ""),
        ({"reason": "x" * 501}, "reason", "500"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "over already"),
        ({"expires_at": "2199-01-01T00:00:00Z"}, "expires_at", "At most 4 hours from now"),
        ({"expires_at": "2199-01-01T00:00:00"}, "expires_at", "Add an offset"),
        ({"expires_at": None}, "expires_at", ""),
        ({"expires_at": "soon"}, "expires_at", ""),
        ({"minutes": 30}, "minutes", "no such field"),
    ],
)
def test_bad_input_names_field_and_remedy(operator, frozen, fields, field, words):
    found = problem(operator.post(OVERRIDES, body(**fields)), 400)
    assert field in str(found) and words in str(found)
    assert not FreezeOverride.objects.exists()


@pytest.mark.parametrize("left_out", ["pool", "reason", "expires_at"])
def test_reason_and_end_are_no_options(operator, frozen, left_out):
    fields = {name: value for name, value in body().items() if name != left_out}
    assert left_out in str(problem(operator.post(OVERRIDES, fields), 400))


@pytest.mark.parametrize("who", ["manager", "superuser"])
def test_no_token_overrides_unless_that_was_given_by_name(frozen, who):
    """Neither a role nor being a superuser brings it; a session may do what the admin's may."""
    user = make_admin() if who == "superuser" else make_user("manager")
    person, address = Person(user), f"{OVERRIDES}{overridden(frozen).pk}/end/"
    for answer in (person.post(OVERRIDES, body()), person.post(address)):
        assert "unless that was given to you by name" in problem(answer, 403)["detail"]
    assert FreezeOverride.objects.count() == 1
    browser = Client()
    browser.force_login(user)
    made = browser.post(OVERRIDES, body(), content_type="application/json")
    assert made.status_code == 201
    group = Group.objects.create(name="release")
    user.groups.add(group)
    group.permissions.add(Permission.objects.get(codename="override_by_token"))
    assert person.post(OVERRIDES, body()).status_code == 201
    assert person.post(address).status_code == 200


def test_the_permission_alone_is_no_role(frozen):
    project = Project.objects.create(name="mine")
    address = f"{OVERRIDES}{overridden(frozen).pk}/end/"
    for user in (make_user("approver"), make_user("manager", project)):
        person = Person(by_name(user))
        for answer in (person.post(OVERRIDES, body()), person.post(address)):
            assert "override_freeze" in problem(answer, 403)["detail"]
        # The right is asked for first: the answer tells nobody else which pools there are.
        problem(person.post(OVERRIDES, body(pool="none")), 403)
    stranger = Person(by_name(make_user()))
    problem(stranger.post(OVERRIDES, body()), 403)
    problem(stranger.post(address), 404)
    assert FreezeOverride.objects.count() == 1


def test_who_sees_them(pool):
    mine, other = (Project.objects.create(name=name) for name in ("mine", "other"))
    theirs = make_pool(name="theirs")
    pool.projects.add(mine)
    theirs.projects.add(other)
    seen, hidden = overridden(pool), overridden(theirs)
    viewer = Person(make_user("viewer", mine))
    assert [one["id"] for one in viewer.get(OVERRIDES).json()["results"]] == [str(seen.pk)]
    problem(viewer.get(f"{OVERRIDES}{hidden.pk}/"), 404)
    problem(viewer.get(f"{OVERRIDES}{uuid4()}/"), 404)


def test_the_list_is_filtered(viewer, pool):
    live, over = overridden(pool), overridden(pool, minutes=1)
    elsewhere = overridden(make_pool(name="other"))
    FreezeOverride.objects.filter(pk=over.pk).update(expires_at=now())

    def ids(**query):
        return [one["id"] for one in viewer.get(OVERRIDES, **query).json()["results"]]

    assert ids(pool="main") == [str(over.pk), str(live.pk)]
    assert ids(in_force="true") == [str(elsewhere.pk), str(live.pk)]
    assert ids(in_force="false", pool="main") == [str(over.pk)]
    problem(viewer.get(OVERRIDES, in_force="maybe"), 400)
    problem(viewer.get(OVERRIDES, live="true"), 400)


def test_the_same_request_again_grants_once(operator, frozen):
    key, wanted = {"Idempotency-Key": "one"}, body()
    first = operator.post(OVERRIDES, wanted, headers=key)
    again = operator.post(OVERRIDES, wanted, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json() and again["Idempotency-Replayed"] == "true"
    assert FreezeOverride.objects.count() == 1
    assert Event.objects.filter(kind="freeze_override.granted").count() == 1
    problem(operator.post(OVERRIDES, body(reason="more"), headers=key), 422)
