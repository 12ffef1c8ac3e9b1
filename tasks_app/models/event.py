from django.conf import settings
from django.db import models

from tasks_app.ids import uuid7
from tasks_app.models.base import ClockTimestamp
from tasks_app.models.task import Task
from tasks_app.models.workspace import Workspace


class Event(models.Model):
    """The append-only audit row of a change: who, what, why, when in database time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(db_default=ClockTimestamp(), editable=False)
    kind = models.CharField(max_length=40, help_text="For example task.confirmed")
    workspace = models.ForeignKey(Workspace, models.CASCADE, null=True, related_name="events")
    task = models.ForeignKey(Task, models.CASCADE, null=True, related_name="events")
    from_status = models.CharField(max_length=25, blank=True)
    to_status = models.CharField(max_length=25, blank=True)
    actor = models.CharField(max_length=150, help_text="user:ada, agent:<id>, system:dispatch")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    cause = models.TextField(blank=True)
    lease_id = models.UUIDField(null=True)
    epoch = models.PositiveIntegerField(null=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["task", "-id"], name="event_task_newest"),
            models.Index(fields=["workspace", "-id"], name="event_workspace_newest"),
        ]

    def __str__(self) -> str:
        return self.kind
