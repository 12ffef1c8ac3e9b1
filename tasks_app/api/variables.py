"""Variables of a workspace, of a project, and global ones; sensitive values are write-only."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import PROJECT, WORKSPACE, ApiViewSet, Input, is_schema
from tasks_app.models import Variable, VariableVersion
from tasks_app.permissions import Action, may
from tasks_app.services import variables as service

WORKSPACE_PREFIX = f"{WORKSPACE}/variables"
PROJECT_PREFIX = f"{PROJECT}/variables"


class VariableSerializer(serializers.ModelSerializer[Variable]):
    scope = serializers.ChoiceField(Variable.Scope.choices, read_only=True)
    value = serializers.SerializerMethodField(
        "shown_value", help_text="Null if the variable is sensitive"
    )
    version = serializers.SerializerMethodField(help_text="Number of the newest version")

    class Meta:
        model = Variable
        fields = [
            "id",
            "scope",
            "workspace",
            "project",
            "category",
            "key",
            "value",
            "hcl",
            "sensitive",
            "description",
            "version",
            "created_at",
        ]
        read_only_fields = fields

    def shown_value(self, row: Variable) -> str | None:
        version = self._newest(row)
        return service.shown_value(version) if version else None

    def get_version(self, row: Variable) -> int:
        version = self._newest(row)
        return version.number if version else 0

    def _newest(self, row: Variable) -> VariableVersion | None:
        found: VariableVersion | None = self.context["versions"].get(row.pk)
        return found


class VariableChange(Input):
    value = serializers.CharField(
        allow_blank=True, trim_whitespace=False, help_text="Never shown again if sensitive"
    )
    hcl = serializers.BooleanField(required=False, help_text="The value is an HCL expression.")
    sensitive = serializers.BooleanField(
        required=False, help_text="Write-only, and redacted from logs."
    )
    description = serializers.CharField(max_length=250, allow_blank=True, required=False)


class VariableInput(VariableChange):
    key = serializers.CharField(max_length=128)
    category = serializers.ChoiceField(Variable.Category.choices, required=False)


class VariableViewSet(ApiViewSet):
    """What the variables of every scope share."""

    queryset = Variable.objects.all()
    serializer_class = VariableSerializer

    def scope(self) -> dict[str, Any]:
        """Return the workspace or project of the address; neither is global."""
        raise NotImplementedError

    def get_queryset(self) -> QuerySet[Variable]:
        if is_schema(self):
            return Variable.objects.none()
        scope = {"workspace": None, "project": None, **self.scope()}
        return Variable.objects.filter(deleted_at=None, **scope).select_related(
            "workspace__project", "project"
        )

    def _documents(self, rows: list[Variable]) -> list[Any]:
        context = {**self.get_serializer_context(), "versions": service.newest_versions(rows)}
        serializer = VariableSerializer(rows, many=True, context=context)
        return list(serializer.data)

    def list(self, request: Request, **scope: str) -> Response:
        """List the variables, newest first."""
        page = self.paginate_queryset(self.get_queryset()) or []
        return self.get_paginated_response(self._documents(list(page)))

    def retrieve(self, request: Request, pk: str, **scope: str) -> Response:
        """Show a variable."""
        return Response(self._documents([self.get_object()])[0])

    @extend_schema(request=VariableInput, responses={201: VariableSerializer})
    def create(self, request: Request, **scope: str) -> Response:
        """Create a variable, or give the one with this key a new version.

        Tasks that exist keep the Terraform variables they were created with.
        """
        row = service.set_variable(
            actor=self.actor,
            **self.scope(),
            **self.input(VariableInput),
        )
        return Response(self._documents([row])[0], status=201)

    @extend_schema(request=VariableChange)
    def partial_update(self, request: Request, pk: str, **scope: str) -> Response:
        """Give a variable a new version; what is left out stays as it is."""
        row = service.update_variable(
            actor=self.actor, variable=self.get_object(), **self.input(VariableChange, partial=True)
        )
        return Response(self._documents([row])[0])

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str, **scope: str) -> Response:
        """Remove a variable from later tasks."""
        service.delete_variable(actor=self.actor, variable=self.get_object())
        return Response(status=204)


class WorkspaceVariableViewSet(VariableViewSet):
    """Variables of one workspace; they beat those of its project and global ones."""

    def scope(self) -> dict[str, Any]:
        return {"workspace": self.visible_workspace()}


class ProjectVariableViewSet(VariableViewSet):
    """Variables of every workspace of a project; they beat global ones."""

    def scope(self) -> dict[str, Any]:
        return {"project": self.visible_project()}


class GlobalVariableViewSet(VariableViewSet):
    """Variables of every workspace; only managers of every project set them."""

    def scope(self) -> dict[str, Any]:
        return {}

    def get_queryset(self) -> QuerySet[Variable]:
        rows = super().get_queryset()
        return rows if is_schema(self) or may(self.actor, Action.VIEW) else rows.none()
