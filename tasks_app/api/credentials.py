"""Credentials of a project for private modules and registries; their secrets are write-only."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import PROJECT, ApiViewSet, Input, is_schema, person
from tasks_app.models import ProjectCredential
from tasks_app.permissions import Action, require
from tasks_app.services import credentials as service

PREFIX = f"{PROJECT}/credentials"


class CredentialSerializer(serializers.ModelSerializer[ProjectCredential]):
    created_by = serializers.SerializerMethodField()

    class Meta:
        model = ProjectCredential
        fields = ["id", "kind", "host", "username", "known_hosts", "created_at", "created_by"]
        read_only_fields = fields

    def get_created_by(self, row: ProjectCredential) -> str | None:
        return person(row.created_by)


class CredentialInput(Input):
    kind = serializers.ChoiceField(ProjectCredential.Kind.choices)
    host = serializers.CharField(max_length=253, help_text="For example git.example.com")
    secret = serializers.CharField(
        max_length=1 << 16, trim_whitespace=False, help_text="Never shown again"
    )
    username = serializers.CharField(max_length=100, allow_blank=True, default="")
    known_hosts = serializers.CharField(
        max_length=1 << 16,
        allow_blank=True,
        default="",
        help_text="Lines of ssh-keyscan; needed with an SSH key",
    )


class ProjectCredentialViewSet(ApiViewSet):
    """Credentials given to every run of a project; for its managers alone."""

    queryset = ProjectCredential.objects.all()
    serializer_class = CredentialSerializer

    def get_queryset(self) -> QuerySet[ProjectCredential]:
        if is_schema(self):
            return ProjectCredential.objects.none()
        project = self.visible_project()
        require(self.actor, Action.CHANGE_PROJECT, project)
        return (
            ProjectCredential.objects.filter(project=project)
            .select_related("project", "created_by")
            .defer("secret_ciphertext")
        )

    def list(self, request: Request, project_id: str) -> Response:
        """List the credentials, without their secrets, newest first."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, project_id: str, pk: str) -> Response:
        """Show a credential, without its secret."""
        return self.answer(self.get_object())

    @extend_schema(request=CredentialInput, responses={201: CredentialSerializer})
    def create(self, request: Request, project_id: str) -> Response:
        """Store a credential, or replace the one of this kind and host."""
        project = self.visible_project()
        require(self.actor, Action.CHANGE_PROJECT, project)
        values = self.input(CredentialInput)
        row = service.set_credential(actor=self.actor, project=project, **values)
        return self.answer(row, 201, "project-credential-detail", project_id=project.pk, pk=row.pk)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, project_id: str, pk: str) -> Response:
        """Remove a credential; runs that go on keep what they were given."""
        service.delete_credential(actor=self.actor, credential=self.get_object())
        return Response(status=204)
