"""The admin is the operators' product: it shows by role, and acts through services only."""

from tasks_app.admin import (
    dashboard,
    event,
    people,
    project,
    task,
    variables,
    versions,
    workspace,
)

__all__ = [
    "dashboard",
    "event",
    "people",
    "project",
    "task",
    "variables",
    "versions",
    "workspace",
]
