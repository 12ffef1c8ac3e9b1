"""Variables: immutable versions in three scopes, workspace before project before global."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.db.models import Max, Q, QuerySet

from tasks_app.actors import Actor
from tasks_app.environment_names import refusal
from tasks_app.exceptions import InvalidInput, NotFound
from tasks_app.hcl import fault as hcl_fault
from tasks_app.keyring import keyring
from tasks_app.models import Project, Task, TaskVariable, Variable, VariableVersion, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.redaction import SECRET_LENGTH_MIN, secrets_in
from tasks_app.signals import given_changed
from tasks_app.transitions import record

_TERRAFORM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_KEY_LENGTH_MAX = 128
# What one environment variable can hold (MAX_ARG_STRLEN) with its name.
VALUE_BYTES_MAX = 128 * 1024 - 256
Category = Variable.Category
_PRECEDENCE = {Variable.Scope.GLOBAL: 0, Variable.Scope.PROJECT: 1, Variable.Scope.WORKSPACE: 2}


@dataclass(frozen=True)
class ResolvedVariable:
    """A variable with its value, for a run; ``version`` is the id of that."""

    version: UUID
    key: str
    value: str
    category: str
    hcl: bool
    sensitive: bool


def set_variable(
    *,
    actor: Actor,
    key: str,
    value: str,
    category: str = Category.TERRAFORM,
    workspace: Workspace | None = None,
    project: Project | None = None,
    hcl: bool = False,
    sensitive: bool = False,
    description: str = "",
) -> Variable:
    """Create a variable, or give it a new version.

    Args:
        workspace, project: its scope; neither is global.

    Raises:
        NotFound, NotPermitted: by role; a global variable needs a manager of every project.
        InvalidInput: names the field.
    """
    require(actor, *_scope_right(workspace, project))
    _check(key, value, category, hcl=hcl, sensitive=sensitive)
    with transaction.atomic():
        scope = {"workspace": workspace, "project": None if workspace else project}
        variable, created = Variable.objects.select_for_update(of=("self",)).get_or_create(
            **scope,
            category=category,
            key=key,
            deleted_at=None,
            defaults={"hcl": hcl, "sensitive": sensitive, "description": description},
        )
        if not created:
            variable.hcl, variable.sensitive, variable.description = hcl, sensitive, description
            variable.save(update_fields=["hcl", "sensitive", "description"])
        last = variable.versions.aggregate(last=Max("number"))["last"] or 0
        version = VariableVersion(
            variable=variable,
            number=last + 1,
            hcl=hcl,
            sensitive=sensitive,
            created_by=actor.user,
        )
        keyring().encrypt_row(version, value.encode())
        version.save(force_insert=True)
        record(
            "variable.set",
            actor=actor,
            workspace=workspace,
            data={"key": key, "version": last + 1, **_where(variable)},
        )
        _tell(variable)
    return variable


def update_variable(
    *,
    actor: Actor,
    variable: Variable,
    value: str | None = None,
    hcl: bool | None = None,
    sensitive: bool | None = None,
    description: str | None = None,
) -> Variable:
    """Give a variable a new version; what is left out stays as it is.

    Raises:
        As :func:`set_variable`; InvalidInput also where a hidden value would become readable.
    """
    require(actor, *_scope_right(variable.workspace, variable.project))
    with transaction.atomic():
        variable = Variable.objects.select_for_update(of=("self",)).get(pk=variable.pk)
        if variable.deleted_at is not None:
            raise NotFound("The variable was deleted.")
        if value is None:
            if variable.sensitive and sensitive is False:
                raise InvalidInput(
                    "Give the value again: one that was hidden is not shown.", field="value"
                )
            value = _resolve(_newest([variable]).get()).value
        return set_variable(
            actor=actor,
            key=variable.key,
            value=value,
            category=variable.category,
            workspace=variable.workspace,
            project=variable.project,
            hcl=variable.hcl if hcl is None else hcl,
            sensitive=variable.sensitive if sensitive is None else sensitive,
            description=variable.description if description is None else description,
        )


def _where(variable: Variable) -> dict[str, str]:
    """Name a variable's scope for the audit row."""
    project = {"project": variable.project.name} if variable.project else {}
    return {"scope": variable.scope, "category": variable.category, **project}


def _scope_right(
    workspace: Workspace | None, project: Project | None
) -> tuple[Action, Workspace | Project | None]:
    if workspace is None and project is None:
        return Action.OPERATE, None
    return Action.CHANGE_VARIABLES, workspace or project


def _check(key: str, value: str, category: str, *, hcl: bool, sensitive: bool) -> None:
    if category not in Category.values:
        raise InvalidInput(f"Use one of {', '.join(Category.values)}.", field="category")
    if not key or len(key) > _KEY_LENGTH_MAX:
        raise InvalidInput(f"Between 1 and {_KEY_LENGTH_MAX} characters.", field="key")
    if category == Category.TERRAFORM and not _TERRAFORM_NAME.fullmatch(key):
        raise InvalidInput(
            "A Terraform variable's name has letters, digits, _ and -, and begins with a letter.",
            field="key",
        )
    if category == Category.ENVIRONMENT:
        if reason := refusal(key):
            raise InvalidInput(reason, field="key")
        if hcl:
            raise InvalidInput("Only Terraform variables can be HCL.", field="hcl")
    if "\0" in value or len(value.encode(errors="replace")) > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"At most {VALUE_BYTES_MAX} bytes, without NUL; put larger values into a file of the "
            "configuration.",
            field="value",
        )
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InvalidInput("It holds half a character (a lone surrogate).", field="value")
    if hcl and (wrong := hcl_fault(value)):
        raise InvalidInput(f"Not an HCL expression: {wrong}", field="value")
    if sensitive and len(value.strip()) < SECRET_LENGTH_MIN:
        raise InvalidInput(
            f"A sensitive value needs at least {SECRET_LENGTH_MIN} characters: shorter ones "
            "cannot be kept out of logs.",
            field="value",
        )


def delete_variable(*, actor: Actor, variable: Variable) -> None:
    """Remove a variable from later tasks; those that refer to its versions keep them.

    Raises:
        NotFound, NotPermitted.
    """
    require(actor, *_scope_right(variable.workspace, variable.project))
    with transaction.atomic():
        Variable.objects.filter(pk=variable.pk, deleted_at=None).update(deleted_at=ClockTimestamp())
        record(
            "variable.deleted",
            actor=actor,
            workspace=variable.workspace,
            data={"key": variable.key, **_where(variable)},
        )
        _tell(variable)


def _tell(variable: Variable) -> None:
    """Terraform variables are bound to a task when it is created: what is given stays."""
    if variable.category == Category.ENVIRONMENT:
        given_changed.send(sender=Variable)


def _in_scope(workspace: Workspace, path: str = "") -> Q:
    """Return the condition that a variable holds for a workspace; ``path`` leads to it."""
    return (
        Q(**{f"{path}workspace": workspace})
        | Q(**{f"{path}project": workspace.project_id})
        | Q(**{f"{path}workspace": None, f"{path}project": None})
    )


def _effective(workspace: Workspace) -> list[Variable]:
    """Return the variables that hold for a workspace."""
    return prevailing(Variable.objects.filter(_in_scope(workspace), deleted_at=None))


def prevailing(rows: Iterable[Variable]) -> list[Variable]:
    """Return those of all variables in a workspace's scopes that hold, by precedence."""
    found: dict[tuple[str, str], Variable] = {}
    for variable in sorted(rows, key=lambda row: _PRECEDENCE[row.scope]):
        found[variable.category, variable.key] = variable
    return list(found.values())


def _newest(variables: list[Variable]) -> QuerySet[VariableVersion]:
    return (
        VariableVersion.objects.select_related("variable")
        .filter(variable__in=variables)
        .order_by("variable_id", "-number")
        .distinct("variable")
    )


def snapshot_variables(task: Task) -> None:
    """Bind the newest versions of all variables to a new task."""
    TaskVariable.objects.bulk_create(
        TaskVariable(task=task, version=version) for version in _newest(_effective(task.workspace))
    )


def task_variables(task: Task) -> list[ResolvedVariable]:
    """Return what a run of ``task`` gets: Terraform variables as of its creation, environment
    variables as of now, because credentials rotate.

    Raises:
        DecryptionFailed: a value cannot be read.
    """
    bound = VariableVersion.objects.select_related("variable").filter(
        pk__in=task.variables.values("version"), variable__category=Category.TERRAFORM
    )
    environment = [v for v in _effective(task.workspace) if v.category == Category.ENVIRONMENT]
    return [_resolve(version) for version in (*bound, *_newest(environment))]


def _resolve(version: VariableVersion) -> ResolvedVariable:
    plain = keyring().decrypt_row(version)
    return ResolvedVariable(
        version=version.pk,
        key=version.variable.key,
        value=plain.decode(),
        category=version.variable.category,
        hcl=version.hcl,
        sensitive=version.sensitive,
    )


def current_value(variable: Variable) -> str | None:
    """Return the newest value, None if it is sensitive: those are never shown again."""
    version = variable.versions.first()
    if version is None or variable.sensitive or version.sensitive:
        return None
    return _resolve(version).value


def newest_versions(variables: list[Variable]) -> dict[UUID, VariableVersion]:
    """Return the newest version of each variable by the variable's id, in one query."""
    return {version.variable_id: version for version in _newest(variables)}


def shown_value(version: VariableVersion) -> str | None:
    """Return a version's value, None if it is sensitive: those are never shown again."""
    hidden = version.sensitive or version.variable.sensitive
    return None if hidden else _resolve(version).value


def sensitive_values(task: Task) -> list[str]:
    """Return the values that must not appear in what the task shows.

    Of environment variables every value since its creation: a run gets the one of its own time,
    which may have rotated or gone since.
    """
    bound = VariableVersion.objects.select_related("variable").filter(
        Q(pk__in=task.variables.values("version"))
        | (_in_scope(task.workspace, "variable__") & Q(created_at__gte=task.created_at)),
        sensitive=True,
        variable__category=Category.ENVIRONMENT,
    )
    hidden = [variable for variable in task_variables(task) if variable.sensitive]
    return [
        secret
        for variable in (*hidden, *map(_resolve, bound))
        for secret in secrets_in(variable.value, hcl=variable.hcl)
    ]
