"""Plans whose state moved are void whoever failed to say so; rotated secrets stay hidden."""

import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import PermitRefused
from tasks_app.models import StateLock, StateVersion
from tasks_app.services import variables, void_plans
from tasks_app.states import Status
from tests.support.factories import make_admin, make_waiting_task

pytestmark = pytest.mark.django_db


def store_version(workspace, serial=1):
    StateVersion.objects.create(
        workspace=workspace, serial=serial, lineage="l", digest="0" * 64, size=0, cause="test"
    )


def test_a_waiting_plan_is_void_though_its_writer_died_before_saying_so():
    moved, still = make_waiting_task(), make_waiting_task()
    store_version(moved.workspace)
    assert void_plans.void_moved_plans() == 1
    assert void_plans.void_moved_plans() == 0
    moved.refresh_from_db()
    still.refresh_from_db()
    assert (moved.status, still.status) == (Status.DISCARDED, Status.APPLY_PENDING)


def test_an_environment_secret_that_rotated_twice_is_still_hidden():
    task = make_waiting_task()
    actor = Actor.person(make_admin())
    for value in ("second-secret", "third-secret"):
        variables.set_variable(
            actor=actor, workspace=task.workspace, key="TOKEN", value=value,
            category="environment", sensitive=True,
        )  # fmt: skip
    assert {"second-secret", "third-secret"} <= set(variables.sensitive_values(task))


def test_an_apply_waits_for_whoever_holds_the_states_lock():
    from pods_app.queue import dispatch_pass
    from tasks_app.services.tasks import confirm_task
    from tests.db.pods.test_permits import ask

    task = make_waiting_task()
    lock = StateLock.objects.create(workspace=task.workspace, lock_id="by hand", user=make_admin())
    task = confirm_task(actor=Actor.person(make_admin()), task_id=task.pk, plan_hash=task.plan_hash)
    assert "lock of the state" in task.waiting_reason
    dispatch_pass()
    task.refresh_from_db()
    assert "lock of the state" in task.waiting_reason
    StateLock.objects.filter(pk=lock.pk).update(released_at=task.created_at)
    dispatch_pass()
    lease = task.leases.get(state="live")
    assert lease.phase == "apply"
    StateLock.objects.create(workspace=task.workspace, lock_id="again", user=make_admin())
    with pytest.raises(PermitRefused, match="lock"):
        ask(task)
