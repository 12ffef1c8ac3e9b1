"""Tasks' directories on agents' disks."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from pods_app.models.pod import ManagedPod
from pods_app.states import DirectoryState
from tasks_app.models import Task
from tasks_app.models.base import Identified


class WorkDirectory(Identified):
    """A task's directory on an agent's disk, as the agent reported it."""

    task = models.ForeignKey(Task, models.PROTECT, related_name="work_directories")
    pod = models.ForeignKey(ManagedPod, models.CASCADE, related_name="work_directories")
    path = models.CharField(max_length=1000)
    bytes = models.PositiveBigIntegerField(default=0)
    state = models.CharField(max_length=12, choices=DirectoryState, default=DirectoryState.KEPT)
    last_used_at = models.DateTimeField(db_default=Now())
    reported_at = models.DateTimeField(db_default=Now())
    reason = models.CharField(max_length=250, blank=True, help_text="Why it is kept or deleted")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "work directories"
        constraints = [
            models.UniqueConstraint(
                fields=["task", "pod"],
                condition=~Q(state=DirectoryState.DELETED),
                name="one_directory_per_task_and_pod",
            )
        ]
