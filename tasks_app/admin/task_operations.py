"""What people do with a task: confirm, discard, cancel, acknowledge, resolve, plan again.

Every dialog carries what its reader saw (the status, and for a confirmation the plan's hash);
if that changed meanwhile the dialog says so instead of acting on something else.
"""

from __future__ import annotations

from typing import Any

from django import forms

from tasks_app.actors import Actor
from tasks_app.admin.base import object_url, rendered_panels
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.exceptions import Conflict
from tasks_app.models import Task
from tasks_app.permissions import Action, may
from tasks_app.services import tasks, verdicts, warmups
from tasks_app.states import Status

#: Panels of upper apps (`registry`): how the apply will start, and what is known of one.
START_PANELS, EVIDENCE_PANELS = "task.start", "task.evidence"


class TaskForm(OperationForm):
    """Carries the status its reader saw."""

    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    comment = forms.CharField(
        label="Comment",
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Kept with the task's history.",
    )


class ConfirmForm(TaskForm):
    plan_hash = forms.CharField(widget=forms.HiddenInput)


class TaskOperation(Operation):
    """An operation whose availability is the service's `allowed_actions`."""

    form_class = TaskForm

    def availability(self, actor: Actor, obj: Task) -> Availability:
        for action in tasks.allowed_actions(actor, obj):
            if action.name == self.name:
                return Availability(True, action.reason)
        return Availability(False)

    def initial(self, obj: Task) -> dict[str, Any]:
        return {"seen": obj.status}

    def run(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        current = Task.objects.values_list("status", flat=True).get(pk=obj.pk)
        if data.get("seen") and data["seen"] != current:
            was, now = Status(data["seen"]).label.lower(), Status(current).label.lower()
            raise Conflict(f"The task changed meanwhile: it was {was} and is {now} now.")
        return self.act(actor, obj, data)

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        """Call the service, after the check of what the reader saw."""
        raise NotImplementedError


class Confirm(TaskOperation):
    name, label, icon, tone = "confirm", "Confirm", "check", "primary"
    title, submit = "Confirm and apply this plan?", "Confirm and apply"
    template = "admin/slipway/task/confirm.html"
    form_class = ConfirmForm

    def initial(self, obj: Task) -> dict[str, Any]:
        return {**super().initial(obj), "plan_hash": obj.plan_hash}

    def context(self, actor: Actor, obj: Task) -> dict[str, Any]:
        return {"plan": getattr(obj, "plan", None), "start": rendered_panels(START_PANELS, obj)}

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        tasks.confirm_task(
            actor=actor, task_id=obj.pk, plan_hash=data["plan_hash"], comment=data["comment"]
        )
        return Done(f"Confirmed #{obj.number}: the apply starts now.")


class Discard(TaskOperation):
    name, label, icon = "discard", "Discard", "block"
    title, submit = "Discard this plan?", "Discard plan"
    text = "Nothing is applied. The next task of the workspace may start."

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        tasks.discard_task(actor=actor, task_id=obj.pk, comment=data["comment"])
        return Done(f"Discarded the plan of #{obj.number}.")


class Cancel(TaskOperation):
    name, label, icon = "cancel", "Cancel", "cancel"
    title, submit = "Cancel this task?", "Cancel task"
    text = (
        "What does not run yet ends at once. Terraform that runs gets one interrupt: it finishes "
        "the resources it works on, writes the state and stops."
    )

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        task = tasks.cancel_task(actor=actor, task_id=obj.pk, comment=data["comment"])
        if task.is_final:
            return Done(f"Cancelled #{obj.number}.")
        return Done(f"Asked #{obj.number} to stop; Terraform ends in order.")


class ForceCancelForm(TaskForm):
    sure = forms.BooleanField(
        label="I know that the state may be lost and resources left behind.", required=True
    )


class ForceCancel(TaskOperation):
    name, label, icon, tone = "force_cancel", "Force cancel", "dangerous", "danger"
    title, submit = "Kill Terraform?", "Kill Terraform"
    text = (
        "Terraform is killed at once. An apply can lose its state and leave resources that no "
        "state knows; the task becomes interrupted and the workspace waits for a person."
    )
    form_class = ForceCancelForm

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        tasks.cancel_task(actor=actor, task_id=obj.pk, force=True, comment=data["comment"])
        return Done(f"Asked the agent to kill Terraform of #{obj.number}.")


class Acknowledge(TaskOperation):
    name, label, icon, tone = "acknowledge", "Acknowledge", "visibility", "primary"
    title, submit = "Acknowledge the interrupted run?", "Acknowledge"
    text = (
        "Make sure that no process of it lives any more and that the state is right. Then the "
        "next task of the workspace may start; plan again before anything is applied."
    )
    template = "admin/slipway/task/evidence.html"

    def context(self, actor: Actor, obj: Task) -> dict[str, Any]:
        return {"evidence": rendered_panels(EVIDENCE_PANELS, obj)}

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        tasks.acknowledge_task(actor=actor, task_id=obj.pk, comment=data["comment"])
        return Done(f"Acknowledged #{obj.number}; the workspace is free again.")


class ResolveForm(TaskForm):
    verdict = forms.ChoiceField(
        label="What happened?",
        choices=[
            (Status.APPLIED, "Applied: everything in the plan was done"),
            (Status.FAILED, "Failed: it ended, and the state says what was done"),
            (Status.INTERRUPTED, "Interrupted: cut off, or not known; needs acknowledgement"),
            (verdicts.STILL_RUNNING, "Still running: a note for the others; it goes on waiting"),
        ],
        widget=forms.RadioSelect,
    )
    field_order = ["seen", "verdict", "comment"]

    def prepare(self) -> None:
        self.fields["comment"].required = True
        self.fields["comment"].help_text = "What you found out, and how."


class Resolve(TaskOperation):
    name, label, icon, tone = "resolve", "Resolve", "gavel", "primary"
    title, submit = "What became of this apply?", "Give this verdict"
    text = (
        "The agent vanished after it was permitted to apply. Your verdict ends its lease: "
        "whatever that agent still reports has no effect. A note ends nothing."
    )
    wide = True
    template = "admin/slipway/task/evidence.html"
    form_class = ResolveForm

    def context(self, actor: Actor, obj: Task) -> dict[str, Any]:
        return {"evidence": rendered_panels(EVIDENCE_PANELS, obj)}

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        verdicts.answer(
            actor=actor, task_id=obj.pk, verdict=data["verdict"], comment=data["comment"]
        )
        if data["verdict"] == verdicts.STILL_RUNNING:
            return Done(f"Noted that #{obj.number} still runs; it goes on waiting.")
        return Done(f"#{obj.number} is {Status(data['verdict']).label.lower()} by your verdict.")


class PlainTaskForm(TaskForm):
    """Without a comment."""

    def prepare(self) -> None:
        del self.fields["comment"]


class KeepWarmForm(PlainTaskForm):
    hours = forms.IntegerField(
        label="Hours more", min_value=1, max_value=tasks.KEEP_WARM_HOURS_MAX, initial=24
    )
    field_order = ["seen", "hours"]


class KeepWarm(TaskOperation):
    name, label, icon = "keep_warm", "Keep warm", "more_time"
    title, submit = "Keep the plan's directory longer?", "Keep warm"
    text = (
        "Until then the work directory and its slot are kept, so that the apply starts the moment "
        "it is confirmed. Afterwards it can still be confirmed, and takes the normal path."
    )
    form_class = KeepWarmForm

    def initial(self, obj: Task) -> dict[str, Any]:
        return {**super().initial(obj), "hours": 24}

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        tasks.extend_keep_warm(actor=actor, task_id=obj.pk, hours=data["hours"])
        return Done(f"The directory of #{obj.number} is kept {data['hours']} h longer.")


class WarmAgain(TaskOperation):
    name, label, icon = "warm_again", "Warm again", "local_fire_department"
    title, submit = "Try to make this plan ready again?", "Warm again"
    text = (
        "An agent restores and verifies the directory before anybody confirms. It is tried as "
        "often as at first."
    )
    form_class = PlainTaskForm

    def act(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        warmups.warm_again(actor=actor, task_id=obj.pk)
        return Done(f"#{obj.number} is made ready again as soon as an agent has room.")


class PlanAgain(Operation):
    """Offered once a task is over, above all when its plan became void."""

    name, label, icon = "plan_again", "Plan again", "replay"
    title, submit = "Plan this again?", "Start planning"
    text = (
        "A new task with the same options plans the workspace's newest configuration on its "
        "present state. It waits for a person before anything is applied."
    )

    def availability(self, actor: Actor, obj: Task) -> Availability:
        shown = obj.is_final and may(actor, Action.PLAN, obj)
        locked = obj.workspace.locked_at
        return Availability(
            shown, f"The workspace is locked: {obj.workspace.lock_reason}" if locked else ""
        )

    def run(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        task = tasks.create_task(
            actor=actor,
            workspace=obj.workspace,
            type=obj.type,
            destroy=obj.destroy,
            refresh_only=obj.refresh_only,
            targets=obj.targets,
            replace=obj.replace,
            auto_apply=False,
            message=obj.message,
        )
        return Done(f"Queued #{task.number}.", object_url(task))


TASK_OPERATIONS = (
    PlanAgain(),
    Confirm(),
    Discard(),
    KeepWarm(),
    WarmAgain(),
    Acknowledge(),
    Resolve(),
    Cancel(),
    ForceCancel(),
)
