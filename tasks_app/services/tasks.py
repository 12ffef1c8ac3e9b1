"""Tasks: create, confirm, discard, cancel, acknowledge, resolve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest, Least

from tasks_app.actors import Actor
from tasks_app.addresses import check_addresses
from tasks_app.exceptions import (
    Conflict,
    IllegalTransition,
    InvalidInput,
    PlanMismatch,
    PlanVoid,
    WorkspaceLocked,
)
from tasks_app.models import ConfigurationVersion, Confirmation, Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, may, require
from tasks_app.services.state import release_leftover_lock
from tasks_app.services.state_position import lock_row, state_position
from tasks_app.services.variables import snapshot_variables
from tasks_app.signals import cancel_requested, task_created
from tasks_app.states import TRANSITIONS, WAITING, Status, TaskType, WarmupStatus
from tasks_app.transitions import lock_task, next_task_number, record, transition

_MESSAGE_MAX = 250
KEEP_WARM_HOURS_MAX = 24 * 7


def create_task(
    *,
    actor: Actor,
    workspace: Workspace,
    type: TaskType | str = TaskType.PLAN_AND_APPLY,
    configuration: ConfigurationVersion | None = None,
    destroy: bool = False,
    refresh_only: bool = False,
    targets: Sequence[str] = (),
    replace: Sequence[str] = (),
    auto_apply: bool | None = None,
    message: str = "",
) -> Task:
    """Queue a plan, with a snapshot of configuration and variables; dispatch tries it at once.

    Args:
        configuration: defaults to the newest of the workspace.
        auto_apply: defaults to the workspace's setting.

    Raises:
        NotFound, NotPermitted: by role; auto_apply needs the right to confirm.
        WorkspaceLocked: a person locked the workspace.
        InvalidInput: no configuration, bad addresses, or options that exclude each other.
    """
    require(actor, Action.PLAN, workspace)
    if type not in TaskType.values:
        raise InvalidInput(f"Use one of {', '.join(TaskType.values)}.", field="type")
    check_addresses("targets", targets)
    check_addresses("replace", replace)
    if destroy and refresh_only:
        raise InvalidInput("destroy and refresh_only exclude each other.", field="refresh_only")
    if replace and (destroy or refresh_only):
        raise InvalidInput("replace works only with a normal plan.", field="replace")
    if type != TaskType.PLAN_AND_APPLY:
        if auto_apply:
            raise InvalidInput("Only plan_and_apply can be applied.", field="auto_apply")
        auto_apply = False
    if type == TaskType.DRIFT_CHECK:
        refresh_only = True
        if destroy:
            raise InvalidInput("A drift check only refreshes.", field="destroy")
    if auto_apply:
        require(actor, Action.CONFIRM, workspace)
    if len(message) > _MESSAGE_MAX:
        raise InvalidInput(f"At most {_MESSAGE_MAX} characters.", field="message")
    with transaction.atomic():
        workspace = (
            Workspace.objects.select_for_update(of=("self",), no_key=True)
            .select_related("project", "locked_by")
            .get(pk=workspace.pk)
        )
        if workspace.locked_at:
            raise WorkspaceLocked(
                f"The workspace is locked: {workspace.lock_reason} Unlock it first."
            )
        if auto_apply is None:
            auto_apply = workspace.auto_apply and may(actor, Action.CONFIRM, workspace)
        configuration = _configuration(workspace, configuration)
        task = Task.objects.create(
            workspace=workspace,
            number=next_task_number(workspace.pk),
            type=type,
            message=message,
            destroy=destroy,
            refresh_only=refresh_only,
            targets=list(targets),
            replace=list(replace),
            auto_apply=auto_apply,
            configuration=configuration,
            engine=workspace.engine,
            engine_version=workspace.engine_version,
            working_directory=workspace.working_directory,
            state_backend=workspace.state_backend,
            created_by=actor.user,
            waiting_reason=WAITING[Status.PENDING],
        )
        snapshot_variables(task)
        record("task.created", actor=actor, task=task, cause=message)
        task_created.send(sender=Task, task=task)
        task.refresh_from_db()
    return task


def _configuration(
    workspace: Workspace, configuration: ConfigurationVersion | None
) -> ConfigurationVersion:
    if configuration is None:
        newest = workspace.configurations.order_by("-number").first()
        if newest is None:
            raise InvalidInput(
                "The workspace has no configuration yet; upload a tar.gz first.",
                field="configuration",
            )
        return newest
    if configuration.workspace_id != workspace.pk:
        raise InvalidInput(
            "This configuration belongs to another workspace.", field="configuration"
        )
    return configuration


def confirm_task(*, actor: Actor, task_id: UUID, plan_hash: str, comment: str = "") -> Task:
    """Say yes to exactly the plan with ``plan_hash``; the apply's lease commits with it.

    Raises:
        NotFound, NotPermitted: by role.
        IllegalTransition: the task does not wait for this, for example confirmed before.
        PlanMismatch: the plan is another.
        PlanVoid: the state moved since the plan was made.
        WorkspaceLocked: a person locked the workspace.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.CONFIRM, task)
        if task.status == Status.APPLY_PENDING and plan_hash != task.plan_hash:
            raise PlanMismatch(plan_hash=task.plan_hash)
        return _confirm(task, actor=actor, comment=comment)


def confirm_automatically(task: Task) -> Task:
    """Confirm under auto_apply, if the person who asked for it may still do so."""
    user = task.created_by
    if user is None:
        raise Conflict("Nobody is left on whose behalf it could be applied.")
    actor = Actor.person(user)
    require(actor, Action.CONFIRM, task)
    with transaction.atomic():
        return _confirm(task, actor=actor, comment="auto_apply", automatic=True)


def _confirm(task: Task, *, actor: Actor, comment: str, automatic: bool = False) -> Task:
    if task.status != Status.APPLY_PENDING:
        raise IllegalTransition(task.status, Status.CONFIRMED, TRANSITIONS[Status(task.status)])
    lock_row(task.workspace)  # nobody locks it, or moves its state, before the commit
    if task.workspace.locked_at:
        raise WorkspaceLocked(
            f"The workspace is locked: {task.workspace.lock_reason} Unlock it first."
        )
    plan = task.plan
    planned_on = (plan.state_lineage, plan.state_serial)
    if task.has_own_state and state_position(task.workspace) != planned_on:
        raise PlanVoid()
    Confirmation.objects.create(
        task=task,
        user=actor.user,
        automatic=automatic,
        plan_hash=plan.plan_hash,
        manifest_digest=plan.manifest_digest,
        state_lineage=plan.state_lineage,
        state_serial=plan.state_serial,
        comment=comment,
    )
    return transition(
        task,
        Status.CONFIRMED,
        actor=actor,
        cause=comment or "confirmed",
        data={"plan_hash": plan.plan_hash, "manifest_digest": plan.manifest_digest},
    )


def discard_task(*, actor: Actor, task_id: UUID, comment: str = "") -> Task:
    """Say no to a waiting plan.

    Raises:
        NotFound, NotPermitted, IllegalTransition.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.DISCARD, task)
        return transition(task, Status.DISCARDED, actor=actor, cause=comment or "discarded")


def cancel_task(*, actor: Actor, task_id: UUID, force: bool = False, comment: str = "") -> Task:
    """Cancel: at once what does not run, by one interrupt what does.

    Args:
        force: kill Terraform, which can lose state; only after a normal cancel was tried.

    Raises:
        NotFound, NotPermitted, IllegalTransition; Conflict: force before a normal cancel.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        own = actor.user is not None and task.created_by_id == actor.user.pk
        if not (own and may(actor, Action.PLAN, task) and task.status in _OWN_CANCEL):
            require(actor, Action.CANCEL, task)
        cause = comment or "cancelled"
        if task.status in {Status.PENDING, Status.APPLY_PENDING, Status.CONFIRMED}:
            return transition(task, Status.CANCELLED, actor=actor, cause=cause)
        if task.status not in {Status.PLANNING, Status.APPLYING}:
            raise IllegalTransition(task.status, Status.CANCELLED, TRANSITIONS[Status(task.status)])
        if force:
            require(actor, Action.FORCE_CANCEL, task)
            if task.cancel_requested_at is None:
                raise Conflict("Cancel it normally first; killing Terraform can lose state.")
            task.kill_requested_at = ClockTimestamp()
            task.save(update_fields=["kill_requested_at"])
        elif task.cancel_requested_at is None:
            task.cancel_requested_at = ClockTimestamp()
            task.save(update_fields=["cancel_requested_at"])
        record(
            "task.kill_requested" if force else "task.cancel_requested",
            actor=actor,
            task=task,
            cause=cause,
        )
        task.refresh_from_db()
        cancel_requested.send(sender=Task, task=task)
        return task


#: Whoever may plan may take back what they queued themselves.
_OWN_CANCEL = {Status.PENDING, Status.PLANNING, Status.APPLY_PENDING}


def acknowledge_task(*, actor: Actor, task_id: UUID, comment: str = "") -> Task:
    """Take note of an interrupted apply, which frees its workspace for the next one.

    Whoever does so vouches that its process is gone: a state lock it left behind is released.

    Raises:
        NotFound, NotPermitted; Conflict: it is not interrupted, or was acknowledged before.
    """
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.ACKNOWLEDGE, task)
        if task.status != Status.INTERRUPTED or task.acknowledged_at:
            raise Conflict("Only an interrupted task that nobody acknowledged yet can be.")
        task.acknowledged_at, task.acknowledged_by = ClockTimestamp(), actor.user
        task.save(update_fields=["acknowledged_at", "acknowledged_by"])
        record("task.acknowledged", actor=actor, task=task, cause=comment)
        release_leftover_lock(task=task, actor=actor)
        task.refresh_from_db()
        return task


VERDICTS = (Status.APPLIED, Status.FAILED, Status.INTERRUPTED)


def resolve_task(*, actor: Actor, task_id: UUID, verdict: Status | str, comment: str) -> Task:
    """Give a person's verdict on an apply whose agent vanished; its lease is fenced by it.

    With ``interrupted`` its state lock stays until somebody acknowledges that; otherwise it is
    released, and a late write of the run is refused.

    Raises:
        NotFound, NotPermitted, IllegalTransition; InvalidInput: verdict or comment missing.
    """
    if verdict not in VERDICTS:
        raise InvalidInput(f"Use one of {', '.join(VERDICTS)}.", field="verdict")
    if not comment.strip():
        raise InvalidInput("Say what you found out and how.", field="comment")
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.ACKNOWLEDGE, task)
        transition(
            task,
            Status(verdict),
            actor=actor,
            cause=f"verdict: {comment}",
            sources=[Status.APPLY_UNKNOWN],
            error="" if verdict == Status.APPLIED else comment,
        )
        if verdict != Status.INTERRUPTED:
            release_leftover_lock(task=task, actor=actor)
        return task


def extend_keep_warm(*, actor: Actor, task_id: UUID, hours: int) -> Task:
    """Keep a waiting plan's directory for ``hours`` more, but no longer than a week from now.

    Raises:
        NotFound, NotPermitted; Conflict: it does not wait; InvalidInput: hours out of range.
    """
    if not 1 <= hours <= KEEP_WARM_HOURS_MAX:
        raise InvalidInput(f"Between 1 and {KEEP_WARM_HOURS_MAX} hours.", field="hours")
    with transaction.atomic():
        task = lock_task(task_id)
        require(actor, Action.CONFIRM, task)
        if task.status != Status.APPLY_PENDING:
            raise Conflict("Only a plan that waits for a person is kept warm.")
        Task.objects.filter(pk=task.pk).update(
            keep_warm_until=Least(
                Greatest(F("keep_warm_until"), ClockTimestamp()) + timedelta(hours=hours),
                ClockTimestamp() + timedelta(hours=KEEP_WARM_HOURS_MAX),
            )
        )
        record("task.keep_warm_extended", actor=actor, task=task, data={"hours": hours})
        task.refresh_from_db()
        return task


@dataclass(frozen=True)
class AllowedAction:
    """A button: shown if the role allows it, pressable if the status does."""

    name: str
    allowed: bool
    reason: str = ""


def allowed_actions(actor: Actor, task: Task) -> list[AllowedAction]:
    """Return what ``actor``'s role allows on ``task``, and whether its status does now."""
    status = Status(task.status)
    label = status.label.lower()
    running = status in {Status.PLANNING, Status.APPLYING}
    cancellable = Status.CANCELLED in TRANSITIONS[status]
    own = actor.user is not None and task.created_by_id == actor.user.pk
    waits = status == Status.APPLY_PENDING
    acknowledgeable = status == Status.INTERRUPTED and not task.acknowledged_at
    rows = [
        ("confirm", may(actor, Action.CONFIRM, task), waits, f"The task is {label}."),
        ("discard", may(actor, Action.DISCARD, task), waits, f"The task is {label}."),
        (
            "cancel",
            may(actor, Action.CANCEL, task) or (own and may(actor, Action.PLAN, task)),
            cancellable and not (running and task.cancel_requested_at),
            "It was asked to stop already." if running else f"The task is {label}.",
        ),
        (
            "force_cancel",
            may(actor, Action.FORCE_CANCEL, task),
            running and bool(task.cancel_requested_at),
            "Cancel it normally first." if running else f"The task is {label}.",
        ),
        (
            "acknowledge",
            may(actor, Action.ACKNOWLEDGE, task),
            acknowledgeable,
            f"The task is {label}.",
        ),
        (
            "resolve",
            may(actor, Action.ACKNOWLEDGE, task),
            status == Status.APPLY_UNKNOWN,
            f"The task is {label}.",
        ),
        ("keep_warm", may(actor, Action.CONFIRM, task), waits, f"The task is {label}."),
        (
            "warm_again",
            may(actor, Action.CONFIRM, task),
            waits and task.warmup_status == WarmupStatus.FAILED,
            "No warm-up of it failed." if waits else f"The task is {label}.",
        ),
    ]
    return [
        AllowedAction(name, possible, "" if possible else reason)
        for name, permitted, possible, reason in rows
        if permitted
    ]
