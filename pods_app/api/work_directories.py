"""Work directories on agents' disks, as the agents reported them."""

from __future__ import annotations

import django_filters
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from pods_app.models import WorkDirectory
from pods_app.states import DirectoryState
from tasks_app.api.base import ApiViewSet, is_schema, of_visible
from tasks_app.api.fields import ExtendedFilterSet


class WorkDirectorySerializer(serializers.ModelSerializer[WorkDirectory]):
    task = serializers.UUIDField(source="task_id", read_only=True)
    workspace = serializers.UUIDField(source="task.workspace_id", read_only=True)
    pod = serializers.UUIDField(source="pod_id", read_only=True)
    pod_name = serializers.CharField(source="pod.pod_name", read_only=True)

    class Meta:
        model = WorkDirectory
        fields = [
            "id",
            "task",
            "workspace",
            "pod",
            "pod_name",
            "path",
            "bytes",
            "state",
            "reason",
            "last_used_at",
            "reported_at",
            "created_at",
        ]
        read_only_fields = fields


class WorkDirectoryFilter(ExtendedFilterSet):
    state = django_filters.MultipleChoiceFilter(
        choices=DirectoryState.choices, help_text="Left out: all that are not deleted."
    )
    pod = django_filters.UUIDFilter("pod_id", help_text="Id of its pod")
    task = django_filters.UUIDFilter("task_id", help_text="Id of its task")
    workspace = django_filters.UUIDFilter("task__workspace_id", help_text="Id of its workspace")

    class Meta:
        model = WorkDirectory
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[WorkDirectory]) -> QuerySet[WorkDirectory]:
        """Leave deleted directories out unless they are asked for."""
        found: QuerySet[WorkDirectory] = super().filter_queryset(queryset)
        if self.form.cleaned_data.get("state"):
            return found
        return found.exclude(state=DirectoryState.DELETED)


class WorkDirectoryViewSet(ApiViewSet):
    """Directories in which plans were made, with who keeps them and why."""

    queryset = WorkDirectory.objects.all()
    serializer_class = WorkDirectorySerializer
    filterset_class = WorkDirectoryFilter

    def get_queryset(self) -> QuerySet[WorkDirectory]:
        if is_schema(self):
            return WorkDirectory.objects.none()
        rows = WorkDirectory.objects.select_related("task", "pod").only(
            *(field.name for field in WorkDirectory._meta.concrete_fields),
            "task__workspace_id",
            "pod__pod_name",
        )
        return of_visible(rows, self.request.user, "task__workspace__project")

    def list(self, request: Request) -> Response:
        """List the directories of tasks you may see, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a directory."""
        return self.answer(self.get_object())
