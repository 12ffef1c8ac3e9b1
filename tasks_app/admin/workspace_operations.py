"""What people do with a workspace: set it up, plan, lock, bring configurations and state."""

from __future__ import annotations

from typing import Any

from django import forms

from tasks_app.actors import Actor
from tasks_app.admin.base import object_url
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.models import ConfigurationVersion, Project, Workspace
from tasks_app.permissions import Action, may, visible_projects
from tasks_app.services import configurations, state, tasks, workspaces
from tasks_app.states import TaskType

_CHOICES_MAX = 100


class SettingsForm(OperationForm):
    name = forms.SlugField(max_length=90, help_text="Letters, digits, - and _.")
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))
    engine = forms.ChoiceField(choices=Workspace.Engine.choices)
    engine_version = forms.CharField(
        label="Version",
        required=False,
        max_length=30,
        help_text="Exact, for example 1.11.4. Empty: that of the agent that plans.",
    )
    working_directory = forms.CharField(
        required=False, max_length=250, help_text="Inside the configuration; empty: its root."
    )
    auto_apply = forms.BooleanField(
        required=False,
        help_text="Apply without asking, when the person who plans may confirm.",
    )
    state_backend = forms.ChoiceField(
        label="State",
        choices=Workspace.StateBackend.choices,
        initial=Workspace.StateBackend.SLIPWAY,
        help_text="With its own backend a workspace has no second gate, no serial check, and no "
        "versions here.",
    )


class CreateForm(SettingsForm):
    project = forms.ModelChoiceField(queryset=Project.objects.none(), empty_label=None)
    field_order = ["project"]

    def prepare(self) -> None:
        allowed = [
            project.pk
            for project in visible_projects(self.actor and self.actor.user)
            if self.actor and may(self.actor, Action.CHANGE_WORKSPACE, project)
        ]
        field: Any = self.fields["project"]
        field.queryset = Project.objects.filter(pk__in=allowed)


class CreateWorkspace(Operation):
    name, label, icon, tone = "create", "Add workspace", "add", "primary"
    submit = "Create workspace"
    text = "One Terraform state and the configuration that manages it."
    form_class = CreateForm

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, Action.CHANGE_WORKSPACE))

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        workspace = workspaces.create_workspace(actor=actor, **data)
        return Done(
            f"Created {workspace.name}. Upload a configuration next.", object_url(workspace)
        )


class WorkspaceOperation(Operation):
    """An operation that one action of a role allows."""

    action: Action

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, self.action, obj), self.refusal(obj))

    def refusal(self, obj: Any) -> str:
        """Return why the state does not allow it now, "" if it does."""
        return ""


class ChangeSettings(WorkspaceOperation):
    name, label, icon = "settings", "Settings", "settings"
    title, submit = "Settings of the workspace", "Save"
    text = "Tasks that exist keep what they were created with."
    action = Action.CHANGE_WORKSPACE
    form_class = SettingsForm

    def initial(self, obj: Workspace) -> dict[str, Any]:
        return {name: getattr(obj, name) for name in SettingsForm.base_fields}

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        workspaces.update_workspace(actor=actor, workspace=obj, **data)
        return Done("The settings are saved.")


def _addresses(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


class PlanForm(OperationForm):
    type = forms.ChoiceField(
        label="What shall be done?", choices=TaskType.choices, initial=TaskType.PLAN_AND_APPLY
    )
    configuration = forms.ModelChoiceField(
        queryset=ConfigurationVersion.objects.none(), required=False, empty_label="The newest"
    )
    message = forms.CharField(required=False, max_length=250, help_text="Why, for the others.")
    destroy = forms.BooleanField(label="Destroy everything this workspace manages", required=False)
    refresh_only = forms.BooleanField(
        label="Refresh only: look what changed outside of Terraform", required=False
    )
    targets = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="Only these resource addresses, one a line.",
    )
    replace = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="Replace these resource addresses, one a line.",
    )
    auto_apply = forms.BooleanField(
        label="Apply without asking", required=False, help_text="Needs the right to confirm."
    )

    def prepare(self) -> None:
        field: Any = self.fields["configuration"]
        field.queryset = self.obj.configurations.order_by("-number")
        field.label_from_instance = lambda row: f"{row.number}: {row.message or row.digest[:12]}"
        if not (self.actor and may(self.actor, Action.CONFIRM, self.obj)):
            del self.fields["auto_apply"]


class PlanNow(WorkspaceOperation):
    name, label, icon, tone = "plan", "Plan now", "play_arrow", "primary"
    title, submit, wide = "Plan now", "Start planning", True
    action = Action.PLAN
    form_class = PlanForm

    def refusal(self, obj: Workspace) -> str:
        if obj.locked_at:
            return f"The workspace is locked: {obj.lock_reason}"
        if not obj.configurations.exists():
            return "The workspace has no configuration yet; upload one first."
        return ""

    def initial(self, obj: Workspace) -> dict[str, Any]:
        return {"auto_apply": obj.auto_apply}

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        wishes = {name: value for name, value in data.items() if name not in {"targets", "replace"}}
        if data["type"] != TaskType.PLAN_AND_APPLY:
            wishes["auto_apply"] = None
        task = tasks.create_task(
            actor=actor,
            workspace=obj,
            targets=_addresses(data["targets"]),
            replace=_addresses(data["replace"]),
            **wishes,
        )
        return Done(f"Queued #{task.number}.", object_url(task))


class ReasonForm(OperationForm):
    reason = forms.CharField(max_length=250, help_text="For those who wait.")


class Lock(WorkspaceOperation):
    name, label, icon = "lock", "Lock", "lock"
    title, submit = "Lock the workspace?", "Lock"
    text = "Nothing is planned or confirmed in it until somebody unlocks it. What runs goes on."
    action = Action.LOCK_WORKSPACE
    form_class = ReasonForm

    def availability(self, actor: Actor, obj: Workspace) -> Availability:
        return Availability(not obj.locked_at and may(actor, self.action, obj))

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        workspaces.lock_workspace(actor=actor, workspace=obj, reason=data["reason"])
        return Done("The workspace is locked.")


class Unlock(WorkspaceOperation):
    name, label, icon = "unlock", "Unlock", "lock_open"
    title, submit = "Unlock the workspace?", "Unlock"
    text = "Tasks may start in it again."
    action = Action.LOCK_WORKSPACE

    def availability(self, actor: Actor, obj: Workspace) -> Availability:
        return Availability(bool(obj.locked_at) and may(actor, self.action, obj))

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        workspaces.unlock_workspace(actor=actor, workspace=obj)
        return Done("The workspace is unlocked.")


class UploadForm(OperationForm):
    archive = forms.FileField(
        label="Archive (tar.gz)",
        help_text="The folder with your .tf files, packed by tar czf. Without .terraform/.",
    )
    message = forms.CharField(required=False, max_length=250)


class UploadConfiguration(WorkspaceOperation):
    name, label, icon = "upload", "Upload configuration", "upload_file"
    title, submit = "Upload a configuration", "Upload"
    action = Action.UPLOAD_CONFIGURATION
    form_class = UploadForm

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        version = configurations.store_configuration(
            actor=actor,
            workspace=obj,
            archive=data["archive"].file,
            source=ConfigurationVersion.Source.UPLOAD,
            message=data["message"],
        )
        return Done(f"Stored configuration {version.number}.")


class StateForm(OperationForm):
    document = forms.FileField(
        label="State (JSON)", help_text="As terraform state pull prints it; its lineage is kept."
    )
    message = forms.CharField(required=False, max_length=250, help_text="Where it comes from.")


class UploadState(WorkspaceOperation):
    name, label, icon = "upload_state", "Bring in a state", "upload"
    title, submit = "Bring in a state", "Store as a new version"
    action = Action.WRITE_STATE
    form_class = StateForm
    in_header = False

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        version = state.upload_state(
            actor=actor, workspace=obj, content=data["document"].read(), message=data["message"]
        )
        return Done(f"Stored state {version.serial}.")


class ForceUnlockForm(OperationForm):
    typed = forms.CharField(label="Type the workspace's name")
    comment = forms.CharField(
        label="Why is it safe?", max_length=1000, widget=forms.Textarea(attrs={"rows": 2})
    )

    def clean_typed(self) -> str:
        if self.cleaned_data["typed"] != self.obj.name:
            raise forms.ValidationError(f"Type {self.obj.name} to go on.")
        return str(self.cleaned_data["typed"])


class ForceUnlock(WorkspaceOperation):
    name, label, icon, tone = "force_unlock", "Force state unlock", "no_encryption", "danger"
    title, submit = "Take the state lock away?", "Force unlock"
    text = (
        "Whoever holds the lock may still be writing: make sure that no Terraform works on this "
        "state any more. Later writes of the holder are refused. This is written to the history."
    )
    template = "admin/slipway/workspace/lock.html"
    action = Action.FORCE_UNLOCK
    form_class = ForceUnlockForm

    def availability(self, actor: Actor, obj: Workspace) -> Availability:
        if not may(actor, self.action, obj) or state.open_lock(obj) is None:
            return Availability(False)
        return Availability(True)

    def context(self, actor: Actor, obj: Workspace) -> dict[str, Any]:
        return {"lock": state.open_lock(obj)}

    def run(self, actor: Actor, obj: Workspace, data: dict[str, Any]) -> Done:
        state.force_unlock_state(actor=actor, workspace=obj, comment=data["comment"])
        return Done("The state lock was taken away.")
