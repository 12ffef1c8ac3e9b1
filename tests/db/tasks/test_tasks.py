from datetime import timedelta

import pytest
from django.utils import timezone

from pods_app.models import Lease
from tasks_app.actors import Actor
from tasks_app.exceptions import (
    Conflict,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotPermitted,
    PlanMismatch,
    WorkspaceLocked,
)
from tasks_app.models import Confirmation, Event, Project, Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import tasks
from tasks_app.states import Status, TaskType
from tests.support.factories import (
    PLAN_HASH,
    finish_planning,
    make_admin,
    make_configuration,
    make_pod,
    make_pool,
    make_task,
    make_user,
    make_waiting_task,
    make_workspace,
)
from tests.support.racing import race

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return Actor.person(make_admin())


def test_tasks_are_numbered_per_workspace(admin):
    one, other = make_workspace(), make_workspace()
    numbers = [make_task(w).number for w in (one, other, one)]
    assert numbers == [1, 1, 2]


def test_a_task_keeps_the_configuration_it_was_created_with():
    workspace = make_workspace()
    task = make_task(workspace)
    make_configuration(workspace, b"newer")
    task.refresh_from_db()
    assert task.configuration.number == 1
    assert make_task(workspace).configuration.number == 2


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"targets": ["-destroy"]}, "targets"),
        ({"targets": ["a b"]}, "targets"),
        ({"targets": ["x" * 501]}, "targets"),
        ({"replace": ["$(rm)"]}, "replace"),
        ({"type": "apply"}, "type"),
        ({"destroy": True, "refresh_only": True}, "refresh_only"),
        ({"replace": ["a.b"], "destroy": True}, "replace"),
        ({"type": TaskType.PLAN, "auto_apply": True}, "auto_apply"),
        ({"type": TaskType.DRIFT_CHECK, "destroy": True}, "destroy"),
        ({"message": "x" * 251}, "message"),
    ],
)
def test_bad_options_name_their_field(admin, options, field):
    workspace = make_workspace()
    with pytest.raises(InvalidInput) as refusal:
        tasks.create_task(actor=admin, workspace=workspace, **options)
    assert refusal.value.field == field
    assert not Task.objects.exists()


def test_addresses_as_terraform_writes_them_are_accepted(admin):
    targets = ['module.a["x/y"].aws_instance.b[0]', "data.aws_ami.c", "module.net"]
    assert make_task(targets=targets).targets == targets


def test_a_workspace_without_configuration_says_what_to_do(admin):
    with pytest.raises(InvalidInput, match="upload"):
        tasks.create_task(actor=admin, workspace=make_workspace(configured=False))


def test_plan_and_apply_run_one_at_a_time_oldest_first():
    pool = make_pool()
    make_pod(pool)
    workspace = make_workspace()
    first, second = make_task(workspace), make_task(workspace)
    assert first.status == Status.PLANNING
    assert second.status == Status.PENDING
    assert second.waiting_reason == "Waits for #1 (planning) · position 1 in this workspace"
    plan = make_task(workspace, type=TaskType.PLAN)
    drift = make_task(workspace, type=TaskType.DRIFT_CHECK)
    assert {plan.status, drift.status} == {Status.PLANNING}


@pytest.mark.django_db(transaction=True)
def test_the_next_task_starts_when_the_earlier_one_ends(admin):
    make_pod(make_pool())
    workspace = make_workspace()
    first, second = make_task(workspace), make_task(workspace)
    finish_planning(first)
    second.refresh_from_db()
    assert second.status == Status.PENDING
    tasks.discard_task(actor=admin, task_id=first.pk)
    second.refresh_from_db()
    assert second.status == Status.PLANNING


def test_a_locked_workspace_starts_nothing(admin):
    workspace = make_workspace()
    waiting = make_waiting_task(workspace)
    Workspace.objects.filter(pk=workspace.pk).update(
        locked_at=ClockTimestamp(), lock_reason="maintenance."
    )
    with pytest.raises(WorkspaceLocked, match="maintenance"):
        tasks.create_task(actor=admin, workspace=workspace)
    with pytest.raises(WorkspaceLocked, match="maintenance"):
        tasks.confirm_task(actor=admin, task_id=waiting.pk, plan_hash=PLAN_HASH)


def test_a_workspace_that_is_locked_while_somebody_confirms_keeps_the_hold(admin, monkeypatch):
    waiting = make_waiting_task(make_workspace())
    found = tasks.lock_task

    def locked_meanwhile(task_id):
        task = found(task_id)
        Workspace.objects.update(locked_at=ClockTimestamp(), lock_reason="maintenance.")
        return task

    monkeypatch.setattr(tasks, "lock_task", locked_meanwhile)
    with pytest.raises(WorkspaceLocked, match="maintenance"):
        tasks.confirm_task(actor=admin, task_id=waiting.pk, plan_hash=PLAN_HASH)
    waiting.refresh_from_db()
    assert waiting.status == Status.APPLY_PENDING


def test_confirming_binds_what_the_person_saw(admin):
    task = make_waiting_task()
    tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH, comment="looks good")
    confirmation = Confirmation.objects.get(task=task)
    assert confirmation.user == admin.user
    assert (confirmation.plan_hash, confirmation.manifest_digest) == (PLAN_HASH, "b" * 64)
    assert confirmation.comment == "looks good"


def test_confirming_another_plan_is_refused(admin):
    task = make_waiting_task()
    with pytest.raises(PlanMismatch) as refusal:
        tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash="c" * 64)
    assert refusal.value.extra["plan_hash"] == PLAN_HASH
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING


@pytest.mark.django_db(transaction=True)
def test_two_confirmations_at_once_give_one_apply(admin):
    for _ in range(10):
        task = make_waiting_task()
        results = race(
            [
                lambda task=task: tasks.confirm_task(
                    actor=admin, task_id=task.pk, plan_hash=PLAN_HASH
                )
            ]
            * 4
        )
        assert sum(isinstance(result, Task) for result in results) == 1
        assert sum(isinstance(result, IllegalTransition) for result in results) == 3
        assert Lease.objects.filter(task=task, phase="apply").count() == 1
        assert Event.objects.filter(task=task, kind="task.confirmed").count() == 1
        tasks.cancel_task(actor=admin, task_id=task.pk)
        Lease.objects.filter(task=task).update(state="ended")
        task.slots.update(status="idle", task=None, task_type="")


@pytest.mark.parametrize("role", ["viewer", "planner"])
def test_who_may_not_confirm(role):
    task = make_waiting_task()
    actor = Actor.person(make_user(role))
    with pytest.raises(NotPermitted):
        tasks.confirm_task(actor=actor, task_id=task.pk, plan_hash=PLAN_HASH)


def test_a_foreign_project_is_not_found():
    task = make_waiting_task()
    stranger = Actor.person(make_user("manager", Project.objects.create(name="elsewhere")))
    with pytest.raises(NotFound):
        tasks.confirm_task(actor=stranger, task_id=task.pk, plan_hash=PLAN_HASH)


def test_an_approver_confirms():
    task = make_waiting_task()
    actor = Actor.person(make_user("approver", task.workspace.project))
    task = tasks.confirm_task(actor=actor, task_id=task.pk, plan_hash=PLAN_HASH)
    assert task.status == Status.CONFIRMED


def test_auto_apply_confirms_for_who_may(admin):
    make_pod(make_pool())
    task = finish_planning(make_task(auto_apply=True))
    assert task.status == Status.CONFIRMED
    assert task.confirmation.automatic


def test_auto_apply_is_checked_again_when_it_fires():
    make_pod(make_pool())
    workspace = make_workspace()
    user = make_user("approver")
    task = make_task(workspace, actor=Actor.person(user), auto_apply=True)
    user.groups.clear()
    assert finish_planning(task).status == Status.APPLY_PENDING
    refusal = Event.objects.get(task=task, kind="task.auto_apply_refused")
    assert refusal.cause


def test_auto_apply_may_be_set_only_by_who_may_confirm():
    workspace = make_workspace(auto_apply=True)
    planner = Actor.person(make_user("planner"))
    assert make_task(workspace, actor=planner).auto_apply is False
    with pytest.raises(NotPermitted):
        make_task(workspace, actor=planner, auto_apply=True)


def test_cancel_before_anything_runs(admin):
    task = make_task()
    assert tasks.cancel_task(actor=admin, task_id=task.pk).status == Status.CANCELLED


def test_cancel_of_a_running_plan_is_a_request(admin):
    make_pod(make_pool())
    task = tasks.cancel_task(actor=admin, task_id=make_task().pk)
    assert task.status == Status.PLANNING
    assert task.cancel_requested_at
    with pytest.raises(Conflict):
        tasks.cancel_task(actor=admin, task_id=make_task().pk, force=True)
    assert tasks.cancel_task(actor=admin, task_id=task.pk, force=True).kill_requested_at
    assert finish_planning(task).status == Status.CANCELLED


def test_a_planner_cancels_only_what_they_queued():
    planner = Actor.person(make_user("planner"))
    own, other = make_task(actor=planner), make_task()
    assert tasks.cancel_task(actor=planner, task_id=own.pk).status == Status.CANCELLED
    with pytest.raises(NotPermitted):
        tasks.cancel_task(actor=planner, task_id=other.pk)


def test_an_interrupted_apply_holds_its_workspace_until_acknowledged(admin):
    make_pod(make_pool())
    workspace = make_workspace()
    cut = make_waiting_task(workspace)
    Task.objects.filter(pk=cut.pk).update(status=Status.INTERRUPTED, confirmed_at=ClockTimestamp())
    blocked = make_task(workspace)
    assert blocked.status == Status.PENDING
    assert "acknowledges" in blocked.waiting_reason
    tasks.acknowledge_task(actor=admin, task_id=cut.pk)
    with pytest.raises(Conflict):
        tasks.acknowledge_task(actor=admin, task_id=cut.pk)


def test_every_waiting_task_has_a_reason_and_no_other_has(admin):
    pool = make_pool()
    waiting = [make_task(), make_waiting_task()]
    make_pod(pool)
    confirmed = make_waiting_task()
    waiting.append(tasks.confirm_task(actor=admin, task_id=confirmed.pk, plan_hash=PLAN_HASH))
    for task in waiting:
        task.refresh_from_db()
        assert task.status in (Status.PENDING, Status.APPLY_PENDING, Status.CONFIRMED, "planning")
        assert bool(task.waiting_reason) == (task.status != Status.PLANNING)
    cancelled = tasks.cancel_task(actor=admin, task_id=waiting[1].pk)
    assert cancelled.waiting_reason == ""


def test_allowed_actions_hide_by_role_and_disable_by_state(admin):
    task = make_waiting_task()
    assert tasks.allowed_actions(Actor.person(make_user("viewer")), task) == []
    actions = {action.name: action for action in tasks.allowed_actions(admin, task)}
    assert actions["confirm"].allowed
    assert not actions["acknowledge"].allowed
    assert actions["acknowledge"].reason == "The task is apply pending."


def test_a_plan_is_kept_warm_for_a_week_at_most(admin):
    task = make_waiting_task()
    first = tasks.extend_keep_warm(actor=admin, task_id=task.pk, hours=1).keep_warm_until
    for _ in range(3):
        last = tasks.extend_keep_warm(actor=admin, task_id=task.pk, hours=168).keep_warm_until
    assert first < last <= timezone.now() + timedelta(hours=168, minutes=1)
    for hours in (0, 169):
        with pytest.raises(InvalidInput):
            tasks.extend_keep_warm(actor=admin, task_id=task.pk, hours=hours)
    tasks.discard_task(actor=admin, task_id=task.pk)
    with pytest.raises(Conflict):
        tasks.extend_keep_warm(actor=admin, task_id=task.pk, hours=1)


def test_the_queue_of_a_workspace_names_who_is_first_and_the_position():
    make_pod(make_pool())
    workspace = make_workspace()
    queue = [make_task(workspace) for _ in range(4)]
    finish_planning(queue[0])
    reasons = [make_task(workspace).waiting_reason, queue[1].waiting_reason]
    assert reasons == [
        "Waits for #1 (apply pending) · position 4 in this workspace",
        "Waits for #1 (planning) · position 1 in this workspace",
    ]


def test_auto_apply_of_somebody_who_left_waits_for_a_person(admin):
    make_pod(make_pool())
    user = make_user("approver")
    task = make_task(actor=Actor.person(user), auto_apply=True)
    user.delete()
    task.refresh_from_db()
    assert finish_planning(task).status == Status.APPLY_PENDING
    assert not Confirmation.objects.exists()
    tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)


def test_the_workspaces_auto_apply_counts_as_it_is_now_not_as_it_was_read(admin):
    workspace = make_workspace(auto_apply=True)
    Workspace.objects.update(auto_apply=False)
    assert make_task(workspace).auto_apply is False


def test_a_confirmation_says_what_was_confirmed_in_the_audit(admin):
    task = make_waiting_task()
    tasks.confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH, comment="good")
    event = Event.objects.get(task=task, kind="task.confirmed")
    assert (event.user, event.cause) == (admin.user, "good")
    assert event.data == {"plan_hash": PLAN_HASH, "manifest_digest": "b" * 64}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("other", [tasks.discard_task, tasks.cancel_task])
def test_yes_and_no_at_once_have_one_winner(other):
    admin = Actor.person(make_admin())
    for _ in range(6):
        task = make_waiting_task()
        yes, no = race(
            [
                lambda t=task: tasks.confirm_task(actor=admin, task_id=t.pk, plan_hash=PLAN_HASH),
                lambda t=task: other(actor=admin, task_id=t.pk),
            ]
        )
        task.refresh_from_db()
        if task.status == Status.CONFIRMED:
            assert isinstance(no, IllegalTransition)
        else:
            assert isinstance(no, Task)
            # A confirmed task can still be cancelled; a discarded one was never confirmed.
            assert isinstance(yes, IllegalTransition) or other is tasks.cancel_task
        task.slots.update(status="idle", task=None, task_type="")
        task.leases.update(state="ended")


def test_a_verdict_needs_its_words(admin):
    task = make_waiting_task()
    for verdict, comment, field in (("success", "x", "verdict"), ("applied", " ", "comment")):
        with pytest.raises(InvalidInput) as refusal:
            tasks.resolve_task(actor=admin, task_id=task.pk, verdict=verdict, comment=comment)
        assert refusal.value.field == field
    with pytest.raises(IllegalTransition):
        tasks.resolve_task(actor=admin, task_id=task.pk, verdict="applied", comment="x")


def test_an_unknown_task_is_not_found(admin):
    from tasks_app.ids import uuid7

    for call in (tasks.discard_task, tasks.cancel_task, tasks.acknowledge_task):
        with pytest.raises(NotFound):
            call(actor=admin, task_id=uuid7())


def test_the_lock_an_interrupted_apply_left_is_evidence_until_acknowledged(admin):
    from tasks_app.services.state import lock_state, open_lock

    workspace = make_workspace()
    task = make_waiting_task(workspace)
    lock_state(workspace=workspace, info={"ID": "a"}, actor=Actor("task:x"), task_id=task.pk)
    Task.objects.filter(pk=task.pk).update(status=Status.INTERRUPTED, confirmed_at=ClockTimestamp())
    assert open_lock(workspace).lock_id == "a"
    tasks.acknowledge_task(actor=admin, task_id=task.pk, comment="the pod is gone")
    assert open_lock(workspace) is None
    kinds = Event.objects.filter(task=task).values_list("kind", flat=True)
    assert {"task.acknowledged", "state.unlocked"} <= set(kinds)
