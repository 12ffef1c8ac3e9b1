"""Every refusal is a problem document, whatever was sent."""

import pytest
from django.db import OperationalError

from tasks_app.models import Project, Task, Workspace
from tests.support.factories import make_pool, make_task, make_workspace
from tests.support.rest import Person, packed, problem

pytestmark = pytest.mark.django_db
UNKNOWN = "01a20ec1-281f-7896-b16f-4bf57fac9a09"


def test_without_a_token(db):
    document = problem(Person(None).get("workspaces/"), 401)
    assert document["type"] == "urn:slipway:unauthenticated"
    assert Person(None).get("workspaces/")["WWW-Authenticate"].startswith("Token")


def test_a_wrong_token(db):
    answer = Person(None).send("GET", "workspaces/", headers={"Authorization": "Token nonsense"})
    problem(answer, 401)


def test_the_request_is_named_in_answer_and_header(admin):
    answer = admin.get(f"workspaces/{UNKNOWN}/")
    assert problem(answer, 404)["request_id"] == answer["X-Request-ID"]


@pytest.mark.parametrize("path", ["nothing/", "workspaces", "tasks/7/", "tasks/x/log/"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_addresses(admin, method, path):
    problem(admin.send(method, path), 404)


def test_methods_and_content_types(admin):
    refused = admin.send("PUT", "workspaces/", {})
    assert problem(refused, 405)["type"] == "urn:slipway:method-not-allowed"
    assert "POST" in refused["Allow"]
    problem(admin.send("POST", "workspaces/", b"<xml/>", content_type="text/xml"), 415)
    workspace = make_workspace(configured=False)
    address = f"workspaces/{workspace.pk}/configurations/"
    problem(admin.send("POST", address, b"x", content_type="text/plain"), 415)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"name": "x" * 91}, "name"),
        ({"name": ["a"]}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a", "auto_apply": "true"}, "auto_apply"),
        ({"name": "a", "auto_apply": None}, "auto_apply"),
        ({"name": "a", "engine": "pulumi"}, "engine"),
        ({"name": "a", "engine_version": "newest"}, "engine_version"),
        ({"name": "a", "working_directory": "../other"}, "working_directory"),
        ({"name": "a", "project": "nowhere"}, "project"),
        ({"name": "a", "pool": "nowhere"}, "pool"),
        ({"name": "a", "atuo_apply": True}, "atuo_apply"),
        ({"name": "a", "\ud800": 1}, "?"),
    ],
)
def test_bad_fields_are_named(admin, body, field):
    document = problem(admin.post("workspaces/", body), 400)
    assert document["field"] == field
    assert document["errors"][0]["message"]
    assert not Workspace.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[1]",
        b'"text"',
        b"1" * 5000,
        b'{"name": NaN}',
        b"\xff\xfe",
        b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name": 1e999}',
    ],
    ids=["cut", "list", "text", "digits", "nan", "bytes", "deep", "huge"],
)
def test_bodies_that_are_no_object(admin, body):
    problem(admin.send("POST", "workspaces/", body), 400)


def test_a_body_that_is_too_large(admin, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    problem(admin.post("workspaces/", {"name": "a", "description": "x" * 2000}), 413)


@pytest.mark.parametrize(
    "query",
    [
        {"cursor": "x"},
        {"cursor": "cD1ub3RoaW5n"},  # p=nothing
        {"status": "sleeping"},
        {"workspace": "7"},
        {"created_after": "yesterday"},
        {"stauts": "failed"},
        {"project": "a\0"},
        {"%": "%s"},
    ],
)
def test_filters_that_make_no_sense(admin, query):
    problem(admin.get("tasks/", **query), 400)


@pytest.mark.parametrize("offset", ["-1", "x", "9" * 30, "1.5"])
def test_offsets_that_make_no_sense(admin, offset):
    make_pool()
    task = make_task()
    assert problem(admin.get(f"tasks/{task.pk}/log/", phase="plan", offset=offset), 400)
    assert problem(admin.get(f"tasks/{task.pk}/log/", phase="both"), 400)["field"] == "phase"


def test_archives(admin, settings):
    workspace = make_workspace(configured=False)
    address = f"workspaces/{workspace.pk}/configurations/"
    refused = problem(admin.upload(address, packed({"../evil.tf": "x"})), 400)
    assert refused["type"] == "urn:slipway:archive-refused"
    assert refused["entry"] == "../evil.tf"
    problem(admin.upload(address, b"no archive"), 400)
    assert not workspace.configurations.exists()


def test_an_archive_that_is_too_large(admin, settings):
    import dataclasses

    settings.SLIPWAY = dataclasses.replace(settings.SLIPWAY, archive_bytes_max=100)
    workspace = make_workspace(configured=False)
    address = f"workspaces/{workspace.pk}/configurations/"
    assert problem(admin.upload(address, b"x" * 101), 413)["type"] == "urn:slipway:too-large"


@pytest.mark.parametrize("target", ["-auto-approve", "a b", "x;y"])
def test_targets(admin, target):
    make_pool()
    workspace = make_workspace()
    document = problem(admin.post(f"workspaces/{workspace.pk}/plan/", {"targets": [target]}), 400)
    assert document["field"] == "targets"
    assert not Task.objects.exists()


@pytest.mark.parametrize("key", ["TF_CLI_ARGS", "LD_PRELOAD", "PATH"])
def test_environment_variables_that_are_never_given(admin, key):
    workspace = make_workspace()
    body = {"key": key, "value": "x", "category": "environment"}
    document = problem(admin.post(f"workspaces/{workspace.pk}/variables/", body), 400)
    assert document["field"] == "key"


def test_a_taken_name(admin):
    Project.objects.create(name="taken")
    assert problem(admin.post("projects/", {"name": "taken"}), 409)["field"] == "name"


def test_a_database_that_is_away_is_not_described(admin, monkeypatch):
    def refuse(**fields):
        raise OperationalError("password authentication failed for user slipway at 10.0.0.7")

    monkeypatch.setattr("tasks_app.api.projects.service.create_project", refuse)
    answer = admin.post("projects/", {"name": "a"})
    assert problem(answer, 503)["type"] == "urn:slipway:unavailable"
    assert "10.0.0.7" not in answer.content.decode()
    assert answer["Retry-After"] == "1"


def test_a_defect_is_not_described(admin, monkeypatch):
    def fail(**fields):
        raise KeyError("some secret")

    monkeypatch.setattr("tasks_app.api.projects.service.create_project", fail)
    answer = admin.post("projects/", {"name": "a"})
    assert problem(answer, 500)["type"] == "urn:slipway:internal"
    assert "secret" not in answer.content.decode()


def test_too_many_requests(admin, monkeypatch):
    from rest_framework.throttling import UserRateThrottle

    from tasks_app.api.projects import ProjectViewSet

    class Narrow(UserRateThrottle):
        rate = "1/min"

    monkeypatch.setattr(ProjectViewSet, "throttle_classes", [Narrow])
    assert admin.get("projects/").status_code == 200
    answer = admin.get("projects/")
    assert problem(answer, 429)["type"] == "urn:slipway:too-many-requests"
    assert int(answer["Retry-After"]) > 0
