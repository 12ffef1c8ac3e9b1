from django.conf import settings
from django.db import models

from tasks_app.models.base import Identified
from tasks_app.models.blob import Blob
from tasks_app.models.workspace import Workspace


class ConfigurationVersion(Identified):
    """An immutable configuration, as a tar.gz."""

    class Source(models.TextChoices):
        UPLOAD = "upload", "Upload"
        COMMAND = "command", "push_configuration"

    workspace = models.ForeignKey(Workspace, models.CASCADE, related_name="configurations")
    number = models.PositiveIntegerField()
    source = models.CharField(max_length=10, choices=Source)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the tar.gz")
    size = models.PositiveBigIntegerField(help_text="Bytes of the tar.gz")
    blob = models.ForeignKey(Blob, models.PROTECT, related_name="+")
    message = models.CharField(max_length=250, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "number"], name="configuration_number_unique"
            )
        ]

    def __str__(self) -> str:
        return f"configuration {self.number} of {self.workspace}"
