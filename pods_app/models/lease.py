"""Leases and the one permit of each apply."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from pods_app.models.pod import PodSlot
from pods_app.states import LeasePhase, LeaseState
from tasks_app.models import Task
from tasks_app.models.base import Identified


class Lease(Identified):
    """One stay of a task in a slot: plan -> hold -> apply, warmup -> hold -> apply, or apply alone.

    A new epoch arises only with a new slot. Every write of the agent carries both.
    """

    task = models.ForeignKey(Task, models.PROTECT, related_name="leases")
    slot = models.ForeignKey(PodSlot, models.PROTECT, related_name="leases")
    epoch = models.PositiveIntegerField()
    phase = models.CharField(max_length=10, choices=LeasePhase)
    state = models.CharField(max_length=10, choices=LeaseState, default=LeaseState.LIVE)
    keep_directory = models.BooleanField(default=True)
    phase_at = models.DateTimeField(db_default=Now(), help_text="Since when in this phase")
    delivered_at = models.DateTimeField(null=True, help_text="The agent has this phase's work")
    reported_at = models.DateTimeField(null=True, help_text="The agent last named it")
    environment_digest = models.CharField(
        max_length=64, blank=True, help_text="Of the job its agent was given in this phase"
    )
    held = models.BooleanField(
        default=False, db_default=False, help_text="Terraform waits there at its gate"
    )
    hold_reason = models.CharField(
        max_length=500, blank=True, help_text="Why it is not ready or not held"
    )
    restored = models.BooleanField(
        default=False, db_default=False, help_text="Not the plan's own directory"
    )
    frozen_at = models.DateTimeField(null=True, help_text="Since when a freeze stops its work")
    ended_at = models.DateTimeField(null=True)
    end_reason = models.CharField(max_length=250, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["task"], condition=~Q(state=LeaseState.ENDED), name="one_lease_per_task"
            ),
            models.UniqueConstraint(
                fields=["slot"], condition=~Q(state=LeaseState.ENDED), name="one_lease_per_slot"
            ),
            models.UniqueConstraint(fields=["task", "epoch"], name="lease_epoch_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.task} in {self.slot}, epoch {self.epoch}"


class ApplyPermit(models.Model):
    """The one permission to apply a task's plan. Granted once, ever."""

    task = models.OneToOneField(Task, models.PROTECT, primary_key=True, related_name="permit")
    lease = models.OneToOneField(Lease, models.PROTECT, related_name="permit")
    key = models.UUIDField(help_text="The agent's; the same key gets the same answer")
    plan_hash = models.CharField(max_length=64)
    manifest_digest = models.CharField(max_length=64)
    path = models.CharField(max_length=10)
    environment_digest = models.CharField(
        max_length=64, help_text="Of the job whose state password may take the lock"
    )
    state_lineage = models.CharField(max_length=64, blank=True)
    state_serial = models.PositiveBigIntegerField(null=True)
    state_verified = models.BooleanField(help_text="False: a foreign backend")
    granted_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()
