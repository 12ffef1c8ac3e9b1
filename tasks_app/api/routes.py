"""This app's routes of the REST API."""

from rest_framework.routers import BaseRouter

from tasks_app.api import configurations, credentials, state_versions, variables
from tasks_app.api.base import WORKSPACE
from tasks_app.api.projects import ProjectViewSet
from tasks_app.api.task_contents import TaskContentViewSet
from tasks_app.api.tasks import PlanNowViewSet, TaskViewSet
from tasks_app.api.tokens import TokenViewSet
from tasks_app.api.workspaces import WorkspaceViewSet


def register(router: BaseRouter) -> None:
    """Add this app's viewsets."""
    add = router.register
    add("projects", ProjectViewSet, "project")
    add(variables.PROJECT_PREFIX, variables.ProjectVariableViewSet, "project-variable")
    add(credentials.PREFIX, credentials.ProjectCredentialViewSet, "project-credential")
    add("workspaces", WorkspaceViewSet, "workspace")
    add(configurations.PREFIX, configurations.ConfigurationViewSet, "configuration")
    add(variables.WORKSPACE_PREFIX, variables.WorkspaceVariableViewSet, "workspace-variable")
    add(state_versions.PREFIX, state_versions.StateVersionViewSet, "state-version")
    add(f"{WORKSPACE}/plan", PlanNowViewSet, "workspace-plan")
    add("variables", variables.GlobalVariableViewSet, "global-variable")
    add("tasks", TaskViewSet, "task")
    add("tasks", TaskContentViewSet, "task-content")
    add("tokens", TokenViewSet, "token")
