"""Configuration versions of a workspace: uploaded as tar.gz, immutable afterwards."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import WORKSPACE, ApiViewSet, Input, checked, is_schema, person
from tasks_app.api.parsers import Upload, read_upload, refuse_announced, spool
from tasks_app.models import ConfigurationVersion
from tasks_app.services import configurations as service

#: What a tar.gz is announced as.
GZIP = ("application/gzip", "application/x-gzip", "application/octet-stream")
#: Boundaries and headers around a file in a form, in bytes.
_FORM_BYTES = 16 * 1024
PREFIX = f"{WORKSPACE}/configurations"


class ConfigurationSerializer(serializers.ModelSerializer[ConfigurationVersion]):
    workspace = serializers.UUIDField(source="workspace_id", read_only=True)
    created_by = serializers.SerializerMethodField()

    class Meta:
        model = ConfigurationVersion
        fields = [
            "id",
            "workspace",
            "number",
            "source",
            "digest",
            "size",
            "message",
            "created_by",
            "created_at",
        ]
        read_only_fields = fields

    def get_created_by(self, row: ConfigurationVersion) -> str | None:
        return person(row.created_by)


class ConfigurationForm(Input):
    archive = serializers.FileField(help_text="The tar.gz")
    message = serializers.CharField(max_length=250, allow_blank=True, default="")


class MessageQuery(Input):
    message = serializers.CharField(max_length=250, allow_blank=True, default="")


class ConfigurationViewSet(ApiViewSet):
    """Configurations of a workspace."""

    queryset = ConfigurationVersion.objects.all()
    serializer_class = ConfigurationSerializer
    parser_classes = [MultiPartParser]

    def get_queryset(self) -> QuerySet[ConfigurationVersion]:
        if is_schema(self):
            return ConfigurationVersion.objects.none()
        return ConfigurationVersion.objects.filter(
            workspace=self.visible_workspace()
        ).select_related("created_by")

    def list(self, request: Request, workspace_id: str) -> Response:
        """List the configuration versions, newest first."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, workspace_id: str, pk: str) -> Response:
        """Show a configuration version."""
        return self.answer(self.get_object())

    @extend_schema(
        parameters=[OpenApiParameter("message", str, description="What changed; raw body only")],
        request={
            "application/gzip": {"type": "string", "format": "binary"},
            "multipart/form-data": ConfigurationForm,
        },
        responses={201: ConfigurationSerializer},
    )
    def create(self, request: Request, workspace_id: str) -> Response:
        """Upload a configuration as a tar.gz, in the body or as `archive` of a form.

        Refused with 400 and the offending name: paths that leave the archive, links, devices,
        `.terraform/`, and archives that are too large, too many or too dense.
        """
        workspace = self.visible_workspace()
        upload, message = self._upload(request)
        row = service.store_configuration(
            actor=self.actor,
            workspace=workspace,
            archive=upload.file,
            source=ConfigurationVersion.Source.UPLOAD,
            message=message,
        )
        return self.answer(row, 201, "configuration-detail", workspace_id=workspace.pk, pk=row.pk)

    def reads_uploads(self, request: Any) -> bool:
        """Archives are read as a stream."""
        return bool(request.method == "POST")

    def body_digest(self, request: Request) -> str:
        """Return the archive's SHA-256, with a form's message."""
        upload, message = self._upload(request)
        return f"{upload.digest} {message}"

    def _upload(self, request: Request) -> tuple[Upload, str]:
        """Read the body once; return archive and message."""
        limit = settings.SLIPWAY.archive_bytes_max
        if not (request.content_type or "").startswith("multipart/form-data"):
            message = checked(MessageQuery, request)["message"]
            self.uploaded = self.uploaded or read_upload(request, GZIP, limit)
            return self.uploaded, message
        refuse_announced(request, limit + _FORM_BYTES)
        values = self.input(ConfigurationForm)
        self.uploaded = self.uploaded or spool(values["archive"], limit)
        return self.uploaded, values["message"]
