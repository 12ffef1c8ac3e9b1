from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import Q

from tasks_app.models.base import Identified, LongNameIndex
from tasks_app.models.configuration import ConfigurationVersion
from tasks_app.models.variable import VariableVersion
from tasks_app.models.workspace import Workspace
from tasks_app.states import FINAL, OCCUPYING, Status, TaskType, WarmupStatus


class Task(Identified):
    """One run of a workspace: a plan, and for plan_and_apply also its apply.

    ``status`` is written by `tasks_app/transitions.py` alone, what begins with ``warmup_`` by
    `tasks_app/services/warmups.py`.
    """

    workspace = models.ForeignKey(Workspace, models.PROTECT, related_name="tasks")
    number = models.PositiveIntegerField(help_text="Per workspace, as people see it")
    type = models.CharField(max_length=15, choices=TaskType)
    status = models.CharField(max_length=25, choices=Status, default=Status.PENDING)
    message = models.CharField(max_length=250, blank=True)
    destroy = models.BooleanField(default=False)
    refresh_only = models.BooleanField(default=False)
    targets = models.JSONField(default=list, blank=True)
    replace = models.JSONField(default=list, blank=True)
    auto_apply = models.BooleanField(default=False)

    configuration = models.ForeignKey(ConfigurationVersion, models.PROTECT, related_name="tasks")
    engine = models.CharField(max_length=10, choices=Workspace.Engine)
    engine_version = models.CharField(
        max_length=30, blank=True, help_text="Pinned at the latest when the plan starts"
    )
    # As the workspace had them when the task was created: a later edit changes no task.
    working_directory = models.CharField(max_length=250, blank=True)
    state_backend = models.CharField(
        max_length=15,
        choices=Workspace.StateBackend,
        default=Workspace.StateBackend.SLIPWAY,
    )
    plan_hash = models.CharField(max_length=64, null=True, help_text="SHA-256 of plan.out")
    plan_attempts = models.PositiveSmallIntegerField(default=0)

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )
    started_at = models.DateTimeField(null=True)
    planned_at = models.DateTimeField(null=True)
    confirmed_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    keep_warm_until = models.DateTimeField(null=True)

    waiting_reason = models.CharField(max_length=500, blank=True)
    error = models.TextField(blank=True, help_text="Why it failed, as one sentence")
    diagnostics = models.JSONField(default=list, encoder=DjangoJSONEncoder)
    apply_path = models.CharField(max_length=10, blank=True)
    apply_path_reason = models.CharField(max_length=500, blank=True)
    cancel_requested_at = models.DateTimeField(null=True)
    kill_requested_at = models.DateTimeField(null=True)
    acknowledged_at = models.DateTimeField(null=True, help_text="Of an interrupted apply")
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+"
    )

    # What lies ready for the apply of a plan that waits for a person.
    warmup_agent_id = models.CharField(max_length=50, null=True)
    warmup_status = models.CharField(
        max_length=20,
        choices=WarmupStatus,
        default=WarmupStatus.NONE,
        db_default=WarmupStatus.NONE.value,
    )
    warmup_at = models.DateTimeField(null=True, help_text="Since when it is so")
    warmup_expires_at = models.DateTimeField(null=True, help_text="Ready until then")
    warmup_retry_count = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="Failures since it was ready"
    )
    warmup_retry_at = models.DateTimeField(null=True, help_text="Not tried again before")
    warmup_error = models.CharField(
        max_length=500, blank=True, db_default="", help_text="Why the last attempt failed"
    )

    class Meta:
        db_table = "workspace_tasks"
        ordering = ["-id"]
        indexes = [
            LongNameIndex(fields=["plan_hash"], name="idx_workspace_tasks_plan_hash"),
            LongNameIndex(
                fields=["warmup_agent_id", "warmup_status"],
                name="idx_workspace_tasks_warmup_agent",
            ),
            LongNameIndex(
                fields=["status", "warmup_status", "warmup_expires_at"],
                name="idx_workspace_tasks_apply_pending_warmup",
                condition=Q(status=Status.APPLY_PENDING),
            ),
            models.Index(fields=["workspace", "-id"], name="task_workspace_newest"),
            models.Index(fields=["status", "-id"], name="task_status_newest"),
            models.Index(fields=["id"], name="task_live", condition=~Q(status__in=sorted(FINAL))),
        ]
        constraints = [
            models.UniqueConstraint(fields=["workspace", "number"], name="task_number_unique"),
            models.UniqueConstraint(
                fields=["workspace"],
                condition=Q(type=TaskType.PLAN_AND_APPLY, status__in=OCCUPYING),
                name="one_plan_and_apply_per_workspace",
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="task_status_known"),
            models.CheckConstraint(
                condition=Q(warmup_status__in=WarmupStatus.values), name="task_warmup_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.workspace} #{self.number}"

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def has_own_state(self) -> bool:
        """Whether its state lies in Slipway, which locks it, versions it and knows its serial."""
        return self.state_backend == Workspace.StateBackend.SLIPWAY


class TaskVariable(models.Model):
    """The version of a variable a task was created with."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="variables")
    version = models.ForeignKey(VariableVersion, models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["task", "version"], name="task_variable_unique")
        ]


class TaskStep(models.Model):
    """A named step of a task with its duration, as the task page shows it."""

    task = models.ForeignKey(Task, models.CASCADE, related_name="steps")
    phase = models.CharField(max_length=10)
    lease_id = models.UUIDField(null=True)
    name = models.CharField(max_length=40)
    started_ms = models.FloatField(help_text="Since the phase was asked for")
    duration_ms = models.FloatField()
    detail = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["task", "phase", "lease_id", "name"],
                name="task_step_unique",
                nulls_distinct=False,
            )
        ]
