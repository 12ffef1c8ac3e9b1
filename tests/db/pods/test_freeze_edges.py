"""Entering and leaving a freeze: what becomes of work in every phase, and of pods."""

from datetime import timedelta

import pytest

from pods_app import leases, outcomes, queue, reconcile
from pods_app.freeze import edges
from pods_app.freeze.edges import enter, follow_schedules, leave
from pods_app.freeze.status import unconfirmed
from pods_app.models import FreezeOverride, FreezeTransition, FreezeWindow, ManagedPod, Pool
from pods_app.outcomes import Report
from pods_app.services import lose_pod
from pods_app.state_access import LeaseStateAccess, run_token
from pods_app.states import PoolKind
from pods_app.wishes import wishes
from tasks_app.exceptions import StaleLease
from tasks_app.models import Event, StateLock, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import acknowledge_task, confirm_task
from tasks_app.states import Status
from tests.support.factories import (
    DIGEST,
    PLAN_HASH,
    ask_permit,
    finish_planning,
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    make_workspace,
    the_wish,
)
from tests.support.freezes import now, soon, window_row

pytestmark = pytest.mark.django_db


class Hosting:
    """Pods that can be killed, or not."""

    kills_at_once = 1

    def __init__(self):
        self.killed, self.forgotten, self.answer = [], [], True

    def here(self):
        return "here"

    def kill(self, pod):
        if isinstance(self.answer, Exception):
            raise self.answer
        self.killed.append(pod.pk)
        return self.answer

    def forget(self, pod):
        self.forgotten.append(pod.pk)


@pytest.fixture
def hosting(monkeypatch):
    hosting = Hosting()
    monkeypatch.setitem(reconcile._HOSTINGS, PoolKind.LOCAL, hosting)
    return hosting


@pytest.fixture
def pool():
    return make_pool(name="main", kind=PoolKind.LOCAL)


@pytest.fixture
def pod(pool, hosting):
    pod = make_pod(pool)
    ManagedPod.objects.update(kind=PoolKind.LOCAL, host="here")
    return pod


@pytest.fixture
def static(pool, hosting):
    """A pod whose agent somebody started by hand."""
    return make_pod(pool)


def confirm(admin, task):
    return confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)


def ask(task):
    return ask_permit(task.leases.select_related("slot__pod__pool").latest("epoch"))


def applying(admin, *, locked=False):
    task = confirm(admin, make_waiting_task())
    ask(task)
    if locked:
        StateLock.objects.create(
            workspace=task.workspace, task=task, lock_id="lock-1", lease_id=task.permit.lease_id
        )
    return task


def freeze():
    row = window_row()
    assert follow_schedules() == 1
    return row


def test_entering_deletes_every_pod_and_clears_every_slot(admin, pool, pod, hosting):
    planning = make_task()
    waiting, confirmed = make_waiting_task(), confirm(admin, make_waiting_task())
    freeze()
    pool.refresh_from_db()
    pod.refresh_from_db()
    assert pool.frozen and pod.phase == "gone" and "quarter end" in pod.phase_reason
    assert (hosting.killed, hosting.forgotten) == ([pod.pk], [pod.pk])
    assert not leases.unended().exists() and unconfirmed(pool) == 0
    assert {slot.status for slot in pod.slots.all()} == {"idle"}
    for task, status in (
        (planning, Status.PENDING),
        (waiting, Status.APPLY_PENDING),
        (confirmed, Status.CONFIRMED),
    ):
        task.refresh_from_db()
        assert task.status == status
    queue.dispatch_pass()
    for task in (planning, confirmed):
        task.refresh_from_db()
        assert task.waiting_reason.startswith("Pool main is frozen until ")
    assert follow_schedules() == 0


def test_a_plan_cut_by_a_freeze_has_not_failed(pod):
    task = make_task()
    for _ in range(5):
        row = freeze()
        row.delete()
        assert follow_schedules() == 1
        pod = make_pod(Pool.objects.get())
        ManagedPod.objects.filter(pk=pod.pk).update(kind=PoolKind.LOCAL, host="here")
        queue.dispatch_pass()
        task.refresh_from_db()
        assert (task.status, task.plan_attempts) == (Status.PLANNING, 1)


@pytest.mark.parametrize("locked", [True, False])
def test_a_running_apply_is_interrupted_and_holds_its_workspace(admin, pod, locked):
    task = applying(admin, locked=locked)
    lease = leases.lease_of(task)
    freeze()
    task.refresh_from_db()
    assert task.status == Status.INTERRUPTED
    assert pod.pod_uid in task.error
    assert ("lock-1 is held" if locked else "nothing was applied") in task.error
    evidence = Event.objects.get(task=task, kind="task.interrupted")
    assert evidence.data["pod_uid"] == pod.pod_uid
    assert evidence.data["lock_id"] == ("lock-1" if locked else None)
    assert (evidence.lease_id, evidence.epoch) == (lease.pk, lease.epoch)
    with pytest.raises(StaleLease):
        outcomes.finish_apply(
            lease_id=lease.pk, epoch=lease.epoch, pod=pod, report=Report("applied")
        )
    task.refresh_from_db()
    assert task.status == Status.INTERRUPTED, "what a process does that survived is not trusted"
    assert StateLock.objects.filter(released_at=None).exists() is locked
    access, token = LeaseStateAccess(), run_token(lease, DIGEST)
    grant = access.authenticate(token)
    assert not grant.may_lock
    # Under the lock that it had it stores what it made; Terraform reads before it writes.
    assert (grant.may_read, grant.may_write) == (locked, locked)
    # Over the freeze and after it, until a person has looked.
    FreezeWindow.objects.all().delete()
    follow_schedules()
    make_pod(Pool.objects.get())
    after = make_task(task.workspace)
    assert "acknowledges" in after.waiting_reason
    acknowledge_task(actor=admin, task_id=task.pk)
    assert not StateLock.objects.filter(released_at=None).exists()
    grant = access.authenticate(token)
    assert not (grant.may_read or grant.may_write), "a person has looked"
    queue.dispatch_pass()
    after.refresh_from_db()
    assert after.status == Status.PLANNING


def test_an_apply_whose_agent_vanished_before_waits_for_a_verdict(admin, pod):
    task = applying(admin, locked=True)
    outcomes.lose_lease(leases.lease_of(task).pk, actor=admin, cause="silent")
    freeze()
    task.refresh_from_db()
    assert task.status == Status.APPLY_UNKNOWN
    assert "verdict" in task.waiting_reason and not leases.lease_of(task)


def test_agents_started_by_hand_are_told_to_kill_and_not_believed(admin, pool, static):
    task, planning = applying(admin), make_task()
    lease = leases.lease_of(task)
    freeze()
    task.refresh_from_db()
    assert task.status == Status.INTERRUPTED and unconfirmed(pool) == 0
    pool.refresh_from_db()
    assert unconfirmed(pool) == 2, "not confirmed stopped"
    directives = {wish.lease.task_id: wish.directive for wish in wishes(static)}
    assert directives == {task.pk: "kill", planning.pk: "end"}
    assert follow_schedules() == 0 and unconfirmed(pool) == 2
    outcomes.finish_apply(
        lease_id=lease.pk, epoch=lease.epoch, pod=static, report=Report("applied")
    )
    other = leases.lease_of(planning)
    outcomes.end_reported(lease_id=other.pk, epoch=other.epoch, pod=static)
    task.refresh_from_db()
    planning.refresh_from_db()
    assert (task.status, planning.status) == (Status.INTERRUPTED, Status.PENDING)
    assert unconfirmed(pool) == 0


def test_a_pod_that_cannot_be_deleted_is_tried_again(admin, pool, pod, hosting, caplog):
    task = applying(admin)
    hosting.answer = ConnectionError("the cluster is away")
    freeze()
    pod.refresh_from_db()
    task.refresh_from_db()
    pool.refresh_from_db()
    assert (pod.phase, task.status, unconfirmed(pool)) == ("online", Status.INTERRUPTED, 1)
    assert "could not be deleted" in caplog.text
    wish = the_wish(pod)
    assert wish.directive == "kill"
    outcomes.finish_apply(
        lease_id=wish.lease.pk, epoch=wish.lease.epoch, pod=pod, report=Report("interrupted")
    )
    assert unconfirmed(pool) == 1, "the pod itself is still there"
    hosting.answer = True
    follow_schedules()
    pod.refresh_from_db()
    assert (pod.phase, unconfirmed(pool)) == ("gone", 0)


def test_leaving_opens_the_pool_and_what_waited_starts(admin, pool, pod):
    confirmed = confirm(admin, make_waiting_task())
    row = freeze()
    row.delete()
    assert follow_schedules() == 1
    pool.refresh_from_db()
    assert not pool.frozen
    make_pod(pool)
    queue.dispatch_pass()
    assert leases.lease_of(confirmed).phase == "apply"
    ask(confirmed)


def test_the_history_tells_every_state_once(pool, pod):
    soon()
    follow_schedules()
    FreezeWindow.objects.all().delete()
    row = window_row()
    for _ in range(2):
        follow_schedules()
    FreezeWindow.objects.filter(pk=row.pk).delete()
    follow_schedules()  # leaves
    follow_schedules()  # its pods are not back yet
    make_pod(pool)
    for _ in range(2):
        follow_schedules()
    states = FreezeTransition.objects.order_by("id").values_list("from_state", "to_state")
    assert list(states) == [
        ("open", "closing"),
        ("closing", "frozen"),
        ("frozen", "reopening"),
        ("reopening", "open"),
    ]
    kinds = Event.objects.filter(kind__startswith="pool.").values_list("kind", flat=True)
    assert set(kinds) == {"pool.frozen", "pool.unfrozen"}


def test_while_closing_a_finished_plan_keeps_no_slot(pod):
    task = make_task()
    soon()
    finish_planning(task)
    assert task.status == Status.APPLY_PENDING
    assert leases.lease_of(task) is None


@pytest.mark.parametrize("locked", [True, False])
def test_shortly_before_the_freeze_applies_are_interrupted_once(admin, pod, locked):
    task = applying(admin)
    if locked:
        StateLock.objects.create(workspace=task.workspace, lock_id="x", task=task)
    row = soon(minutes=10, grace_seconds=120)
    follow_schedules()
    assert the_wish(pod).directive == "apply"
    FreezeWindow.objects.filter(pk=row.pk).update(grace_seconds=3600)
    follow_schedules()
    lease = leases.lease_of(task)
    assert the_wish(pod).directive == "cancel" and lease.frozen_at
    follow_schedules()
    assert Event.objects.filter(kind="lease.frozen").count() == 1
    outcomes.finish_apply(lease_id=lease.pk, epoch=lease.epoch, pod=pod, report=Report("cancelled"))
    task.refresh_from_db()
    assert task.status == (Status.INTERRUPTED if locked else Status.FAILED)
    assert ("stopped cleanly" if locked else "Nothing was applied") in task.error


def test_an_override_reopens_and_the_freeze_comes_back_when_it_expires(pool, pod):
    freeze()
    FreezeOverride.objects.create(pool=pool, reason="r", expires_at=now() + timedelta(hours=1))
    assert follow_schedules() == 1
    pool.refresh_from_db()
    assert not pool.frozen
    make_pod(pool)
    task = make_task()
    assert task.status == Status.PLANNING
    FreezeOverride.objects.update(expires_at=ClockTimestamp())
    assert follow_schedules() == 1
    task.refresh_from_db()
    assert task.status == Status.PENDING


def test_both_edges_are_checked_again_under_the_lock(pool):
    assert not enter(pool.pk), "no window says so"
    window_row()
    assert not leave(pool.pk)
    assert enter(pool.pk) and not enter(pool.pk)
    assert not leave(pool.pk), "its window goes on"


def test_an_unreadable_window_destroys_nothing(pool, pod, caplog):
    task = make_task()
    window_row(time_zone="Mars/Olympus")
    follow_schedules()
    task.refresh_from_db()
    pod.refresh_from_db()
    assert (task.status, pod.phase) == (Status.PLANNING, "online")
    assert "Mars/Olympus" in caplog.text


def test_a_pool_that_fails_does_not_keep_the_others_from_freezing(
    pod, hosting, monkeypatch, caplog
):
    other = make_pool()
    window_row()
    monkeypatch.setattr(
        "pods_app.freeze.edges.clear",
        lambda pool, freeze: 1 / 0,
    )
    follow_schedules()
    other.refresh_from_db()
    assert other.frozen and "could not be brought in line" in caplog.text


def test_one_lease_that_fails_does_not_save_the_others(admin, pool, pod, monkeypatch, caplog):
    make_pod(pool)
    ManagedPod.objects.update(kind=PoolKind.LOCAL, host="here")
    tasks = [make_task() for _ in range(6)]
    failing = leases.lease_of(tasks[0])
    real = edges.cut

    def cut(lease_id, **facts):
        if lease_id == failing.pk:
            raise ConnectionError("lost")
        real(lease_id, **facts)

    monkeypatch.setattr(edges, "cut", cut)
    freeze()
    assert "could not be taken away" in caplog.text
    first = failing.slot.pod_id
    assert not leases.unended().exclude(slot__pod=first).exists()
    monkeypatch.setattr(edges, "cut", real)
    follow_schedules()
    assert not leases.unended().exists()


def test_nothing_of_another_pool_is_touched(admin, pod):
    other = make_pool()
    make_pod(other)
    workspace = make_workspace()
    from pods_app.services import assign_pool

    assign_pool(actor=admin, workspace=workspace, pool=other)
    task = make_task(workspace)
    window_row(Pool.objects.get(name="main"))
    follow_schedules()
    task.refresh_from_db()
    assert task.status == Status.PLANNING
    assert Task.objects.get().status == Status.PLANNING


def test_silence_of_an_agent_confirms_nothing(admin, pool, static):
    task = applying(admin)
    freeze()
    pool.refresh_from_db()
    lose_pod(static.pk, actor=admin, cause="silent")
    outcomes.return_lost_work(actor=admin)
    assert unconfirmed(pool) == 1, "its process may live on"
    lease = leases.lease_of(task)
    static.refresh_from_db()
    outcomes.finish_apply(
        lease_id=lease.pk, epoch=lease.epoch, pod=static, report=Report("interrupted")
    )
    assert unconfirmed(pool) == 0
