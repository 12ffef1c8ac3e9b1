"""Workspaces, their lock by a person, and the lock on their state."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app import registry
from tasks_app.api.base import ApiViewSet, Input, NoInput, is_schema, of_visible, person
from tasks_app.api.fields import (
    ExtendedFilterSet,
    ExtendedInput,
    ExtendedSerializer,
    YesNoFilter,
    pop_extra,
    write_extra,
)
from tasks_app.api.pagination import ByName
from tasks_app.exceptions import InvalidInput, NotFound
from tasks_app.models import Project, StateLock, Workspace
from tasks_app.permissions import Action, require, visible_projects
from tasks_app.services import state as state_service
from tasks_app.services import workspaces as service


class WorkspaceSerializer(ExtendedSerializer):
    extended_model = "workspace"
    project = serializers.CharField(source="project.name", read_only=True)
    locked_by = serializers.SerializerMethodField()

    class Meta:
        model = Workspace
        fields = [
            "id",
            "name",
            "project",
            "description",
            "engine",
            "engine_version",
            "working_directory",
            "auto_apply",
            "state_backend",
            "locked_at",
            "locked_by",
            "lock_reason",
            "created_at",
        ]
        read_only_fields = fields

    def get_locked_by(self, row: Workspace) -> str | None:
        return person(row.locked_by)


class WorkspaceInput(ExtendedInput):
    extended_model = "workspace"
    name = serializers.SlugField(max_length=90)
    description = serializers.CharField(max_length=4000, allow_blank=True, required=False)
    engine = serializers.ChoiceField(Workspace.Engine.choices, required=False)
    engine_version = serializers.CharField(max_length=30, allow_blank=True, required=False)
    working_directory = serializers.CharField(max_length=250, allow_blank=True, required=False)
    auto_apply = serializers.BooleanField(required=False)
    state_backend = serializers.ChoiceField(Workspace.StateBackend.choices, required=False)


class NewWorkspaceInput(WorkspaceInput):
    project = serializers.CharField(
        max_length=90, required=False, help_text="Name of its project; left out: `default`."
    )


class Reason(Input):
    reason = serializers.CharField(max_length=250, help_text="Why, for those who wait.")


class StateLockSerializer(serializers.ModelSerializer[StateLock]):
    id = serializers.CharField(source="lock_id", help_text="Terraform's lock ID")
    task = serializers.UUIDField(source="task_id", allow_null=True)
    user = serializers.SerializerMethodField()
    operation = serializers.SerializerMethodField()

    class Meta:
        model = StateLock
        fields = ["id", "task", "user", "operation", "created_at", "released_at"]
        read_only_fields = fields

    def get_user(self, row: StateLock) -> str | None:
        return person(row.user)

    def get_operation(self, row: StateLock) -> str:
        return str(row.info.get("Operation", ""))[:100]


class WorkspaceFilter(ExtendedFilterSet):
    extended_model = "workspace"
    name = django_filters.CharFilter(help_text="Its exact name")
    project = django_filters.CharFilter("project__name", help_text="Name of its project")
    locked = YesNoFilter(
        "locked_at", lookup_expr="isnull", exclude=True, help_text="Locked by a person, or not"
    )

    class Meta:
        model = Workspace
        fields: list[str] = []


class WorkspaceViewSet(ApiViewSet):
    """Terraform states and the configurations that manage them."""

    queryset = Workspace.objects.all()
    serializer_class = WorkspaceSerializer
    pagination_class = ByName
    filterset_class = WorkspaceFilter

    def get_queryset(self) -> QuerySet[Workspace]:
        if is_schema(self):
            return Workspace.objects.none()
        rows = Workspace.objects.select_related("project", "locked_by")
        rows = registry.with_fields("workspace", rows)
        return of_visible(rows, self.request.user, "project")

    def list(self, request: Request) -> Response:
        """List the workspaces you may see, by name."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=NewWorkspaceInput, responses={201: WorkspaceSerializer})
    def create(self, request: Request) -> Response:
        """Create a workspace."""
        values = self.input(NewWorkspaceInput)
        extra = pop_extra("workspace", values)
        project = self._project(values.pop("project", None))
        with transaction.atomic():
            row = service.create_workspace(actor=self.actor, project=project, **values)
            write_extra("workspace", self.actor, row, extra)
        return self.answer(self._again(row), 201, "workspace-detail", pk=row.pk)

    def _project(self, name: str | None) -> Project:
        if name is None:
            return service.default_project()
        project = visible_projects(self.request.user).filter(name=name).first()
        if project is None:
            raise InvalidInput("There is no such project, or you may not see it.", field="project")
        return project

    def _again(self, row: Workspace) -> Workspace:
        found: Workspace = self.get_queryset().get(pk=row.pk)
        return found

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a workspace."""
        return self.answer(self.get_object())

    @extend_schema(request=WorkspaceInput)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change settings; tasks that exist keep what they were created with."""
        row = self.get_object()
        values: dict[str, Any] = self.input(WorkspaceInput, partial=True)
        extra = pop_extra("workspace", values)
        with transaction.atomic():
            service.update_workspace(actor=self.actor, workspace=row, **values)
            write_extra("workspace", self.actor, row, extra)
        return self.answer(self._again(row))

    @extend_schema(request=Reason, responses=WorkspaceSerializer)
    @action(detail=True, methods=["post"])
    def lock(self, request: Request, pk: str) -> Response:
        """Let nothing start in the workspace until it is unlocked."""
        row = service.lock_workspace(
            actor=self.actor, workspace=self.get_object(), **self.input(Reason)
        )
        return self.answer(self._again(row))

    @extend_schema(request=NoInput, responses=WorkspaceSerializer)
    @action(detail=True, methods=["post"])
    def unlock(self, request: Request, pk: str) -> Response:
        """Let tasks start again."""
        self.input(NoInput)
        row = service.unlock_workspace(actor=self.actor, workspace=self.get_object())
        return self.answer(self._again(row))

    @extend_schema(responses=StateLockSerializer)
    @action(detail=True, url_path="state-lock", serializer_class=StateLockSerializer)
    def state_lock(self, request: Request, pk: str) -> Response:
        """Show who holds the lock on the state; 404 if nobody does."""
        row = self.get_object()
        require(self.actor, Action.VIEW, row)
        held = state_service.open_lock(row)
        if held is None:
            raise NotFound("The state is not locked.")
        return self.answer(held)

    @extend_schema(responses=StateLockSerializer)
    @state_lock.mapping.delete
    def force_unlock(self, request: Request, pk: str) -> Response:
        """Take the lock on the state away from its holder, whose later writes are refused.

        Terraform that still runs can then no longer store its result: make sure it is gone.
        """
        held = state_service.force_unlock_state(
            actor=self.actor, workspace=self.get_object(), comment="through the API"
        )
        return self.answer(held)
