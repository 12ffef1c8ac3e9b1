"""Variables of workspaces, projects and the installation; sensitive values are write-only."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from tasks_app.actors import Actor
from tasks_app.admin.base import SlipwayAdmin, list_url, object_url
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.formats import DASH, ago, badge, code
from tasks_app.models import Project, Variable, Workspace
from tasks_app.permissions import Action, may, visible_projects
from tasks_app.services import variables

_HIDDEN = "hidden"


class ValueForm(OperationForm):
    value = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"}),
    )
    hcl = forms.BooleanField(
        label="HCL", required=False, help_text="The value is an expression: a list, a map, null …"
    )
    sensitive = forms.BooleanField(
        required=False, help_text="Write-only: never shown again, redacted from logs."
    )
    description = forms.CharField(required=False, max_length=250)


class VariableForm(ValueForm):
    category = forms.ChoiceField(choices=Variable.Category.choices, label="Kind")
    key = forms.CharField(max_length=128, label="Name")
    field_order = ["category", "key"]


class SharedForm(VariableForm):
    project = forms.ModelChoiceField(
        queryset=Project.objects.none(),
        required=False,
        empty_label="Every project",
        help_text="A workspace's own variable beats the project's, which beats the global one.",
    )
    field_order = ["project", "category", "key"]

    def prepare(self) -> None:
        field: Any = self.fields["project"]
        field.queryset = visible_projects(self.actor and self.actor.user)


def _scope(obj: Any) -> dict[str, Any]:
    if isinstance(obj, Workspace):
        return {"workspace": obj}
    return {"project": obj} if isinstance(obj, Project) else {}


def _may_change(actor: Actor, scope: Any) -> bool:
    action = Action.OPERATE if scope is None else Action.CHANGE_VARIABLES
    return may(actor, action, scope)


class AddVariable(Operation):
    """On the page of a workspace or a project."""

    name, label, icon = "add_variable", "Add variable", "add"
    submit = "Add variable"
    form_class = VariableForm
    in_header = False

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(_may_change(actor, obj))

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        variable = variables.set_variable(actor=actor, **_scope(obj), **data)
        return Done(f"{variable.key} is set; tasks from now on use it.")


class AddShared(Operation):
    name, label, icon, tone = "create", "Add shared variable", "add", "primary"
    text = "For every workspace of a project, or of all projects."
    submit = "Add variable"
    form_class = SharedForm

    def availability(self, actor: Actor, obj: Any) -> Availability:
        return Availability(may(actor, Action.CHANGE_VARIABLES))

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        variable = variables.set_variable(actor=actor, **data)
        return Done(f"{variable.key} is set; tasks from now on use it.", object_url(variable))


class NewValue(Operation):
    name, label, icon, tone = "value", "Change", "edit", "primary"
    title, submit = "Give the variable a new version", "Save"
    text = "Tasks that exist keep the version they were created with."
    form_class = ValueForm

    def availability(self, actor: Actor, obj: Variable) -> Availability:
        return Availability(
            obj.deleted_at is None and _may_change(actor, obj.workspace or obj.project)
        )

    def initial(self, obj: Variable) -> dict[str, Any]:
        shown = variables.current_value(obj)
        return {
            "value": shown or "",
            "hcl": obj.hcl,
            "sensitive": obj.sensitive,
            "description": obj.description,
        }

    def run(self, actor: Actor, obj: Variable, data: dict[str, Any]) -> Done:
        if obj.sensitive and not data["value"]:
            data = {**data, "value": None}  # what was hidden stays as it is
        variables.update_variable(actor=actor, variable=obj, **data)
        return Done(f"{obj.key} has a new version.")


class DeleteVariable(Operation):
    name, label, icon, tone = "delete", "Delete", "delete", "danger"
    title, submit = "Delete this variable?", "Delete"
    text = "Later tasks go without it; tasks that exist keep their version."

    def availability(self, actor: Actor, obj: Variable) -> Availability:
        return NewValue().availability(actor, obj)

    def run(self, actor: Actor, obj: Variable, data: dict[str, Any]) -> Done:
        variables.delete_variable(actor=actor, variable=obj)
        scope = obj.workspace or obj.project
        return Done(f"{obj.key} is deleted.", object_url(scope) if scope else list_url(Variable))


def variable_rows(rows: QuerySet[Variable]) -> list[dict[str, Any]]:
    """Return variables as a table shows them, in two queries."""
    found = list(rows.select_related("workspace", "project"))
    newest = variables.newest_versions(found)
    table = []
    for row in found:
        version = newest.get(row.pk)
        shown = variables.shown_value(version) if version and not row.sensitive else None
        table.append(
            {
                "row": row,
                "url": object_url(row),
                "value": shown,
                "hidden": shown is None,
                "version": version,
            }
        )
    return table


@admin.register(Variable)
class VariableAdmin(SlipwayAdmin):
    """The list shows shared variables; those of a workspace are on its page."""

    create = AddShared()
    operations = (NewValue(), DeleteVariable())
    empty_text = "No variable is shared yet. “Add” makes one for a project, or for all of them."
    list_display: ClassVar[Any] = ("key", "kind", "scope_word", "marks", "description")
    search_fields = ("key",)
    list_filter: ClassVar[Any] = ()
    list_select_related = ("project",)
    ordering = ("key",)
    sortable_by = ()
    refresh_ms = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Variable]:
        projects = visible_projects(request.user)
        visible = (
            Q(workspace=None, project=None)
            | Q(project__in=projects)
            | Q(workspace__project__in=projects)
        )
        rows = super().get_queryset(request).filter(visible, deleted_at=None)
        match = request.resolver_match
        in_list = match is not None and (match.url_name or "").endswith("_changelist")
        return rows.filter(workspace=None) if in_list else rows

    def page_queryset(self, request: HttpRequest) -> QuerySet[Variable]:
        return self.get_queryset(request).select_related("workspace__project", "project")

    @admin.display(description="Kind")
    def kind(self, obj: Variable) -> str:
        return str(obj.get_category_display())

    @admin.display(description="Scope")
    def scope_word(self, obj: Variable) -> str:
        return f"project {obj.project.name}" if obj.project else "every project"

    @admin.display(description="Value")
    def marks(self, obj: Variable) -> Any:
        if obj.sensitive:
            return badge(_HIDDEN, "quiet", "visibility_off")
        return badge("HCL", "quiet", "data_object") if obj.hcl else DASH

    def facts(self, request: HttpRequest, obj: Variable) -> list[tuple[str, Any]]:
        version = obj.versions.select_related("created_by").first()
        value = None if obj.sensitive or version is None else variables.shown_value(version)
        by = version.created_by.get_username() if version and version.created_by else DASH
        return [
            ("Name", code(obj.key)),
            ("Kind", obj.get_category_display()),
            ("Scope", obj.workspace or obj.project or "every project"),
            ("Value", badge(_HIDDEN, "quiet", "visibility_off") if value is None else code(value)),
            ("HCL", "yes" if obj.hcl else "no"),
            ("Version", version.number if version else DASH),
            ("Set", ago(version.created_at) if version else DASH),
            ("By", by),
            ("Description", obj.description or DASH),
        ]
