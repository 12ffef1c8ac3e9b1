"""A stored state voids the plans made on another one: at once, and without a deadlock."""

import threading

import pytest

from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.exceptions import PlanVoid
from tasks_app.models import Event, StateVersion
from tasks_app.services import state, tasks, void_plans
from tasks_app.services.state_recovery import store_recovered_state
from tasks_app.states import Status
from tests.support.factories import (
    PLAN_HASH,
    make_admin,
    make_task,
    make_waiting_task,
    make_workspace,
)
from tests.support.racing import race, wait_until_somebody_waits_for_a_row
from tests.support.rest import Person
from tests.support.state import LINEAGE, StateClient, document

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def person():
    return Person(make_admin())


@pytest.fixture
def admin(person):
    return Actor.person(person.user)


def through_the_service(person, workspace, headers=None):
    actor = Actor.person(person.user)
    state.upload_state(actor=actor, workspace=workspace, content=document(1))


def through_the_api(person, workspace, headers=None):
    address = f"workspaces/{workspace.pk}/state-versions/"
    answer = person.send("POST", address, document(1), headers=headers)
    assert answer.status_code == 201


def with_a_key(person, workspace):
    through_the_api(person, workspace, {"Idempotency-Key": "one"})


def over_http(person, workspace):
    client = StateClient(workspace.pk, person.token)
    assert client.lock().status_code == 200
    assert client.post(document(1)).status_code == 200


def recovered(person, workspace):
    holder = make_task(workspace)
    actor = Actor("task:x")
    state.lock_state(workspace=workspace, info={"ID": "a"}, actor=actor, task_id=holder.pk)
    assert store_recovered_state(task=holder, content=document(1), actor=Actor.agent("a"))


@pytest.mark.parametrize(
    "move", [through_the_service, through_the_api, with_a_key, over_http, recovered]
)
def test_a_moved_state_voids_the_waiting_plan_at_once(person, workspace, move):
    task = make_waiting_task(workspace)
    other = make_waiting_task()
    move(person, workspace)
    task.refresh_from_db()
    other.refresh_from_db()
    assert (task.status, other.status) == (Status.DISCARDED, Status.APPLY_PENDING)
    event = Event.objects.get(task=task, kind="task.discarded")
    assert (event.actor, event.cause) == (
        "system:state",
        "the plan became void: the state moved from no state to serial 1",
    )
    assert task.error == f"T{event.cause[1:]}. Nothing was applied; plan again."


def test_a_rollback_with_a_key_voids_it_too(person, admin, workspace):
    version = state.upload_state(actor=admin, workspace=workspace, content=document(1))
    task = make_waiting_task(workspace)
    address = f"workspaces/{workspace.pk}/state-versions/{version.pk}/rollback/"
    answer = person.post(address, headers={"Idempotency-Key": "one"})
    assert answer.json()["serial"] == 2
    task.refresh_from_db()
    assert task.status == Status.DISCARDED


def test_a_version_that_is_undone_voids_nothing(person, workspace, monkeypatch):
    task = make_waiting_task(workspace)

    def fail(*args):
        raise KeyError("crash")

    monkeypatch.setattr("tasks_app.api.idempotency._store", fail)
    address = f"workspaces/{workspace.pk}/state-versions/"
    answer = person.send("POST", address, document(1), headers={"Idempotency-Key": "one"})
    assert answer.status_code == 500
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING


def test_the_state_is_stored_though_voiding_fails_and_the_controller_voids(
    person, workspace, monkeypatch
):
    task = make_waiting_task(workspace)

    def fail(*args):
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(void_plans, "void_if_moved", fail)
        over_http(person, workspace)
    assert StateVersion.objects.get(workspace=workspace).lineage == LINEAGE
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING
    assert void_plans.void_moved_plans() == 1


def test_an_upload_with_a_key_meets_a_confirmation_that_holds_the_task(
    person, admin, workspace, monkeypatch
):
    """The confirmation has the task and waits for the workspace, which the upload has."""
    task = make_waiting_task(workspace)
    confirmed = []
    confirming = threading.Thread(
        target=lambda: confirmed.extend(
            race([lambda: tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)])
        )
    )
    store = blobs.store

    def store_meanwhile(*args, **options):
        confirming.start()
        wait_until_somebody_waits_for_a_row()
        return store(*args, **options)

    monkeypatch.setattr(blobs, "store", store_meanwhile)
    with_a_key(person, workspace)
    confirming.join()
    assert isinstance(confirmed[0], PlanVoid)
    task.refresh_from_db()
    assert task.status == Status.DISCARDED


def test_uploads_with_keys_race_what_people_do_with_tasks(admin):
    for _ in range(6):
        person, workspace = Person(make_admin()), make_workspace()
        task = make_waiting_task(workspace)
        make_task(workspace)

        def upload(person=person, workspace=workspace):
            with_a_key(person, workspace)

        def confirm(task=task):
            tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)

        def cancel(task=task):
            tasks.cancel_task(actor=admin, task_id=task.pk)

        def create(workspace=workspace):
            make_task(workspace)

        uploaded, *others = race([upload, confirm, cancel, create])
        assert uploaded is None
        assert all(other is None or "deadlock" not in str(other) for other in others)
        task.refresh_from_db()
        assert task.status != Status.APPLY_PENDING
        for one in workspace.tasks.all():
            one.slots.update(status="idle", task=None, task_type="")
            one.leases.update(state="ended")
