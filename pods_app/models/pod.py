"""Pods and their slots."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from pods_app.models.pool import Pool
from pods_app.states import PodPhase, PoolKind, SlotStatus
from tasks_app.models import Task
from tasks_app.models.base import Identified


class ManagedPod(Identified):
    """A pod and the agent in it: a process on this machine, or one started by hand."""

    pool = models.ForeignKey(Pool, models.PROTECT, related_name="pods")
    pod_name = models.CharField(max_length=253)
    pod_uid = models.CharField(
        max_length=64, blank=True, help_text="Empty until the cluster has made the pod"
    )
    kind = models.CharField(max_length=10, choices=PoolKind)
    phase = models.CharField(max_length=10, choices=PodPhase, default=PodPhase.STARTING)
    phase_reason = models.CharField(max_length=500, blank=True)
    agent_id = models.CharField(max_length=50, blank=True, db_index=True)
    draining = models.BooleanField(default=False, help_text="An operator or the scaler said so")
    deletion_reason = models.CharField(
        max_length=250,
        blank=True,
        help_text="Who deletes it and why: it is ended with all that runs in it; empty if nobody",
    )
    ending = models.BooleanField(
        default=False, help_text="Its agent was asked to end; over when it registers again"
    )
    slot_limit = models.PositiveSmallIntegerField(
        default=3, help_text="Slots its agent offers; slots beyond take no new work"
    )
    last_heartbeat = models.DateTimeField(null=True)
    engines = models.JSONField(default=list, help_text="[{engine, version}] the agent has")
    providers = models.JSONField(default=list, help_text="In the agent's mirror")
    disk_total_bytes = models.PositiveBigIntegerField(null=True)
    disk_free_bytes = models.PositiveBigIntegerField(null=True)
    host = models.CharField(max_length=253, blank=True, help_text="Machine, or node of a cluster")
    process_id = models.PositiveIntegerField(null=True, help_text="Of a local process")
    last_launch_at = models.DateTimeField(null=True)
    failed_launches = models.PositiveSmallIntegerField(
        default=0, help_text="How often in a row the process ended soon after its start"
    )
    process_started = models.CharField(max_length=40, blank=True, help_text="Against pid reuse")
    template_digest = models.CharField(
        max_length=64, blank=True, help_text="Of what a pod in a cluster was made from"
    )

    class Meta:
        ordering = ["pod_name"]
        verbose_name = "pod"
        constraints = [
            models.UniqueConstraint(
                fields=["pool", "pod_uid"],
                condition=~Q(pod_uid=""),
                name="pod_uid_unique_in_pool",
            ),
            models.UniqueConstraint(
                fields=["pool", "pod_name"],
                condition=~Q(phase=PodPhase.GONE),
                name="pod_name_unique_in_pool",
            ),
            models.CheckConstraint(
                condition=Q(deletion_reason="") | Q(draining=True), name="pod_deleted_drains"
            ),
            models.CheckConstraint(condition=Q(kind__in=PoolKind.values), name="pod_kind_known"),
            models.CheckConstraint(condition=Q(phase__in=PodPhase.values), name="pod_phase_known"),
            models.CheckConstraint(condition=Q(slot_limit__gte=1), name="pod_has_slots"),
        ]

    def __str__(self) -> str:
        return self.pod_name


class PodSlot(models.Model):
    """One place for work in a pod: the one source of truth for occupancy."""

    pod = models.ForeignKey(ManagedPod, models.CASCADE, related_name="slots")
    slot_id = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=10, choices=SlotStatus, default=SlotStatus.IDLE)
    task = models.ForeignKey(Task, models.PROTECT, null=True, related_name="slots")
    task_type = models.CharField(max_length=15, blank=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["pod", "slot_id"]
        verbose_name = "slot"
        constraints = [
            models.UniqueConstraint(fields=["pod", "slot_id"], name="slot_unique_in_pod"),
            models.UniqueConstraint(
                fields=["task"], condition=Q(task__isnull=False), name="one_slot_per_task"
            ),
            models.CheckConstraint(
                condition=Q(status=SlotStatus.IDLE, task=None, task_type="")
                | (
                    Q(status__in=[SlotStatus.RUNNING, SlotStatus.RESERVED], task__isnull=False)
                    & ~Q(task_type="")
                ),
                name="slot_occupied_by_a_task_or_idle",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pod}/{self.slot_id}"
