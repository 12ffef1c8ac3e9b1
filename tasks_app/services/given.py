"""What runs are given now, for many tasks at once and without reading any secret."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from uuid import UUID

from django.db.models import Q

from tasks_app.models import ProjectCredential, Task, TaskVariable, Variable, VariableVersion
from tasks_app.services.variables import Category, prevailing


def given_versions(tasks: Collection[Task]) -> dict[UUID, set[UUID]]:
    """Return, by task, the versions of variables that `variables.task_variables` resolves to.

    Three queries, however many tasks.

    Args:
        tasks: with their workspaces loaded.
    """
    given: dict[UUID, set[UUID]] = {task.pk: set() for task in tasks}
    bound = TaskVariable.objects.filter(
        task__in=given, version__variable__category=Category.TERRAFORM
    )
    for task_id, version_id in bound.values_list("task_id", "version_id"):
        given[task_id].add(version_id)
    scopes: dict[UUID | None, list[Variable]] = defaultdict(list)
    for variable in Variable.objects.filter(
        Q(workspace__in={task.workspace_id for task in tasks})
        | Q(project__in={task.workspace.project_id for task in tasks})
        | Q(workspace=None, project=None),
        category=Category.ENVIRONMENT,
        deleted_at=None,
    ):
        scopes[variable.workspace_id or variable.project_id].append(variable)
    newest = dict(
        VariableVersion.objects.filter(variable__in=[v for rows in scopes.values() for v in rows])
        .order_by("variable_id", "-number")
        .distinct("variable_id")
        .values_list("variable_id", "pk")
    )
    for task in tasks:
        workspace = task.workspace
        rows = [*scopes[None], *scopes[workspace.project_id], *scopes[workspace.pk]]
        given[task.pk] |= {newest[variable.pk] for variable in prevailing(rows)}
    return given


def credentials_of(project_ids: Collection[UUID]) -> dict[UUID, list[ProjectCredential]]:
    """Return the projects' credentials, secrets encrypted, by project; one query."""
    found: dict[UUID, list[ProjectCredential]] = {project_id: [] for project_id in project_ids}
    for row in ProjectCredential.objects.filter(project__in=project_ids):
        found[row.project_id].append(row)
    return found
