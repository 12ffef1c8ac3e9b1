import threading
import uuid
from datetime import timedelta

import pytest
from django.db import transaction

from pods_app import leases
from pods_app.models import ApplyPermit, Installation, Pool
from pods_app.state_access import LeaseStateAccess, run_token
from tasks_app.exceptions import PermitRefused, PlanVoid, StaleLease
from tasks_app.models import Event, StateLock, StateVersion, Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import cancel_task, confirm_task
from tasks_app.services.workspaces import lock_workspace
from tasks_app.states import Status
from tests.support.factories import (
    DIGEST,
    PLAN_HASH,
    ask_permit,
    make_waiting_task,
    make_workspace,
)
from tests.support.racing import race, wait_until_somebody_waits_for_a_row

pytestmark = pytest.mark.django_db


@pytest.fixture
def confirmed(admin):
    task = make_waiting_task()
    return confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)


def ask(task, **changes):
    return ask_permit(task.leases.select_related("slot__pod").latest("epoch"), **changes)


def test_a_permit_moves_the_task_to_applying(confirmed, settings):
    assert ask(confirmed) == settings.SLIPWAY.permit_seconds_kept
    confirmed.refresh_from_db()
    assert (confirmed.status, confirmed.apply_path) == (Status.APPLYING, "kept")
    assert ApplyPermit.objects.get(task=confirmed).state_verified


def test_the_same_key_gets_the_same_answer_and_another_none(confirmed):
    key = uuid.uuid4()
    first = ask(confirmed, key=key)
    assert ask(confirmed, key=key) < first, "what is left of the time, not all of it again"
    ApplyPermit.objects.update(expires_at=ClockTimestamp() - timedelta(seconds=9))
    assert ask(confirmed, key=key) == 0
    assert Event.objects.filter(task=confirmed, kind="task.applying").count() == 1
    with pytest.raises(PermitRefused, match="granted before"):
        ask(confirmed)


def test_terraform_must_have_what_its_agent_was_given_last(confirmed):
    """Not what an earlier hold was started with."""
    with pytest.raises(PermitRefused, match="other variables or credentials"):
        ask(confirmed, environment_digest="e" * 64)
    assert not ApplyPermit.objects.exists()


@pytest.mark.parametrize("field", ["plan_hash", "manifest_digest"])
def test_what_lies_on_the_agent_must_be_what_was_confirmed(confirmed, field):
    with pytest.raises(PermitRefused, match="not what was confirmed"):
        ask(confirmed, **{field: "e" * 64})
    confirmed.refresh_from_db()
    assert confirmed.status == Status.CONFIRMED


def test_a_stale_epoch_gets_nothing(confirmed):
    with pytest.raises(StaleLease):
        ask(confirmed, epoch=7)


def test_a_frozen_pool_grants_nothing(confirmed):
    Pool.objects.update(frozen=True)
    with pytest.raises(PermitRefused, match="comes back from a freeze"):
        ask(confirmed)


def test_doubt_about_the_database_grants_nothing(confirmed):
    Installation.objects.update_or_create(singleton=True, defaults={"doubt": "older than reality"})
    with pytest.raises(PermitRefused, match="older than reality"):
        ask(confirmed)


def test_an_unconfirmed_task_gets_nothing():
    with pytest.raises(PermitRefused):
        ask(make_waiting_task())


def test_a_moved_state_fails_the_task(confirmed):
    StateVersion.objects.create(
        workspace=confirmed.workspace, serial=4, lineage="l", digest="d", size=1, cause="test"
    )
    with pytest.raises(PlanVoid):
        ask(confirmed)
    confirmed.refresh_from_db()
    assert confirmed.status == Status.FAILED
    assert "plan again" in confirmed.error
    assert leases.lease_of(confirmed).state == "ending", "the slot is free when the agent says so"


def test_a_foreign_backend_is_recorded_as_not_verified(admin):
    workspace = make_workspace(state_backend=Workspace.StateBackend.CONFIGURATION)
    task = make_waiting_task(workspace)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    ask(task)
    assert not ApplyPermit.objects.get(task=task).state_verified


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("backend", Workspace.StateBackend.values)
def test_a_workspace_that_is_locked_while_the_permit_waits_has_none(admin, backend):
    task = make_waiting_task()
    Task.objects.filter(pk=task.pk).update(state_backend=backend)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    answers = []
    asking = threading.Thread(target=lambda: answers.extend(race([lambda: ask(task)])))
    with transaction.atomic():
        lock_workspace(actor=admin, workspace=task.workspace, reason="do not touch")
        asking.start()
        wait_until_somebody_waits_for_a_row()
    asking.join()
    assert isinstance(answers[0], PermitRefused) and "do not touch" in str(answers[0])
    assert not ApplyPermit.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_permit_racing_cancel_and_itself(admin):
    for _ in range(15):
        task = make_waiting_task()
        confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
        results = race(
            [lambda t=task: ask(t)] * 3 + [lambda t=task: cancel_task(actor=admin, task_id=t.pk)]
        )
        granted = sum(isinstance(result, float) for result in results)
        task.refresh_from_db()
        assert granted == ApplyPermit.objects.filter(task=task).count() <= 1
        # Cancelled before the permit, or applying with a request to stop: never both.
        assert (task.status == Status.APPLYING) == (granted == 1)
        lease = leases.lease_of(task)
        leases.end(lease, actor=admin, reason="next round")


def test_the_state_token_is_inert_until_the_permit(confirmed):
    access = LeaseStateAccess()
    lease = leases.lease_of(confirmed)
    token = run_token(lease, DIGEST)
    grant = access.authenticate(token)
    assert (grant.may_lock, grant.may_write) == (False, False)
    assert "no apply is permitted" in grant.refusal
    ask(confirmed)
    assert access.authenticate(token).may_lock
    ApplyPermit.objects.update(expires_at=ClockTimestamp() - timedelta(seconds=1))
    assert "not valid any more" in access.authenticate(token).refusal
    StateLock.objects.create(
        workspace=confirmed.workspace, lock_id="x", task=confirmed, lease_id=lease.pk
    )
    grant = access.authenticate(token)
    assert (grant.may_lock, grant.may_write) == (True, True)


def test_a_run_that_was_given_something_else_never_locks(confirmed):
    """One that was held with older credentials, say: the permit is not for it."""
    access, lease = LeaseStateAccess(), leases.lease_of(confirmed)
    older = run_token(lease, "e" * 64)
    ask(confirmed)
    grant = access.authenticate(older)
    assert (grant.may_read, grant.may_lock, grant.may_write) == (True, False, False)
    assert "other variables or credentials" in grant.refusal
    StateLock.objects.create(
        workspace=confirmed.workspace, lock_id="x", task=confirmed, lease_id=lease.pk
    )
    grant = access.authenticate(older)
    assert (grant.may_lock, grant.may_write) == (False, False)


@pytest.mark.parametrize("phase", ["warmup", "hold"])
def test_what_is_held_has_the_token_of_its_apply(confirmed, phase):
    lease = leases.lease_of(confirmed)
    token = run_token(lease, DIGEST)
    lease.phase = phase
    assert run_token(lease, DIGEST) == token


def test_a_held_apply_has_less_time_to_take_its_lock(confirmed, settings):
    seconds = ask(confirmed, path="held")
    assert seconds == settings.SLIPWAY.permit_seconds_held < settings.SLIPWAY.permit_seconds_kept


def test_a_plans_token_never_locks(admin):
    task = make_waiting_task()
    lease = leases.lease_of(task)
    lease.phase = "plan"
    token = run_token(lease, DIGEST)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    ask(task)
    assert not LeaseStateAccess().authenticate(token).may_lock


def test_forged_tokens_are_nothing_and_ended_ones_may_nothing(confirmed, admin):
    access = LeaseStateAccess()
    lease = leases.lease_of(confirmed)
    token = run_token(lease, DIGEST)
    for bad in ("", "x", "slr.a.b.c", token[:-1] + ("0" if token[-1] != "0" else "1")):
        assert access.authenticate(bad) is None
    leases.end(lease, actor=admin, reason="fenced")
    over = access.authenticate(token)
    assert over is not None
    assert not (over.may_read or over.may_lock or over.may_write)
    assert over.refusal
