"""Projects, their roles, variables and credentials."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from tasks_app.actors import Actor
from tasks_app.admin.base import SlipwayAdmin, list_url, object_url, operation_url
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.admin.variables import AddVariable, variable_rows
from tasks_app.formats import DASH, ago, badge, link
from tasks_app.models import Project, ProjectCredential, RoleAssignment, Workspace
from tasks_app.permissions import Action, may, visible_projects
from tasks_app.services import credentials, roles, workspaces


class ProjectForm(OperationForm):
    name = forms.SlugField(max_length=90)
    description = forms.CharField(required=False, widget=forms.Textarea(attrs={"rows": 2}))


class CreateProject(Operation):
    name, label, icon, tone = "create", "Add project", "create_new_folder", "primary"
    submit = "Create project"
    text = "A set of workspaces with roles, variables and credentials of its own."
    form_class = ProjectForm

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, Action.OPERATE))

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        project = workspaces.create_project(actor=actor, **data)
        return Done(f"Created {project.name}. Give groups a role in it next.", object_url(project))


class ProjectOperation(Operation):
    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, Action.CHANGE_PROJECT, obj))


class ChangeProject(ProjectOperation):
    name, label, icon = "settings", "Settings", "settings"
    title, submit = "Settings of the project", "Save"
    form_class = ProjectForm

    def initial(self, obj: Project) -> dict[str, Any]:
        return {"name": obj.name, "description": obj.description}

    def run(self, actor: Actor, obj: Project, data: dict[str, Any]) -> Done:
        workspaces.update_project(actor=actor, project=obj, **data)
        return Done("The settings are saved.")


class RoleForm(OperationForm):
    group = forms.ModelChoiceField(queryset=Group.objects.order_by("name"))
    role = forms.ChoiceField(choices=RoleAssignment.Role.choices, widget=forms.RadioSelect)


class GiveRole(ProjectOperation):
    name, label, icon = "give_role", "Give a role", "person_add"
    title, submit = "Give a group a role in this project", "Give role"
    form_class = RoleForm

    def run(self, actor: Actor, obj: Project, data: dict[str, Any]) -> Done:
        roles.give_role(actor=actor, project=obj, **data)
        return Done(f"{data['group'].name} is {data['role']} of {obj.name}.")


class CredentialForm(OperationForm):
    kind = forms.ChoiceField(choices=ProjectCredential.Kind.choices)
    host = forms.CharField(max_length=253, help_text="For example git.example.com")
    username = forms.CharField(required=False, max_length=100)
    secret = forms.CharField(
        strip=False,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "autocomplete": "off"}),
        help_text="Write-only: it is never shown again.",
    )
    known_hosts = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="For an SSH key: the host's lines of ssh-keyscan.",
    )


class SetCredential(ProjectOperation):
    name, label, icon = "set_credential", "Set a credential", "vpn_key"
    title, submit = "Set a credential for private modules or registries", "Save"
    text = "Every run of the project gets it; one that exists for the host is replaced."
    form_class = CredentialForm

    def run(self, actor: Actor, obj: Project, data: dict[str, Any]) -> Done:
        row = credentials.set_credential(actor=actor, project=obj, **data)
        return Done(f"The credential for {row.host} is set.")


@admin.register(Project)
class ProjectAdmin(SlipwayAdmin):
    """Projects a person may see."""

    project_path = "pk"
    page_template = "admin/slipway/project.html"
    create = CreateProject()
    operations = (GiveRole(), SetCredential(), ChangeProject(), AddVariable())
    empty_text = "A project holds workspaces and says who may do what with them."
    list_display = ("name", "description", "workspace_count", "role_count")
    search_fields = ("name",)
    sortable_by = ("name",)
    ordering = ("name",)
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        return (
            super()
            .get_queryset(request)
            .annotate(
                workspace_total=Count("workspaces", distinct=True),
                role_total=Count("roles", distinct=True),
            )
        )

    @admin.display(description="Workspaces")
    def workspace_count(self, obj: Any) -> Any:
        return link(list_url(Workspace, f"project={obj.pk}"), obj.workspace_total)

    @admin.display(description="Roles")
    def role_count(self, obj: Any) -> Any:
        return obj.role_total or DASH

    def page_context(self, request: HttpRequest, obj: Project) -> dict[str, Any]:
        actor = self.actor(request)
        changes = may(actor, Action.CHANGE_PROJECT, obj)
        granted = RoleAssignment.objects.filter(Q(project=obj) | Q(project=None))
        return {
            "project": obj,
            "workspaces_url": list_url(Workspace, f"project={obj.pk}"),
            "roles": [
                {"row": row, "url": operation_url(row, "take") if changes and row.project else ""}
                for row in granted.select_related("group", "project").order_by("group__name")
            ],
            "credentials": [
                {"row": row, "url": operation_url(row, "delete") if changes else ""}
                for row in obj.credentials.defer("secret_ciphertext").select_related("created_by")
            ],
            "variables": variable_rows(obj.variables.filter(deleted_at=None)),
            "may_change_variables": may(actor, Action.CHANGE_VARIABLES, obj),
            "add_variable_url": operation_url(obj, AddVariable.name),
        }


class DeleteCredential(Operation):
    name, label, icon, tone = "delete", "Delete", "delete", "danger"
    title, submit = "Delete this credential?", "Delete"
    text = "Runs from now on go without it."

    def availability(self, actor: Actor, obj: ProjectCredential) -> Availability:
        return Availability(may(actor, Action.CHANGE_PROJECT, obj))

    def run(self, actor: Actor, obj: ProjectCredential, data: dict[str, Any]) -> Done:
        project = obj.project
        credentials.delete_credential(actor=actor, credential=obj)
        return Done(f"The credential for {obj.host} is deleted.", object_url(project))


@admin.register(ProjectCredential)
class ProjectCredentialAdmin(SlipwayAdmin):
    """Credentials; their secrets are never read here."""

    project_path = "project"
    operations = (DeleteCredential(),)
    empty_text = "Credentials are set on the page of a project."
    list_display = ("host", "kind", "project", "username", "age")
    list_select_related = ("project",)
    sortable_by = ()
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProjectCredential]:
        return super().get_queryset(request).defer("secret_ciphertext")

    @admin.display(description="Set")
    def age(self, obj: ProjectCredential) -> Any:
        return ago(obj.created_at)

    def facts(self, request: HttpRequest, obj: ProjectCredential) -> list[tuple[str, Any]]:
        return [
            ("Project", link(object_url(obj.project), obj.project.name)),
            ("Kind", obj.get_kind_display()),
            ("Host", obj.host),
            ("User", obj.username or DASH),
            ("Secret", badge("hidden", "quiet", "visibility_off")),
            ("Set", ago(obj.created_at)),
        ]


class AnyRoleForm(RoleForm):
    project = forms.ModelChoiceField(
        queryset=Project.objects.none(), required=False, empty_label="Every project"
    )
    field_order = ["group", "project", "role"]

    def prepare(self) -> None:
        field: Any = self.fields["project"]
        field.queryset = visible_projects(self.actor and self.actor.user)


class CreateRole(Operation):
    name, label, icon, tone = "create", "Give a role", "person_add", "primary"
    submit = "Give role"
    form_class = AnyRoleForm

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, Action.CHANGE_PROJECT))

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        row = roles.give_role(actor=actor, **data)
        return Done(f"{row}.", list_url(RoleAssignment))


class TakeRole(Operation):
    name, label, icon, tone = "take", "Take away", "person_remove", "danger"
    title, submit = "Take this role away?", "Take away"

    def availability(self, actor: Actor, obj: RoleAssignment) -> Availability:
        if obj.project is None:
            return Availability(may(actor, Action.OPERATE))
        return Availability(may(actor, Action.CHANGE_PROJECT, obj.project))

    def run(self, actor: Actor, obj: RoleAssignment, data: dict[str, Any]) -> Done:
        said = str(obj)
        back = object_url(obj.project) if obj.project else list_url(RoleAssignment)
        roles.take_role(actor=actor, assignment=obj)
        return Done(f"Taken away: {said}.", back)


@admin.register(RoleAssignment)
class RoleAssignmentAdmin(SlipwayAdmin):
    """Which group has which role where."""

    create = CreateRole()
    operations = (TakeRole(),)
    empty_text = "Nobody but superusers may do anything yet. Make a group and give it a role."
    list_display = ("group", "role_word", "place")
    list_select_related = ("group", "project")
    sortable_by = ()
    ordering = ("group__name", "id")
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[RoleAssignment]:
        rows = super().get_queryset(request)
        if request.user.is_superuser:
            return rows
        return rows.filter(Q(project=None) | Q(project__in=visible_projects(request.user)))

    @admin.display(description="Role")
    def role_word(self, obj: RoleAssignment) -> str:
        return str(obj.get_role_display())

    @admin.display(description="Where")
    def place(self, obj: RoleAssignment) -> Any:
        return link(object_url(obj.project), obj.project.name) if obj.project else "every project"

    def facts(self, request: HttpRequest, obj: RoleAssignment) -> list[tuple[str, Any]]:
        members = ", ".join(
            obj.group.user_set.order_by("username").values_list("username", flat=True)
        )
        return [
            ("Group", obj.group.name),
            ("Role", obj.get_role_display()),
            ("Where", self.place(obj)),
            ("Members", members or DASH),
        ]
