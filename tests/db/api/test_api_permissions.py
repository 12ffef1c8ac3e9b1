"""Who may do what: foreign objects are 404, visible ones without the right 403."""

import pytest

from tasks_app.models import Project
from tests.support.factories import PLAN_HASH, make_user
from tests.support.rest import Person, packed, problem
from tests.support.seeds import seed, state

pytestmark = pytest.mark.django_db

READS = [
    "projects/{projects}/",
    "projects/{projects}/variables/",
    "workspaces/{workspaces}/",
    "workspaces/{workspaces}/configurations/",
    "workspaces/{workspaces}/configurations/{configurations}/",
    "workspaces/{workspaces}/variables/",
    "tasks/{tasks}/",
    "tasks/{tasks}/plan/",
    "tasks/{tasks}/plan/text/",
    "tasks/{tasks}/log/?phase=plan",
    "tasks/{tasks}/log/download/?phase=plan",
    "tasks/{tasks}/events/",
    "work-directories/{work-directories}/",
]
VARIABLE = "workspaces/{workspaces}/variables/{workspaces/variables}/"
#: Method, address, body, and the least role that may.
WRITES = [
    ("POST", "workspaces/{workspaces}/plan/", {}, "planner"),
    ("POST", "workspaces/{workspaces}/configurations/", "archive", "planner"),
    ("POST", "tasks/{tasks}/apply/", {"plan_hash": PLAN_HASH}, "approver"),
    ("POST", "tasks/{tasks}/discard/", {}, "approver"),
    ("POST", "tasks/{tasks}/cancel/", {}, "approver"),
    ("POST", "tasks/{tasks}/keep-warm/", {"hours": 1}, "approver"),
    ("POST", "workspaces/{workspaces}/lock/", {"reason": "x"}, "approver"),
    ("GET", "workspaces/{workspaces}/state-versions/", None, "approver"),
    ("GET", "workspaces/{workspaces}/state-versions/{state-versions}/download/", None, "approver"),
    ("GET", "tasks/{tasks}/recovered-states/", None, "approver"),
    ("GET", "tasks/{tasks}/recovered-states/{tasks/recovered-states}/download/", None, "approver"),
    (
        "POST",
        "tasks/{tasks}/recovered-states/{tasks/recovered-states}/make-current/",
        {},
        "manager",
    ),
    ("POST", "workspaces/{workspaces}/state-versions/", "state", "manager"),
    (
        "POST",
        "workspaces/{workspaces}/state-versions/{state-versions}/rollback/",
        {},
        "manager",
    ),
    ("PATCH", "workspaces/{workspaces}/", {"description": "x"}, "manager"),
    ("POST", "workspaces/{workspaces}/variables/", {"key": "k", "value": "v"}, "manager"),
    (
        "PATCH",
        "workspaces/{workspaces}/variables/{workspaces/variables}/",
        {"value": "v"},
        "manager",
    ),
    ("DELETE", "workspaces/{workspaces}/variables/{workspaces/variables}/", None, "manager"),
    ("PATCH", "projects/{projects}/", {"description": "x"}, "manager"),
    ("GET", "projects/{projects}/credentials/", None, "manager"),
    ("GET", "projects/{projects}/credentials/{projects/credentials}/", None, "manager"),
    (
        "POST",
        "projects/{projects}/credentials/",
        {"kind": "https_token", "host": "h.example.com", "secret": "long enough"},
        "manager",
    ),
    ("DELETE", "projects/{projects}/credentials/{projects/credentials}/", None, "manager"),
]
#: Only managers of every project.
OPERATE = [
    ("POST", "projects/", {"name": "new"}),
    ("POST", "variables/", {"key": "k", "value": "v"}),
    ("POST", "pools/", {"name": "new"}),
    ("PATCH", "pools/{pools}/", {"min_pods": 2}),
    ("GET", "pools/{pools}/tokens/", None),
    ("POST", "pools/{pools}/tokens/", {"name": "x"}),
    ("DELETE", "pools/{pools}/tokens/{pools/tokens}/", None),
    (
        "POST",
        "pools/{pools}/credentials/",
        {"kind": "https_token", "host": "h.example.com", "secret": "long enough"},
    ),
    ("DELETE", "pools/{pools}/credentials/{credentials}/", None),
    ("POST", "pods/{pods}/drain/", {"reason": "x"}),
    ("POST", "pods/{pods}/undrain/", {}),
    ("POST", "agents/{agents}/revoke/", {}),
]
ROLES = ["viewer", "planner", "approver", "manager"]


@pytest.fixture
def ids(db):
    return seed().ids


def send(person, method, path, body, ids):
    address = path.format(**ids)
    if body == "archive":
        return person.upload(address, packed({"main.tf": "x"}))
    if body == "state":
        return person.send(method, address, state(2))
    return person.send(method, address, body)


def with_role(role, ids=None):
    project = Project.objects.get(pk=ids["projects"]) if ids else None
    return Person(make_user(role, project=project))


@pytest.mark.parametrize("path", READS)
def test_a_viewer_reads_and_a_stranger_sees_nothing(ids, path, stranger):
    assert with_role("viewer", ids).get(path.format(**ids)).status_code == 200
    problem(stranger.get(path.format(**ids)), 404)
    elsewhere = Project.objects.create(name="elsewhere")
    problem(Person(make_user("manager", project=elsewhere)).get(path.format(**ids)), 404)


@pytest.mark.parametrize(("method", "path", "body", "least"), WRITES)
def test_each_action_needs_its_role(ids, method, path, body, least, stranger):
    problem(send(stranger, method, path, body, ids), 404)
    below = ROLES[ROLES.index(least) - 1]
    refused = problem(send(with_role(below, ids), method, path, body, ids), 403)
    assert refused["type"] == "urn:slipway:not-permitted"
    assert send(with_role(least, ids), method, path, body, ids).status_code < 300


@pytest.mark.parametrize(("method", "path", "body"), OPERATE)
def test_operating_needs_a_manager_of_every_project(ids, method, path, body, stranger):
    assert send(stranger, method, path, body, ids).status_code in {403, 404}
    problem(send(with_role("manager", ids), method, path, body, ids), 403)
    assert send(with_role("manager"), method, path, body, ids).status_code < 300


LISTS = [
    "projects/",
    "workspaces/",
    "tasks/",
    "variables/",
    "pools/",
    "pods/",
    "slots/",
    "freeze-overrides/",
    "agents/",
    "work-directories/",
]


@pytest.mark.parametrize("path", LISTS)
def test_lists_show_only_what_may_be_seen(ids, path, stranger):
    assert stranger.get(path).json()["results"] == []
    assert with_role("viewer", ids).get(path).json()["results"]


def test_the_task_in_a_slot_is_hidden_from_those_who_may_not_see_it(ids):
    elsewhere = Project.objects.create(name="elsewhere")
    for person, expected in (
        (with_role("viewer", ids), {ids["tasks"]}),
        (Person(make_user("viewer", project=elsewhere)), set()),
    ):
        slots = person.get("slots/", status="reserved").json()["results"]
        assert len(slots) == 1
        assert {slot["task"] for slot in slots if slot["task"]} == expected
        pods = person.get("pods/").json()["results"]
        assert {slot["task"] for slot in pods[0]["slots"] if slot["task"]} == expected


def test_a_pool_of_another_project_is_not_seen(ids, admin):
    Project.objects.create(name="elsewhere")
    answer = admin.patch(f"pools/{ids['pools']}/", {"projects": ["elsewhere"]})
    assert answer.json()["projects"] == ["elsewhere"]
    viewer = with_role("viewer", ids)
    for path in ("pools/", "pods/", "slots/", "agents/"):
        assert viewer.get(path).json()["results"] == []
    problem(viewer.get(f"pods/{ids['pods']}/"), 404)
