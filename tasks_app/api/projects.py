"""Projects."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import ApiViewSet, Input, is_schema
from tasks_app.api.pagination import ByName
from tasks_app.models import Project
from tasks_app.permissions import visible_projects
from tasks_app.services import workspaces as service


class ProjectSerializer(serializers.ModelSerializer[Project]):
    class Meta:
        model = Project
        fields = ["id", "name", "description", "created_at"]
        read_only_fields = fields


class ProjectInput(Input):
    name = serializers.SlugField(max_length=90)
    description = serializers.CharField(max_length=4000, allow_blank=True, required=False)


class ProjectViewSet(ApiViewSet):
    """Sets of workspaces with roles, variables and credentials of their own."""

    queryset = Project.objects.all()
    serializer_class = ProjectSerializer
    pagination_class = ByName

    def get_queryset(self) -> QuerySet[Project]:
        if is_schema(self):
            return Project.objects.none()
        return visible_projects(self.request.user)

    def list(self, request: Request) -> Response:
        """List the projects you may see."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=ProjectInput, responses={201: ProjectSerializer})
    def create(self, request: Request) -> Response:
        """Create a project; only managers of every project may."""
        values = self.input(ProjectInput)
        project = service.create_project(actor=self.actor, **values)
        return self.answer(project, 201, "project-detail", pk=project.pk)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a project."""
        return self.answer(self.get_object())

    @extend_schema(request=ProjectInput)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change name or description."""
        values: dict[str, Any] = self.input(ProjectInput, partial=True)
        return self.answer(
            service.update_project(actor=self.actor, project=self.get_object(), **values)
        )
