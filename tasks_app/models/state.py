from django.conf import settings
from django.db import models
from django.db.models import Q

from tasks_app.models.base import Identified
from tasks_app.models.blob import Blob
from tasks_app.models.task import Task
from tasks_app.models.workspace import Workspace


class StateVersion(Identified):
    """One state of a workspace. Append-only; the newest serial is the current one."""

    workspace = models.ForeignKey(Workspace, models.PROTECT, related_name="state_versions")
    serial = models.PositiveBigIntegerField()
    lineage = models.CharField(max_length=64)
    terraform_version = models.CharField(max_length=30, blank=True)
    digest = models.CharField(max_length=64, help_text="SHA-256")
    size = models.PositiveBigIntegerField()
    resource_count = models.PositiveIntegerField(
        default=0, help_text="Managed resource instances in it"
    )
    blob = models.ForeignKey(Blob, models.SET_NULL, null=True, related_name="+")
    task = models.ForeignKey(Task, models.SET_NULL, null=True, related_name="state_versions")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    cause = models.CharField(max_length=250)

    class Meta:
        ordering = ["-serial"]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "serial"], name="state_serial_unique")
        ]

    def __str__(self) -> str:
        return f"state {self.serial} of {self.workspace}"


class StateLock(Identified):
    """Terraform's lock on a state. The row stays after its release, as evidence."""

    workspace = models.ForeignKey(Workspace, models.PROTECT, related_name="state_locks")
    lock_id = models.CharField(max_length=128)
    info = models.JSONField(default=dict, help_text="Terraform's LockInfo")
    task = models.ForeignKey(Task, models.PROTECT, null=True, related_name="state_locks")
    lease_id = models.UUIDField(null=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    released_at = models.DateTimeField(null=True)
    forced_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace"], condition=Q(released_at=None), name="one_state_lock"
            ),
            models.UniqueConstraint(fields=["workspace", "lock_id"], name="state_lock_id_once"),
        ]
