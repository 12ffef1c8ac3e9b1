"""States that agents saved of applies which could not upload them."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.models import LeaseArtifact
from agents_app.services import recovered_states as service
from tasks_app.api.base import UUID_PATTERN, ApiViewSet, Input, is_schema, of_visible
from tasks_app.api.downloads import download
from tasks_app.api.state_versions import StateVersionSerializer
from tasks_app.models import Task
from tasks_app.permissions import Action, require

PREFIX = f"tasks/(?P<task_id>{UUID_PATTERN})/recovered-states"


class RecoveredStateSerializer(serializers.ModelSerializer[LeaseArtifact]):
    task = serializers.UUIDField(source="lease.task_id", read_only=True)
    lease = serializers.UUIDField(source="lease_id", read_only=True)
    digest = serializers.CharField(source="blob.digest", read_only=True, help_text="SHA-256")
    size = serializers.IntegerField(source="blob.size", read_only=True)
    serial = serializers.IntegerField(
        read_only=True, allow_null=True, help_text="Of the version it became; null if of none"
    )

    class Meta:
        model = LeaseArtifact
        fields = ["id", "task", "lease", "digest", "size", "serial", "created_at"]
        read_only_fields = fields


class MakeCurrentInput(Input):
    comment = serializers.CharField(
        max_length=250, allow_blank=True, default="", help_text="Kept with the version"
    )


class RecoveredStateViewSet(ApiViewSet):
    """What agents saved of a task's state; needs the right to read states."""

    queryset = LeaseArtifact.objects.all()
    serializer_class = RecoveredStateSerializer

    def get_queryset(self) -> QuerySet[Any]:
        if is_schema(self):
            return LeaseArtifact.objects.none()
        rows = Task.objects.filter(pk=self.kwargs["task_id"]).select_related("workspace__project")
        task = of_visible(rows, self.request.user, "workspace__project").first()
        if task is None:
            raise NotFound("There is no such task, or you may not see it.")
        require(self.actor, Action.READ_STATE, task)
        return service.recovered_states(task)

    def list(self, request: Request, task_id: str) -> Response:
        """List the saved states, newest first; mostly there is none."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, task_id: str, pk: str) -> Response:
        """Show a saved state, without its contents."""
        return self.answer(self.get_object())

    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT})
    @action(detail=True, pagination_class=None)
    def download(self, request: Request, task_id: str, pk: str) -> HttpResponseBase:
        """Download the document as it was saved; it holds secrets in plain text."""
        row = self.get_object()
        parts = service.open_recovered_state(actor=self.actor, artifact=row)
        name = f"{row.lease.task.workspace_id}-{task_id}-recovered.tfstate"
        return download(request, parts, "application/json", name)

    @extend_schema(request=MakeCurrentInput, responses={201: StateVersionSerializer})
    @action(detail=True, methods=["post"], url_path="make-current", url_name="make-current")
    def make_current(self, request: Request, task_id: str, pk: str) -> Response:
        """Make a saved state the workspace's current version, with a higher serial if needed."""
        values = self.input(MakeCurrentInput)
        row = service.make_current(actor=self.actor, artifact=self.get_object(), **values)
        return Response(StateVersionSerializer(row).data, status=201)
