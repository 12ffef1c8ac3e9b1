"""The second gate: what the Terraform of a run may do with the state, under its permit or not."""

from dataclasses import replace

import pytest

from pods_app.models import ApplyPermit
from pods_app.state_access import run_token
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, NotPermitted
from tasks_app.models import Event, StateLock, StateVersion, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import state as service
from tasks_app.services.state_position import current_version
from tasks_app.services.tasks import acknowledge_task, confirm_task, resolve_task
from tasks_app.states import Status
from tests.support.factories import (
    DIGEST,
    PLAN_HASH,
    ask_permit,
    make_admin,
    make_pod,
    make_pool,
    make_task,
    make_user,
    make_waiting_task,
    make_workspace,
)
from tests.support.state import StateClient, document

pytestmark = pytest.mark.django_db


def applying_task(workspace):
    """A confirmed task and its lease, with the Terraform of its run."""
    task = make_waiting_task(workspace)
    admin = Actor.person(make_admin())
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    lease = task.leases.select_related("slot__pod").get()
    client = StateClient(workspace.pk, run_token(lease, DIGEST), "lock-of-run")
    return task, lease, client


def test_a_runs_token_is_inert_until_the_permit(workspace):
    task, lease, terraform = applying_task(workspace)
    assert terraform.get().status_code == 404
    assert terraform.lock().status_code == 403
    assert terraform.post(document(1)).status_code == 409
    ask_permit(lease)
    assert terraform.lock().status_code == 200
    assert terraform.lock().status_code == 200
    assert terraform.post(document(1)).status_code == 200
    assert terraform.unlock().status_code == 200
    lock = StateLock.objects.get()
    assert (lock.task, lock.lease_id) == (task, lease.pk)
    assert current_version(workspace).task == task


def test_a_plan_reads_and_never_locks(workspace):
    make_pod(make_pool())
    task = make_task(workspace)
    terraform = StateClient(workspace.pk, run_token(task.leases.get(), DIGEST))
    assert terraform.get().status_code == 404
    assert terraform.lock().status_code == 403
    assert terraform.unlock().status_code == 409


def test_after_the_permits_validity_the_lock_is_refused_for_good(workspace):
    _, lease, terraform = applying_task(workspace)
    ask_permit(lease)
    ApplyPermit.objects.update(expires_at=ClockTimestamp())
    answer = terraform.lock()
    assert answer.status_code == 403
    assert b"nothing was applied" in answer.content


def test_a_permit_that_expires_under_the_lock_does_not_lose_the_state(workspace):
    _, lease, terraform = applying_task(workspace)
    ask_permit(lease)
    terraform.lock()
    ApplyPermit.objects.update(expires_at=ClockTimestamp())
    assert terraform.lock().status_code == 200
    assert terraform.post(document(1)).status_code == 200
    assert terraform.unlock().status_code == 200
    assert terraform.lock("second").status_code == 403


def test_a_run_reaches_no_other_workspace(workspace):
    _, lease, terraform = applying_task(workspace)
    ask_permit(lease)
    elsewhere = replace(terraform, workspace_id=make_workspace().pk)
    for answer in (elsewhere.get(), elsewhere.lock(), elsewhere.post(document(1))):
        assert answer.status_code == 403


def test_another_run_neither_writes_nor_unlocks_under_ones_lock(workspace):
    _, lease, terraform = applying_task(workspace)
    ask_permit(lease)
    terraform.lock()
    drift = make_task(workspace, type="drift_check")
    other = StateClient(workspace.pk, run_token(drift.leases.get(), DIGEST), "lock-of-run")
    assert other.get().status_code == 404
    assert other.post(document(1)).status_code == 409
    assert other.unlock().status_code == 409
    assert StateLock.objects.get().released_at is None


def test_a_person_is_refused_for_good_while_a_task_applies(workspace, ada):
    _, lease, _ = applying_task(workspace)
    assert ada.lock().status_code == 200
    ada.unlock()
    ask_permit(lease)
    assert ada.lock("again").status_code == 403
    Task.objects.update(status=Status.APPLY_UNKNOWN)
    assert ada.lock("again").status_code == 403


# --- people's word ---------------------------------------------------------------------------


def test_after_a_forced_unlock_the_former_holder_is_refused(workspace):
    admin = Actor.person(make_admin())
    task, lease, terraform = applying_task(workspace)
    ask_permit(lease)
    terraform.lock()
    forced = service.force_unlock_state(actor=admin, workspace=workspace, comment="it hangs")
    assert forced.forced_by == admin.user
    event = Event.objects.get(kind="state.force_unlocked")
    assert (event.actor, event.cause, event.task) == (admin.name, "it hangs", task)
    assert terraform.post(document(1)).status_code == 409
    assert terraform.lock().status_code == 403
    assert terraform.lock("new").status_code == 403
    assert not StateVersion.objects.exists()
    task.refresh_from_db()
    assert task.status == Status.APPLY_UNKNOWN
    assert task.waiting_reason


@pytest.mark.parametrize("verdict", ["applied", "failed", "interrupted"])
def test_after_a_verdict_the_run_is_over(workspace, verdict):
    admin = Actor.person(make_admin())
    task, lease, terraform = applying_task(workspace)
    ask_permit(lease)
    terraform.lock()
    Task.objects.update(status=Status.APPLY_UNKNOWN)
    resolve_task(actor=admin, task_id=task.pk, verdict=verdict, comment="looked at the cloud")
    assert terraform.post(document(1)).status_code == 409
    assert terraform.get().status_code == 403
    assert terraform.lock("new").status_code == 403
    held = StateLock.objects.filter(released_at=None)
    assert held.exists() == (verdict == "interrupted")
    if verdict == "interrupted":
        acknowledge_task(actor=admin, task_id=task.pk)
    assert not held.exists()


@pytest.mark.parametrize("role", ["viewer", "planner", "approver"])
def test_only_a_manager_forces_a_lock(workspace, ada, role):
    ada.lock()
    with pytest.raises(NotPermitted):
        service.force_unlock_state(actor=Actor.person(make_user(role)), workspace=workspace)
    assert StateLock.objects.get().released_at is None


def test_forcing_what_is_not_locked(workspace):
    with pytest.raises(Conflict, match="not locked"):
        service.force_unlock_state(actor=Actor.person(make_admin()), workspace=workspace)
