"""A task as the API shows it: short in lists, whole on its own address."""

from __future__ import annotations

from typing import Any

from django.urls import reverse
from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from tasks_app.api.base import person
from tasks_app.api.fields import ExtendedSerializer
from tasks_app.models import Plan, Task, TaskStep
from tasks_app.services.tasks import allowed_actions
from tasks_app.states import FINAL, Status, TaskType

#: The step whose end is Terraform's first action on a resource.
FIRST_ACTION = "first_action"
_PHASES = ("plan", "warmup", "apply")


class PlanSummarySerializer(serializers.ModelSerializer[Plan]):
    class Meta:
        model = Plan
        fields = [
            "to_add",
            "to_change",
            "to_destroy",
            "to_import",
            "output_changes",
            "has_changes",
            "terraform_version",
            "created_at",
        ]
        read_only_fields = fields


class StepSerializer(serializers.ModelSerializer[TaskStep]):
    class Meta:
        model = TaskStep
        fields = ["name", "started_ms", "duration_ms", "detail"]
        read_only_fields = fields


class TaskSerializer(ExtendedSerializer):
    extended_model = "task"
    workspace = serializers.UUIDField(source="workspace_id", read_only=True)
    workspace_name = serializers.CharField(source="workspace.name", read_only=True)
    project = serializers.CharField(source="workspace.project.name", read_only=True)
    configuration = serializers.UUIDField(source="configuration_id", read_only=True)
    created_by = serializers.SerializerMethodField()
    summary = serializers.SerializerMethodField(help_text="Of the plan; null before there is one")

    class Meta:
        model = Task
        fields = [
            "id",
            "number",
            "workspace",
            "workspace_name",
            "project",
            "type",
            "status",
            "message",
            "destroy",
            "refresh_only",
            "auto_apply",
            "configuration",
            "engine",
            "engine_version",
            "waiting_reason",
            "error",
            "summary",
            "plan_hash",
            "apply_path",
            "apply_path_reason",
            "created_by",
            "created_at",
            "started_at",
            "planned_at",
            "confirmed_at",
            "finished_at",
            "keep_warm_until",
            "warmup_status",
            "warmup_agent_id",
            "warmup_at",
            "warmup_expires_at",
        ]
        read_only_fields = fields

    def get_created_by(self, row: Task) -> str | None:
        return person(row.created_by)

    @extend_schema_field(PlanSummarySerializer(allow_null=True))
    def get_summary(self, row: Task) -> dict[str, Any] | None:
        plan = getattr(row, "plan", None)
        return PlanSummarySerializer(plan).data if plan is not None else None


_Phase = inline_serializer(
    "Phase", {"phase": serializers.ChoiceField(_PHASES), "steps": StepSerializer(many=True)}
)
_Action = inline_serializer(
    "AllowedAction",
    {
        "name": serializers.CharField(),
        "allowed": serializers.BooleanField(),
        "reason": serializers.CharField(help_text="Why not, if it is not allowed now"),
    },
)
_Confirmation = inline_serializer(
    "Confirmation",
    {
        "user": serializers.CharField(allow_null=True),
        "automatic": serializers.BooleanField(),
        "comment": serializers.CharField(),
        "created_at": serializers.DateTimeField(),
    },
    allow_null=True,
)
_Links = inline_serializer(
    "TaskLinks",
    {
        name: serializers.CharField()
        for name in ("self", "workspace", "configuration", "plan", "log", "events")
    },
)


class TaskDetailSerializer(TaskSerializer):
    whole = True
    position = serializers.SerializerMethodField(
        help_text="In its workspace's queue; null if it does not wait in it"
    )
    confirmation = serializers.SerializerMethodField()
    phases = serializers.SerializerMethodField()
    confirm_to_first_action_ms = serializers.SerializerMethodField(
        help_text="From the confirmation to Terraform's first action on a resource"
    )
    actions = serializers.SerializerMethodField(help_text="What your role allows")
    acknowledged_by = serializers.SerializerMethodField()
    diagnostics = serializers.ListField(
        child=serializers.DictField(), read_only=True, help_text="Terraform's, with file and line"
    )
    targets = serializers.ListField(child=serializers.CharField(), read_only=True)
    replace = serializers.ListField(child=serializers.CharField(), read_only=True)
    links = serializers.SerializerMethodField()

    class Meta(TaskSerializer.Meta):
        fields = [
            *TaskSerializer.Meta.fields,
            "position",
            "targets",
            "replace",
            "confirmation",
            "phases",
            "confirm_to_first_action_ms",
            "warmup_retry_count",
            "warmup_retry_at",
            "warmup_error",
            "diagnostics",
            "plan_attempts",
            "cancel_requested_at",
            "kill_requested_at",
            "acknowledged_at",
            "acknowledged_by",
            "actions",
            "links",
        ]
        read_only_fields = fields

    def get_position(self, row: Task) -> int | None:
        return queue_position(row)

    @extend_schema_field(_Confirmation)
    def get_confirmation(self, row: Task) -> dict[str, Any] | None:
        found = getattr(row, "confirmation", None)
        if found is None:
            return None
        return {
            "user": person(found.user),
            "automatic": found.automatic,
            "comment": found.comment,
            "created_at": found.created_at,
        }

    def get_acknowledged_by(self, row: Task) -> str | None:
        return person(row.acknowledged_by)

    @extend_schema_field(serializers.ListSerializer(child=_Phase))
    def get_phases(self, row: Task) -> list[dict[str, Any]]:
        return [
            {"phase": phase, "steps": StepSerializer(steps, many=True).data}
            for phase in _PHASES
            if (steps := latest_steps(row, phase))
        ]

    def get_confirm_to_first_action_ms(self, row: Task) -> float | None:
        for step in latest_steps(row, "apply"):
            if step.name == FIRST_ACTION:
                return step.started_ms + step.duration_ms
        return None

    @extend_schema_field(serializers.ListSerializer(child=_Action))
    def get_actions(self, row: Task) -> list[dict[str, Any]]:
        actor = self.context["view"].actor
        return [vars(allowed) for allowed in allowed_actions(actor, row)]

    @extend_schema_field(_Links)
    def get_links(self, row: Task) -> dict[str, str]:
        task = {"pk": row.pk}
        return {
            "self": reverse("task-detail", kwargs=task),
            "workspace": reverse("workspace-detail", kwargs={"pk": row.workspace_id}),
            "configuration": reverse(
                "configuration-detail",
                kwargs={"workspace_id": row.workspace_id, "pk": row.configuration_id},
            ),
            "plan": reverse("task-content-plan", kwargs=task),
            "log": reverse("task-content-log", kwargs=task),
            "events": reverse("task-content-events", kwargs=task),
        }


def latest_steps(task: Task, phase: str) -> list[TaskStep]:
    """Return the steps of a phase's last attempt, in the order of time."""
    steps = [step for step in task.steps.all() if step.phase == phase]
    last = [step for step in steps if step.lease_id == steps[-1].lease_id]
    return sorted(last, key=lambda step: (step.started_ms, step.pk))


def queue_position(task: Task) -> int | None:
    """Return a waiting plan_and_apply's place in its workspace, 1 being next.

    None for tasks that wait for nobody: they started, or run beside everything.
    """
    if task.type != TaskType.PLAN_AND_APPLY or task.status != Status.PENDING:
        return None
    ahead = Task.objects.filter(
        workspace=task.workspace_id, type=TaskType.PLAN_AND_APPLY, pk__lt=task.pk
    ).exclude(status__in=FINAL)
    return ahead.count() + 1
