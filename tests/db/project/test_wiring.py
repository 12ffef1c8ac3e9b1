"""What config wires together."""

import asyncio

import pytest
from django.db import connections
from django.db.utils import OperationalError
from django_q.models import Schedule

from config import checks, schedules
from config.broker import ResilientORM
from config.middleware import POLICY
from tests.support.factories import make_pod, make_pool, make_task

pytestmark = pytest.mark.django_db


def ids(messages):
    return [message.id for message in messages]


def test_the_database_of_the_tests_passes_its_check():
    assert checks.check_database(None, databases=["default"]) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((140012, "on"), ["slipway.E005"]),
        ((150000, "on"), []),
        ((180004, "off"), ["slipway.E006"]),
        ((180004, "local"), []),
    ],
)
def test_old_or_careless_databases_are_refused(monkeypatch, row, expected):
    class Cursor:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def execute(self, statement):
            pass

        def fetchone(self):
            return row

    monkeypatch.setattr(connections["default"], "cursor", Cursor)
    assert ids(checks.check_database(None, databases=["default"])) == expected


def test_an_unreachable_database_is_named(monkeypatch):
    def refuse():
        raise OperationalError("connection refused")

    monkeypatch.setattr(connections["default"], "cursor", refuse)
    (message,) = checks.check_database(None, databases=["default"])
    assert message.id == "slipway.E007"
    assert "connection refused" in str(message)


def test_schedules_are_made_by_migrate_and_kept_in_line():
    wanted = {name: function for name, function, _ in schedules.SCHEDULES}
    assert dict(Schedule.objects.values_list("name", "func")) == wanted
    Schedule.objects.create(name="old", func="tasks_app.jobs.gone")
    Schedule.objects.create(name="somebody's own", func="other.job")
    Schedule.objects.filter(func="tasks_app.jobs.purge").update(minutes=1)
    schedules.sync_schedules()
    schedules.sync_schedules()
    assert dict(Schedule.objects.values_list("name", "func")) == {
        **wanted,
        "somebody's own": "other.job",
    }
    assert Schedule.objects.get(func="tasks_app.jobs.purge").minutes == schedules.HOURLY


@pytest.mark.parametrize("entry", schedules.SCHEDULES, ids=lambda entry: entry[1])
def test_scheduled_functions_exist_and_run(entry):
    module, _, name = entry[1].rpartition(".")
    getattr(__import__(module, fromlist=[name]), name)()


def test_the_broker_waits_out_a_restart_of_the_database(monkeypatch):
    def refuse(self):
        raise OperationalError("the database system is shutting down")

    monkeypatch.setattr("config.broker._PAUSE_SECONDS", 0)
    monkeypatch.setattr("config.broker.ORM.dequeue", refuse)
    monkeypatch.setattr("config.broker.connections.close_all", lambda: None)
    assert ResilientORM().dequeue() is None


def test_health_and_policy(client):
    answer = client.get("/livez")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == POLICY
    assert client.post("/livez").status_code == 405


def test_metrics_are_counted_in_the_database(client):
    make_pod(make_pool(name="main"))
    make_task()
    text = client.get("/metrics").content.decode()
    assert 'slipway_tasks{status="planning"} 1.0' in text
    assert 'slipway_pods{phase="online",pool="main"} 1.0' in text
    assert 'slipway_slots{pool="main",status="running"} 1.0' in text


def test_the_api_has_a_document_and_a_page_of_this_server(client):
    assert client.get("/api/v1/schema/").status_code == 200
    page = client.get("/api/v1/docs/").content.decode()
    assert "https://" not in page
    assert "<script>" not in page


def test_asynchronous_requests_get_static_files_and_the_policy(async_client):
    async def ask():
        file = await async_client.get("/static/admin/css/base.css")
        content = b"".join([part async for part in file.streaming_content])
        return file, content, await async_client.get("/livez")

    file, content, answer = asyncio.run(ask())
    assert file.status_code == 200
    assert content
    assert answer.headers["Content-Security-Policy"] == POLICY
