from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks_app.models.base import EncryptedRow, Identified
from tasks_app.models.project import Project
from tasks_app.models.workspace import Workspace


class Variable(Identified):
    """A name with a scope; its values are immutable versions."""

    class Category(models.TextChoices):
        TERRAFORM = "terraform", "Terraform variable"
        ENVIRONMENT = "environment", "Environment variable"

    class Scope(models.TextChoices):
        WORKSPACE = "workspace", "Workspace"
        PROJECT = "project", "Project"
        GLOBAL = "global", "Global"

    workspace = models.ForeignKey(
        Workspace, models.CASCADE, null=True, blank=True, related_name="variables"
    )
    project = models.ForeignKey(
        Project, models.CASCADE, null=True, blank=True, related_name="variables"
    )
    category = models.CharField(max_length=12, choices=Category, default=Category.TERRAFORM)
    key = models.CharField(max_length=128)
    hcl = models.BooleanField(default=False, help_text="The value is an HCL expression.")
    sensitive = models.BooleanField(
        default=False, help_text="Write-only: never shown again, redacted from logs."
    )
    description = models.CharField(max_length=250, blank=True)
    deleted_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["category", "key"]
        constraints = [
            models.CheckConstraint(
                condition=Q(workspace=None) | Q(project=None), name="variable_has_one_scope"
            ),
            models.UniqueConstraint(
                fields=["workspace", "project", "category", "key"],
                condition=Q(deleted_at=None),
                name="variable_unique_in_scope",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return self.key

    @property
    def scope(self) -> Scope:
        """Where the variable holds; workspace beats project beats global."""
        if self.workspace_id:
            return self.Scope.WORKSPACE
        return self.Scope.PROJECT if self.project_id else self.Scope.GLOBAL


class VariableVersion(EncryptedRow, Identified):
    """One value of a variable, encrypted, never changed."""

    ciphertext_field = "value_ciphertext"

    variable = models.ForeignKey(Variable, models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    value_ciphertext = models.BinaryField()
    key_id = models.CharField(max_length=32)
    hcl = models.BooleanField()
    sensitive = models.BooleanField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["variable", "number"], name="variable_version_number_unique"
            )
        ]

    @property
    def encryption_context(self) -> str:
        return f"variable/{self.variable_id}/{self.number}"
