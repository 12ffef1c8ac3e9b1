"""States of applies that could not upload them: read by few, written down, made current."""

import pytest

from tasks_app.actors import Actor
from tasks_app.models import Event, StateVersion
from tasks_app.services.state import lock_state, read_state, upload_state
from tasks_app.services.state_position import current_version
from tests.support.factories import make_admin, make_task, make_user, make_waiting_task
from tests.support.rest import Person, problem
from tests.support.state import LINEAGE, document, save_state

pytestmark = pytest.mark.django_db


@pytest.fixture
def task(admin):
    return make_waiting_task()


def path(task, row=None, below=""):
    return f"tasks/{task.pk}/recovered-states/" + (f"{row.pk}/{below}" if row else "")


def test_it_is_listed_and_downloaded_and_the_reader_is_written_down(admin, task):
    assert admin.get(path(task)).json()["results"] == []
    row = save_state(task, document(3, secret="canary"))
    (listed,) = admin.get(path(task)).json()["results"]
    assert (listed["id"], listed["serial"]) == (str(row.pk), None)
    assert not Event.objects.filter(kind="state.downloaded").exists()
    answer = admin.get(path(task, row, "download/"))
    assert b"".join(answer.streaming_content) == document(3, secret="canary")
    assert answer["Content-Disposition"].endswith('-recovered.tfstate"')
    event = Event.objects.get(kind="state.downloaded")
    assert (event.task, event.user, event.workspace) == (task, admin.user, task.workspace)


@pytest.mark.parametrize("role", ["viewer", "planner"])
def test_who_may_not_read_states_does_not_read_this_one(task, role):
    person, row = Person(make_user(role)), save_state(task, document(3))
    for address in (path(task), path(task, row), path(task, row, "download/")):
        problem(person.get(address), 403)
    assert not Event.objects.filter(kind="state.downloaded").exists()


def test_that_of_another_task_is_not_found_under_this_one(admin, task):
    row = save_state(task, document(3))
    other = make_task(task.workspace)
    problem(admin.get(path(other, row)), 404)
    problem(admin.get(path(other, row, "download/")), 404)
    problem(admin.post(path(other, row, "make-current/")), 404)


def test_made_current_it_is_the_newest_version(admin, task):
    row = save_state(task, document(3))
    made = admin.post(path(task, row, "make-current/"), {"comment": "compared by hand"})
    assert made.status_code == 201
    assert (made.json()["serial"], made.json()["cause"]) == (3, "compared by hand")
    assert made.json()["task"] == str(task.pk)
    assert admin.get(path(task, row)).json()["serial"] == 3
    assert problem(admin.post(path(task, row, "make-current/")), 409)
    assert StateVersion.objects.count() == 1


def test_over_a_newer_version_its_serial_is_raised_and_nothing_is_lost(admin, task):
    actor = Actor.person(admin.user)
    upload_state(actor=actor, workspace=task.workspace, content=document(5, newer="x"))
    row = save_state(task, document(3, recovered="y"))
    made = admin.post(path(task, row, "make-current/")).json()
    assert made["serial"] == 6
    assert read_state(current_version(task.workspace)) == document(6, recovered="y")
    assert StateVersion.objects.filter(serial=5).exists()
    assert admin.get(path(task, row)).json()["serial"] == 6


def test_another_lineage_or_no_state_is_refused(admin, task):
    actor = Actor.person(admin.user)
    upload_state(actor=actor, workspace=task.workspace, content=document(1))
    foreign = save_state(task, document(3, lineage="other"))
    problem(admin.post(path(task, foreign, "make-current/")), 409)
    foreign.delete()
    problem(admin.post(path(task, save_state(task, b"{"), "make-current/")), 400)
    assert current_version(task.workspace).lineage == LINEAGE


def test_under_a_lock_it_is_not_made_current(admin, task):
    row = save_state(task, document(3))
    lock_state(workspace=task.workspace, info={"ID": "a"}, actor=Actor.person(make_admin()))
    assert "locked" in problem(admin.post(path(task, row, "make-current/")), 423)["detail"]
    assert current_version(task.workspace) is None


def test_downloads_of_versions_are_written_down_too(admin, task):
    actor = Actor.person(admin.user)
    version = upload_state(actor=actor, workspace=task.workspace, content=document(1))
    address = f"workspaces/{task.workspace_id}/state-versions/{version.pk}/download/"
    assert b"".join(admin.get(address).streaming_content) == document(1)
    event = Event.objects.get(kind="state.downloaded")
    assert (event.user, event.cause) == (admin.user, "serial 1")
