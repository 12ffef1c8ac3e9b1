from django.conf import settings
from django.db import models

from tasks_app.models.base import Identified
from tasks_app.models.project import Project


class Workspace(Identified):
    """One Terraform state and the configuration that manages it."""

    class Engine(models.TextChoices):
        TERRAFORM = "terraform", "Terraform"
        TOFU = "tofu", "OpenTofu"

    class StateBackend(models.TextChoices):
        SLIPWAY = "slipway", "Slipway's own state, versioned and locked"
        CONFIGURATION = "configuration", "The backend of the configuration (no second gate)"

    name = models.SlugField(max_length=90)
    project = models.ForeignKey(Project, models.PROTECT, related_name="workspaces")
    description = models.TextField(blank=True)
    engine = models.CharField(max_length=10, choices=Engine, default=Engine.TERRAFORM)
    engine_version = models.CharField(
        max_length=30,
        blank=True,
        help_text="Exact, for example 1.11.4. Empty: that of the agent that plans.",
    )
    working_directory = models.CharField(
        max_length=250, blank=True, help_text="Inside the configuration; empty: its root."
    )
    auto_apply = models.BooleanField(
        default=False, help_text="Apply without asking, when the person who plans may confirm."
    )
    state_backend = models.CharField(
        max_length=15, choices=StateBackend, default=StateBackend.SLIPWAY
    )
    locked_at = models.DateTimeField(null=True, blank=True, editable=False)
    locked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
    )
    lock_reason = models.CharField(max_length=250, blank=True, editable=False)
    last_task_number = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "name"], name="workspace_name_unique_in_project"
            )
        ]

    def __str__(self) -> str:
        return self.name
