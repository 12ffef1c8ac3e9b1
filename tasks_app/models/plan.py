from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from tasks_app.models.blob import Blob
from tasks_app.models.task import Task


class Plan(models.Model):
    """What a plan produced and what an apply of it must find unchanged."""

    task = models.OneToOneField(Task, models.CASCADE, primary_key=True, related_name="plan")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    plan_hash = models.CharField(max_length=64)
    manifest_digest = models.CharField(max_length=64)
    terraform_version = models.CharField(max_length=30)
    providers = models.JSONField(default=list, help_text="It needs; as agents name theirs")
    state_lineage = models.CharField(max_length=64, blank=True)
    state_serial = models.PositiveBigIntegerField(null=True)
    to_add = models.PositiveIntegerField(default=0)
    to_change = models.PositiveIntegerField(default=0)
    to_destroy = models.PositiveIntegerField(default=0)
    to_import = models.PositiveIntegerField(default=0)
    output_changes = models.PositiveIntegerField(default=0)
    has_changes = models.BooleanField(
        default=False, help_text="More than the counts say: a refresh changes the state alone."
    )
    bundle_bytes = models.PositiveBigIntegerField(default=0)
    # Empty: larger than the cap (or purged); applicable only from the kept directory.
    bundle = models.ForeignKey(Blob, models.SET_NULL, null=True, related_name="+")
    json = models.ForeignKey(Blob, models.SET_NULL, null=True, related_name="+")
    text = models.ForeignKey(Blob, models.SET_NULL, null=True, related_name="+")

    def __str__(self) -> str:
        return f"plan of {self.task}"


class Confirmation(models.Model):
    """A person's yes, bound to exactly what they saw. One per task, ever."""

    task = models.OneToOneField(Task, models.CASCADE, primary_key=True, related_name="confirmation")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    automatic = models.BooleanField(default=False, help_text="By auto_apply, on behalf of the user")
    plan_hash = models.CharField(max_length=64)
    manifest_digest = models.CharField(max_length=64)
    state_lineage = models.CharField(max_length=64, blank=True)
    state_serial = models.PositiveBigIntegerField(null=True)
    comment = models.TextField(blank=True)
