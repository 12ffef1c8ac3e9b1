"""States beside the protocol: uploads, rollback, what a moved state voids, recovery."""

import threading

import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import (
    Conflict,
    InvalidInput,
    NotPermitted,
    PlanVoid,
    StateConflict,
    StateLocked,
)
from tasks_app.models import Event, StateLock, StateVersion, Task, Workspace
from tasks_app.services import plans, state, tasks
from tasks_app.services.state_position import current_version, state_position
from tasks_app.services.state_recovery import store_recovered_state
from tasks_app.services.void_plans import void_if_moved
from tasks_app.states import Status
from tests.support.factories import (
    PLAN_HASH,
    finish_planning,
    make_admin,
    make_pod,
    make_pool,
    make_task,
    make_user,
    make_waiting_task,
    make_workspace,
)
from tests.support.racing import race
from tests.support.state import LINEAGE, document

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return Actor.person(make_admin())


def upload(admin, workspace, serial, **outputs):
    content = document(serial, **outputs)
    return state.upload_state(actor=admin, workspace=workspace, content=content)


def test_an_upload_keeps_lineage_and_serial(admin, workspace):
    version = upload(admin, workspace, 41)
    assert (version.serial, version.lineage) == (41, LINEAGE)
    assert state.read_state(version) == document(41)
    assert state_position(workspace) == (LINEAGE, 41)
    event = Event.objects.get(kind="state.stored")
    assert (event.actor, event.data["serial"]) == (admin.name, 41)
    with pytest.raises(StateConflict):
        upload(admin, workspace, 41, other="content")
    with pytest.raises(StateConflict, match="two different"):
        state.upload_state(
            actor=admin, workspace=workspace, content=document(42, lineage="another")
        )
    with pytest.raises(InvalidInput):
        state.upload_state(actor=admin, workspace=workspace, content=b"no state")


@pytest.mark.parametrize("role", ["planner", "approver"])
def test_who_may_not_upload_or_roll_back(admin, workspace, role):
    version = upload(admin, workspace, 1)
    actor = Actor.person(make_user(role))
    with pytest.raises(NotPermitted):
        upload(actor, workspace, 2)
    with pytest.raises(NotPermitted):
        state.rollback_state(actor=actor, workspace=workspace, version=version)


def test_rolling_back_is_a_new_version(admin, workspace):
    first = upload(admin, workspace, 5, a="1")
    upload(admin, workspace, 9, a="2")
    new = state.rollback_state(actor=admin, workspace=workspace, version=first)
    assert new.serial == 10
    assert state.read_state(new) == document(10, a="1")
    assert StateVersion.objects.count() == 3


def test_nothing_is_uploaded_under_a_lock_or_an_apply(admin, workspace):
    version = upload(admin, workspace, 1)
    state.lock_state(workspace=workspace, info={"ID": "a"}, actor=admin)
    with pytest.raises(StateLocked):
        upload(admin, workspace, 2)
    with pytest.raises(StateLocked):
        state.rollback_state(actor=admin, workspace=workspace, version=version)
    state.unlock_state(workspace=workspace, lock_id="a", actor=admin)
    task = make_task(workspace)
    for status in (Status.APPLYING, Status.APPLY_UNKNOWN):
        Task.objects.filter(pk=task.pk).update(status=status)
        with pytest.raises(Conflict, match="wait"):
            upload(admin, workspace, 2)


def test_a_plan_whose_state_moved_while_it_was_made_is_void_at_once(admin, workspace):
    make_pod(make_pool())
    task = make_task(workspace, auto_apply=True)
    upload(admin, workspace, 1)
    task.refresh_from_db()
    assert task.status == Status.PLANNING
    assert finish_planning(task).status == Status.DISCARDED
    again = make_task(workspace)
    finish_planning(again, state_lineage=LINEAGE, state_serial=1)
    assert again.status == Status.APPLY_PENDING


def test_a_plan_of_a_foreign_backend_is_never_void(admin, workspace):
    make_pod(make_pool())
    Workspace.objects.update(state_backend="configuration")
    workspace.refresh_from_db()
    task = finish_planning(make_task(workspace), state_lineage="", state_serial=None)
    StateVersion.objects.create(workspace=workspace, serial=1, lineage="x", digest="", size=0)
    task = tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    assert task.status == Status.CONFIRMED


def test_a_confirmation_after_the_state_moved_is_refused(admin, workspace):
    task = make_waiting_task(workspace)
    StateVersion.objects.create(workspace=workspace, serial=1, lineage="x", digest="", size=0)
    with pytest.raises(PlanVoid):
        tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING
    assert not hasattr(task, "confirmation")


@pytest.mark.django_db(transaction=True)
def test_an_upload_races_a_confirmation():
    admin = Actor.person(make_admin())
    for _ in range(8):
        workspace = make_workspace()
        task = make_waiting_task(workspace)
        confirmed, uploaded = race(
            [
                lambda t=task: tasks.confirm_task(actor=admin, task_id=t.pk, plan_hash=PLAN_HASH),
                lambda w=workspace: upload(admin, w, 1),
            ]
        )
        assert isinstance(uploaded, StateVersion)
        task.refresh_from_db()
        if isinstance(confirmed, Task):
            # Confirmed on the old position: its permit will be refused.
            assert task.status == Status.CONFIRMED
            assert task.confirmation.state_serial is None
        else:
            assert isinstance(confirmed, Conflict)
            assert task.status == Status.DISCARDED
        task.slots.update(status="idle", task=None, task_type="")
        task.leases.update(state="ended")


@pytest.mark.django_db(transaction=True)
def test_an_upload_races_the_end_of_a_plan():
    admin = Actor.person(make_admin())
    make_pod(make_pool())
    for _ in range(8):
        workspace = make_workspace()
        task = make_task(workspace)
        results = race([lambda t=task: finish_planning(t), lambda w=workspace: upload(admin, w, 1)])
        assert not any(isinstance(result, Exception) for result in results)
        task.refresh_from_db()
        assert task.status == Status.DISCARDED
        task.slots.update(status="idle", task=None, task_type="")
        task.leases.update(state="ended")


@pytest.mark.django_db(transaction=True)
def test_no_upload_slips_between_the_position_and_the_end_of_a_plan(monkeypatch):
    admin = Actor.person(make_admin())
    make_pod(make_pool())
    workspace = make_workspace()
    task = make_task(workspace)
    uploading = threading.Thread(target=race, args=([lambda: upload(admin, workspace, 1)],))

    def meanwhile(planned, position):
        uploading.start()
        uploading.join(1)  # it cannot end before the plan's end is committed
        return void_if_moved(planned, position)

    monkeypatch.setattr(plans, "void_if_moved", meanwhile)
    finish_planning(task)
    uploading.join()
    task.refresh_from_db()
    assert task.status == Status.DISCARDED


# --- a state that could not be uploaded ------------------------------------------------------


@pytest.fixture
def holder(workspace):
    """A task that holds its lock."""
    task = make_task(workspace)
    state.lock_state(workspace=workspace, info={"ID": "a"}, actor=Actor("task:x"), task_id=task.pk)
    return task


AGENT = Actor.agent("a")


def test_a_recovered_state_becomes_current_and_frees_the_lock(workspace, holder):
    assert store_recovered_state(task=holder, content=document(3), actor=AGENT)
    assert current_version(workspace).task == holder
    assert not StateLock.objects.filter(released_at=None).exists()


@pytest.mark.parametrize("content", [document(1), document(9, lineage="other"), b"", b"{"])
def test_what_does_not_follow_stays_evidence_and_the_lock_stays(workspace, holder, content):
    StateVersion.objects.create(workspace=workspace, serial=5, lineage=LINEAGE, digest="", size=0)
    assert not store_recovered_state(task=holder, content=content, actor=AGENT)
    assert state_position(workspace) == (LINEAGE, 5)
    assert StateLock.objects.filter(released_at=None).exists()
    assert Event.objects.get(kind="state.quarantined").task == holder


def test_a_recovered_state_without_the_lock_is_not_made_current(admin, workspace, holder):
    state.force_unlock_state(actor=admin, workspace=workspace)
    assert not store_recovered_state(task=holder, content=document(3), actor=AGENT)
    assert current_version(workspace) is None
    assert "taken away" in Event.objects.get(kind="state.quarantined").cause


def _unlock(task):
    state.unlock_state(
        workspace=task.workspace, lock_id="a", actor=Actor("task:x"), task_id=task.pk
    )


def test_a_run_that_unlocked_by_itself_still_has_its_state_recovered(workspace, holder):
    """Terraform gives the lock back after a state that it could not upload."""
    _unlock(holder)
    assert store_recovered_state(task=holder, content=document(3), actor=AGENT)
    assert current_version(workspace).task == holder


def test_a_state_is_not_recovered_over_a_later_lock(admin, workspace, holder):
    _unlock(holder)
    state.lock_state(workspace=workspace, info={"ID": "b"}, actor=admin)
    state.unlock_state(workspace=workspace, lock_id="b", actor=admin)
    assert not store_recovered_state(task=holder, content=document(3), actor=AGENT)


@pytest.mark.django_db(transaction=True)
def test_locks_unlocks_and_forced_unlocks_race_without_a_deadlock():
    admin = Actor.person(make_admin())
    workspace = make_workspace()
    task = make_task(workspace)

    def work(number):
        for turn in range(6):
            lock = f"{number}-{turn}"
            mine = task.pk if number % 2 else None
            try:
                state.lock_state(workspace=workspace, info={"ID": lock}, actor=admin, task_id=mine)
                state.unlock_state(workspace=workspace, lock_id=lock, actor=admin, task_id=mine)
            except (StateLocked, Conflict):
                pass

    def force():
        for _ in range(6):
            try:
                state.force_unlock_state(actor=admin, workspace=workspace)
            except Conflict:
                pass

    results = race([*[lambda n=n: work(n) for n in range(4)], force])
    assert results == [None] * 5
    locks = StateLock.objects.all()
    assert not locks.filter(released_at=None).exists()
    kinds = ["state.unlocked", "state.force_unlocked"]
    assert Event.objects.filter(kind__in=kinds).count() == locks.count()
