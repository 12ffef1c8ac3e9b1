"""State versions of a workspace: list, download, upload, roll back."""

from __future__ import annotations

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import WORKSPACE, ApiViewSet, NoInput, checked, is_schema, person
from tasks_app.api.configurations import MessageQuery
from tasks_app.api.downloads import download
from tasks_app.api.parsers import Upload, read_upload
from tasks_app.models import StateVersion
from tasks_app.permissions import Action, require
from tasks_app.services import state as service

PREFIX = f"{WORKSPACE}/state-versions"


class StateVersionSerializer(serializers.ModelSerializer[StateVersion]):
    workspace = serializers.UUIDField(source="workspace_id", read_only=True)
    task = serializers.UUIDField(source="task_id", read_only=True, allow_null=True)
    created_by = serializers.SerializerMethodField()
    available = serializers.SerializerMethodField(
        help_text="False once the retention rules purged its contents"
    )

    class Meta:
        model = StateVersion
        fields = [
            "id",
            "workspace",
            "serial",
            "lineage",
            "terraform_version",
            "resource_count",
            "digest",
            "size",
            "available",
            "task",
            "created_by",
            "cause",
            "created_at",
        ]
        read_only_fields = fields

    def get_created_by(self, row: StateVersion) -> str | None:
        return person(row.created_by)

    def get_available(self, row: StateVersion) -> bool:
        return row.blob_id is not None


class StateVersionViewSet(ApiViewSet):
    """Append-only versions of a workspace's state; the highest serial is the current one."""

    queryset = StateVersion.objects.all()
    serializer_class = StateVersionSerializer

    def get_queryset(self) -> QuerySet[StateVersion]:
        if is_schema(self):
            return StateVersion.objects.none()
        workspace = self.visible_workspace()
        require(self.actor, Action.READ_STATE, workspace)
        return StateVersion.objects.filter(workspace=workspace).select_related("created_by")

    def list(self, request: Request, workspace_id: str) -> Response:
        """List the versions, newest first; needs the right to read state."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, workspace_id: str, pk: str) -> Response:
        """Show a version, without its contents."""
        return self.answer(self.get_object())

    @extend_schema(
        parameters=[OpenApiParameter("message", str, description="Where it comes from")],
        request={"application/json": {"type": "object", "additionalProperties": True}},
        responses={201: StateVersionSerializer},
    )
    def create(self, request: Request, workspace_id: str) -> Response:
        """Bring in a raw state (version 4), its lineage kept.

        Its serial must be higher than the current one's; the same content again changes nothing.
        """
        workspace = self.visible_workspace()
        require(self.actor, Action.WRITE_STATE, workspace)
        message = checked(MessageQuery, request)["message"]
        row = service.upload_state(
            actor=self.actor,
            workspace=workspace,
            content=self._upload(request).file.read(),
            message=message,
        )
        return self.answer(row, 201, "state-version-detail", workspace_id=workspace.pk, pk=row.pk)

    @extend_schema(request=NoInput, responses={201: StateVersionSerializer})
    @action(detail=True, methods=["post"])
    def rollback(self, request: Request, workspace_id: str, pk: str) -> Response:
        """Make this version current again, as a new one with a higher serial."""
        self.input(NoInput)
        workspace = self.visible_workspace()
        version = StateVersion.objects.filter(workspace=workspace, pk=pk).first()
        require(self.actor, Action.WRITE_STATE, workspace)
        if version is None:
            raise NotFound("There is no such state version.")
        row = service.rollback_state(actor=self.actor, workspace=workspace, version=version)
        return self.answer(row, 201, "state-version-detail", workspace_id=workspace.pk, pk=row.pk)

    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT})
    @action(detail=True, pagination_class=None)
    def download(self, request: Request, workspace_id: str, pk: str) -> HttpResponseBase:
        """Download the state document; it holds secrets in plain text."""
        row = self.get_object()
        parts = service.open_state(actor=self.actor, version=row)
        name = f"{row.workspace_id}-{row.serial}.tfstate"
        return download(request, parts, "application/json", name)

    def reads_uploads(self, request: object) -> bool:
        """States are read as a stream."""
        return self.action_map.get("post") == "create"

    def body_digest(self, request: Request) -> str:
        """Return the SHA-256 of a state, or of the body of another action."""
        if self.action == "create":
            return self._upload(request).digest
        return super().body_digest(request)

    def _upload(self, request: Request) -> Upload:
        """Read the body once."""
        if self.uploaded is None:
            self.uploaded = read_upload(
                request,
                ("application/json", "application/octet-stream"),
                settings.SLIPWAY.state_bytes_max,
            )
        return self.uploaded
