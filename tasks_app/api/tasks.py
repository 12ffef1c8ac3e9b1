"""Tasks: list, show, and what a person decides about them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django_filters
from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app import registry
from tasks_app.api.base import ApiViewSet, Input, NoInput, is_schema, of_visible
from tasks_app.api.fields import ExtendedFilterSet
from tasks_app.api.task_documents import TaskDetailSerializer, TaskSerializer
from tasks_app.models import ConfigurationVersion, Task, TaskStep
from tasks_app.services import tasks as service
from tasks_app.services import verdicts, warmups
from tasks_app.states import RUNNING, Status, TaskType, WarmupStatus

#: Large or only on the task's own page.
_NOT_IN_LISTS = ("diagnostics", "targets", "replace")
#: Filters by status also know this group.
RUNNING_GROUP = "running"


class PlanInput(Input):
    """What to plan; an empty object plans and then waits for a person."""

    type = serializers.ChoiceField(TaskType.choices, default=TaskType.PLAN_AND_APPLY)
    configuration = serializers.UUIDField(
        required=False, help_text="Id of a configuration version; left out: the newest."
    )
    destroy = serializers.BooleanField(default=False)
    refresh_only = serializers.BooleanField(default=False)
    targets = serializers.ListField(
        child=serializers.CharField(max_length=500), max_length=200, default=list
    )
    replace = serializers.ListField(
        child=serializers.CharField(max_length=500), max_length=200, default=list
    )
    auto_apply = serializers.BooleanField(
        required=False, help_text="Left out: the workspace's setting."
    )
    message = serializers.CharField(max_length=250, allow_blank=True, default="")


class Confirm(Input):
    plan_hash = serializers.RegexField(
        "^[0-9a-f]{64}$", help_text="`plan_hash` of the plan you read"
    )
    comment = serializers.CharField(max_length=4000, allow_blank=True, default="")


class Comment(Input):
    comment = serializers.CharField(max_length=4000, allow_blank=True, default="")


class Cancel(Comment):
    force = serializers.BooleanField(
        default=False, help_text="Kill Terraform, after a normal cancel; can lose state."
    )


class Verdict(Input):
    verdict = serializers.ChoiceField(
        [str(name) for name in verdicts.ANSWERS],
        help_text="`still_running` is a note for the others: the task goes on waiting.",
    )
    comment = serializers.CharField(max_length=4000, help_text="What you found out and how.")


class KeepWarm(Input):
    hours = serializers.IntegerField(min_value=1, max_value=service.KEEP_WARM_HOURS_MAX)


class TaskFilter(ExtendedFilterSet):
    extended_model = "task"
    status = django_filters.MultipleChoiceFilter(
        choices=[*Status.choices, (RUNNING_GROUP, "Planning or applying")],
        method="by_status",
        help_text="May be repeated; `running` is planning and applying.",
    )
    type = django_filters.MultipleChoiceFilter(choices=TaskType.choices)
    warmup_status = django_filters.MultipleChoiceFilter(
        choices=WarmupStatus.choices, help_text="What lies ready for its apply; may be repeated."
    )
    workspace = django_filters.UUIDFilter("workspace_id", help_text="Id of its workspace")
    project = django_filters.CharFilter("workspace__project__name", help_text="Name of its project")
    created_after = django_filters.IsoDateTimeFilter("created_at", "gte")
    created_before = django_filters.IsoDateTimeFilter("created_at", "lt")

    class Meta:
        model = Task
        fields: list[str] = []

    def by_status(self, rows: QuerySet[Task], name: str, value: list[str]) -> QuerySet[Task]:
        """Narrow to any of the statuses."""
        wanted = set(value)
        if RUNNING_GROUP in wanted:
            wanted = wanted - {RUNNING_GROUP} | set(RUNNING)
        return rows.filter(status__in=sorted(wanted)) if wanted else rows


class TaskViewSet(ApiViewSet):
    """Runs of workspaces: a plan, and for plan_and_apply also its apply."""

    queryset = Task.objects.all()
    serializer_class = TaskSerializer
    filterset_class = TaskFilter

    def get_queryset(self) -> QuerySet[Task]:
        if is_schema(self):
            return Task.objects.none()
        rows = of_visible(task_rows(), self.request.user, "workspace__project")
        if self.action == "list":
            return rows.defer(*_NOT_IN_LISTS)
        return rows.prefetch_related(Prefetch("steps", TaskStep.objects.order_by("id")))

    def list(self, request: Request) -> Response:
        """List the tasks you may see, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(responses=TaskDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a task: why it waits, its plan, its phases, and what you may do now."""
        return self._document(self.get_object())

    @extend_schema(request=Confirm, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: str) -> Response:
        """Confirm exactly the plan with `plan_hash`; its apply starts at once.

        409 `plan-mismatch` if the task has another plan, `illegal-transition` (with `current`
        and `allowed`) if it does not wait, `plan-void` if the state moved since the plan.
        """
        return self._decided(service.confirm_task, self.input(Confirm))

    @extend_schema(request=Comment, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"])
    def discard(self, request: Request, pk: str) -> Response:
        """Say no to a waiting plan."""
        return self._decided(service.discard_task, self.input(Comment))

    @extend_schema(request=Cancel, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel: at once what does not run, by one interrupt what does."""
        return self._decided(service.cancel_task, self.input(Cancel))

    @extend_schema(request=Comment, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Take note of an interrupted apply, which frees its workspace."""
        return self._decided(service.acknowledge_task, self.input(Comment))

    @extend_schema(request=Verdict, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Give your verdict on an apply whose agent vanished; its `evidence` is in the task."""
        return self._decided(verdicts.answer, self.input(Verdict))

    @extend_schema(request=KeepWarm, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"], url_path="keep-warm")
    def keep_warm(self, request: Request, pk: str) -> Response:
        """Keep a waiting plan's directory and slot for some hours more."""
        return self._decided(service.extend_keep_warm, self.input(KeepWarm))

    @extend_schema(request=NoInput, responses={202: TaskDetailSerializer})
    @action(detail=True, methods=["post"], url_path="warm-again")
    def warm_again(self, request: Request, pk: str) -> Response:
        """Have a failed warm-up of a waiting plan tried again, as often as at first."""
        self.input(NoInput)
        return self._decided(warmups.warm_again, {})

    def _decided(self, decide: Any, values: dict[str, Any]) -> Response:
        visible = of_visible(Task.objects.only("pk"), self.request.user, "workspace__project")
        task_id: UUID = get_object_or_404(visible, pk=self.kwargs["pk"]).pk
        decide(actor=self.actor, task_id=task_id, **values)
        return self._document(self.get_object(), 202)

    def _document(self, task: Task, status: int = 200) -> Response:
        serializer = TaskDetailSerializer(task, context=self.get_serializer_context())
        return Response(serializer.data, status=status)


class PlanNowViewSet(ApiViewSet):
    """Planning a workspace."""

    queryset = Task.objects.all()
    serializer_class = TaskDetailSerializer

    @extend_schema(request=PlanInput, responses={201: TaskDetailSerializer})
    def create(self, request: Request, workspace_id: str) -> Response:
        """Plan now, with a snapshot of configuration and variables."""
        workspace = self.visible_workspace()
        values = self.input(PlanInput)
        if "configuration" in values:
            values["configuration"] = self._configuration(values["configuration"])
        task = service.create_task(actor=self.actor, workspace=workspace, **values)
        return self.answer(task_rows().get(pk=task.pk), 201, "task-detail", pk=task.pk)

    def _configuration(self, pk: UUID) -> ConfigurationVersion:
        found = ConfigurationVersion.objects.filter(
            pk=pk, workspace=self.kwargs["workspace_id"]
        ).first()
        if found is None:
            raise serializers.ValidationError(
                {"configuration": ["The workspace has no such configuration version."]}
            )
        return found


def task_rows() -> QuerySet[Task]:
    """Return tasks with all that their documents show, in a constant number of queries."""
    rows = Task.objects.select_related(
        "workspace__project",
        "workspace__locked_by",
        "configuration",
        "created_by",
        "plan",
        "confirmation__user",
        "acknowledged_by",
    )
    return registry.with_fields("task", rows)
