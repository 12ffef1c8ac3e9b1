"""What shall happen: projects, workspaces, configurations, variables, tasks, plans, state, logs."""

from tasks_app.models.blob import Blob, BlobChunk
from tasks_app.models.configuration import ConfigurationVersion
from tasks_app.models.event import Event
from tasks_app.models.idempotency import IdempotencyKey
from tasks_app.models.log import LogChunk, LogStream
from tasks_app.models.plan import Confirmation, Plan
from tasks_app.models.project import Project, ProjectCredential, RoleAssignment
from tasks_app.models.single_flight import SingleFlight
from tasks_app.models.state import StateLock, StateVersion
from tasks_app.models.task import Task, TaskStep, TaskVariable
from tasks_app.models.variable import Variable, VariableVersion
from tasks_app.models.workspace import Workspace

__all__ = [
    "Blob",
    "BlobChunk",
    "ConfigurationVersion",
    "Confirmation",
    "Event",
    "IdempotencyKey",
    "LogChunk",
    "LogStream",
    "Plan",
    "Project",
    "ProjectCredential",
    "RoleAssignment",
    "SingleFlight",
    "StateLock",
    "StateVersion",
    "Task",
    "TaskStep",
    "TaskVariable",
    "Variable",
    "VariableVersion",
    "Workspace",
]
