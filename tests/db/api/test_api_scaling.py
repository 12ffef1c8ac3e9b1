"""What the autoscaler decided, over the REST API."""

import pytest

from pods_app.autoscaler.decisions import decide
from pods_app.models import Pool
from pods_app.states import PoolKind
from tasks_app.models import Project
from tests.support.factories import make_pool, make_task, make_user
from tests.support.rest import Person, problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def pool():
    return make_pool(name="main", kind=PoolKind.LOCAL, min_pods=0)


def wants(pool, number):
    Pool.objects.filter(pk=pool.pk).update(min_pods=number)
    pool.refresh_from_db()
    decide([pool])


def test_decisions_are_listed_with_what_they_were_made_from(admin, pool):
    path = f"pools/{pool.pk}/scaling-decisions/"
    assert admin.get(path).json()["results"] == []
    decide([pool])
    make_task()
    decide([pool])
    decide([make_pool(name="other", kind=PoolKind.LOCAL)])
    newest, first = admin.get(path).json()["results"]
    stored = pool.scaling_decisions.first()
    assert newest == {
        "id": str(stored.pk),
        "at": stored.at.isoformat().replace("+00:00", "Z"),
        "before": 0,
        "desired": 1,
        "reason": "1 slot wanted (1 waiting to start), 3 to a pod: 1 pod",
        "inputs": {
            "demand": {"running": 0, "confirmed": 0, "kept_warm": 0, "startable": 1},
            "limits": {
                "slots_per_pod": 3,
                "min_pods": 0,
                "max_pods": 10,
                "spare_slots": 0,
                "delay_seconds": 0,
            },
            "supply": 0,
            "starting": 0,
        },
    }
    assert (first["before"], first["desired"], first["reason"]) == (None, 0, "No work")


def test_pages_stay_while_decisions_are_added(admin, pool):
    for number in range(5):
        wants(pool, number)
    first = admin.get(f"pools/{pool.pk}/scaling-decisions/", page_size=2).json()
    wants(pool, 7)
    second = admin.send("GET", first["next"].removeprefix("http://testserver")).json()
    assert [row["desired"] for row in first["results"] + second["results"]] == [4, 3, 2, 1]


def test_who_sees_the_pool_sees_them_and_nobody_changes_them(pool):
    mine, other = (Project.objects.create(name=name) for name in ("mine", "other"))
    pool.projects.add(mine)
    decide([pool])
    path = f"pools/{pool.pk}/scaling-decisions/"
    viewer = Person(make_user("viewer", mine))
    assert len(viewer.get(path).json()["results"]) == 1
    problem(Person(make_user("manager", other)).get(path), 404)
    problem(Person(make_user()).get(path), 404)
    for method in ("POST", "PATCH", "DELETE"):
        problem(viewer.send(method, path, {}), 405)
    assert pool.scaling_decisions.count() == 1
