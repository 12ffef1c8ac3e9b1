"""Lists: a constant number of queries, no contents, filters, pages, fields of upper apps."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tasks_app.actors import Actor
from tasks_app.models import Project, Task
from tasks_app.services.tasks import cancel_task
from tasks_app.services.variables import set_variable
from tests.support.factories import make_pod, make_pool, make_task, make_user, make_workspace
from tests.support.rest import Person, problem
from tests.support.seeds import seed

pytestmark = pytest.mark.django_db
CONTENTS = ("ciphertext", "tasks_app_blobchunk", "tasks_app_logchunk")


def queries(person, path):
    with CaptureQueriesContext(
        connection,
    ) as captured:
        answer = person.get(path)
    assert answer.status_code == 200
    return [query["sql"] for query in captured], answer.json()["results"]


LISTS = [
    "projects/",
    "workspaces/",
    "workspaces/{workspaces}/configurations/",
    "workspaces/{workspaces}/state-versions/",
    "tasks/",
    "tasks/{tasks}/events/",
    "pools/",
    "pools/{pools}/scaling-decisions/",
    "pods/",
    "slots/",
    "freeze-overrides/",
    "agents/",
    "work-directories/",
]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("role", ["approver", "admin"])
def test_more_rows_need_no_more_queries(admin, path, role):
    person = admin if role == "admin" else Person(make_user("approver"))
    path = path.format(**seed().ids)
    few, rows = queries(person, path)
    for _ in range(3):
        seed()
    many, more = queries(person, path)
    assert len(more) >= len(rows) > 0
    assert len(many) == len(few)
    assert not [sql for sql in many if any(word in sql for word in CONTENTS)]


def test_variables_are_read_with_their_values_in_one_query(admin):
    workspace = make_workspace()
    path = f"workspaces/{workspace.pk}/variables/"
    actor = Actor.person(admin.user)

    def add(number):
        for index in range(number):
            set_variable(
                actor=actor,
                key=f"key{number}{index}",
                value="a long secret" if index % 2 else "plain",
                sensitive=bool(index % 2),
                workspace=workspace,
            )

    add(2)
    few, rows = queries(admin, path)
    assert {row["value"] for row in rows} == {"plain", None}
    add(5)
    assert len(queries(admin, path)[0]) == len(few)


def test_pages_are_stable_while_rows_are_added(admin):
    make_pool()
    workspace = make_workspace()
    made = [str(make_task(workspace).pk) for _ in range(5)]
    first = admin.get("tasks/", page_size=2).json()
    make_task(workspace)
    second = admin.send("GET", first["next"].removeprefix("http://testserver")).json()
    seen = [row["id"] for row in first["results"] + second["results"]]
    assert seen == made[:0:-1]


def test_filters(admin):
    make_pod(make_pool(name="main"))
    one, two = make_workspace(), make_workspace(project=Project.objects.create(name="second"))
    running, waiting = make_task(one), make_task(one)
    other = make_task(two, type="plan")
    gone = make_task(two)
    cancel_task(actor=Actor.person(admin.user), task_id=gone.pk)

    def found(**query):
        return {row["id"] for row in admin.get("tasks/", **query).json()["results"]}

    everything = {str(task.pk) for task in (running, waiting, other, gone)}
    assert found() == everything
    assert found(status="running") == {
        str(pk) for pk in Task.objects.filter(status="planning").values_list("pk", flat=True)
    }
    assert found(status=["pending", "running"]) >= {str(running.pk), str(waiting.pk)}
    assert found(type="plan") == {str(other.pk)}
    assert found(workspace=one.pk) == {str(running.pk), str(waiting.pk)}
    assert found(project="second") == {str(other.pk), str(gone.pk)}
    assert found(pool="main") == everything
    assert found(pool="other") == set()
    assert found(created_before="2020-01-01T00:00:00Z") == set()
    assert found(created_after="2020-01-01T00:00:00Z") == everything


def test_a_task_shows_pool_agent_and_its_place_in_the_queue(admin):
    pod = make_pod(make_pool(name="main"))
    workspace = make_workspace()
    first, second = make_task(workspace), make_task(workspace)
    shown = admin.get(f"tasks/{first.pk}/").json()
    assert shown["pool"] == "main"
    assert shown["agent"] == {"id": str(pod.agent_id), "pod": pod.pod_name, "slot": 0}
    assert shown["position"] is None
    shown = admin.get(f"tasks/{second.pk}/").json()
    assert shown["agent"] is None
    assert shown["position"] == 2
    assert shown["waiting_reason"]
    actions = {action["name"]: action for action in shown["actions"]}
    assert actions["cancel"]["allowed"]
    assert actions["confirm"] == {
        "name": "confirm",
        "allowed": False,
        "reason": "The task is pending.",
    }
    plan, log = shown["links"].pop("plan"), shown["links"].pop("log")
    problem(admin.get(plan), 404)
    assert admin.get(log, phase="plan").status_code == 200
    for link in shown["links"].values():
        assert admin.get(link).status_code == 200


def test_the_pool_of_a_workspace_is_set_and_filtered_by_name(admin):
    make_pool(name="main")
    make_pool(name="other")
    made = admin.post("workspaces/", {"name": "a", "pool": "other"}).json()
    plain = admin.post("workspaces/", {"name": "b"}).json()
    assert (made["pool"], plain["pool"]) == ("other", None)

    def named(pool):
        return [row["name"] for row in admin.get("workspaces/", pool=pool).json()["results"]]

    assert (named("other"), named("main")) == (["a"], ["b"])
    changed = admin.patch(f"workspaces/{made['id']}/", {"pool": None})
    assert changed.json()["pool"] is None
    assert named("main") == ["a", "b"]
    refused = problem(admin.post("workspaces/", {"name": "c", "pool": "nowhere"}), 400)
    assert refused["field"] == "pool"
    assert [row["name"] for row in admin.get("workspaces/").json()["results"]] == ["a", "b"]
