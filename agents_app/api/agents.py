"""Agents: their health, and locking one out."""

from __future__ import annotations

from typing import Any

import django_filters
from django.conf import settings
from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, Now
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.health import Health, status
from agents_app.models import Agent
from agents_app.tokens import revoke_agent
from pods_app.api.visibility import visible_pools
from pods_app.states import DirectoryState, PodPhase
from tasks_app.api.base import ApiViewSet, NoInput, is_schema
from tasks_app.api.fields import ExtendedFilterSet

_AGE = ExpressionWrapper(Now() - F("pod__last_heartbeat"), output_field=DurationField())
_KEPT = ~Q(pod__work_directories__state=DirectoryState.DELETED)


class AgentSerializer(serializers.ModelSerializer[Any]):
    pod = serializers.UUIDField(source="pod_id", read_only=True)
    pod_name = serializers.CharField(source="pod.pod_name", read_only=True)
    pool = serializers.CharField(source="pod.pool.name", read_only=True)
    phase = serializers.ChoiceField(PodPhase.choices, source="pod.phase", read_only=True)
    draining = serializers.BooleanField(source="pod.draining", read_only=True)
    last_heartbeat = serializers.DateTimeField(
        source="pod.last_heartbeat", read_only=True, allow_null=True
    )
    health = serializers.SerializerMethodField(help_text="By the age of the last heartbeat")
    heartbeat_age_seconds = serializers.SerializerMethodField()
    engines = serializers.ListField(
        child=serializers.DictField(), source="pod.engines", read_only=True
    )
    providers = serializers.ListField(
        child=serializers.CharField(), source="pod.providers", read_only=True
    )
    disk_total_bytes = serializers.IntegerField(
        source="pod.disk_total_bytes", read_only=True, allow_null=True
    )
    disk_free_bytes = serializers.IntegerField(
        source="pod.disk_free_bytes", read_only=True, allow_null=True
    )
    directories = serializers.IntegerField(read_only=True, help_text="Work directories it keeps")
    directory_bytes = serializers.IntegerField(read_only=True)

    class Meta:
        model = Agent
        fields = [
            "id",
            "pod",
            "pod_name",
            "pool",
            "hostname",
            "program_version",
            "phase",
            "draining",
            "health",
            "last_heartbeat",
            "heartbeat_age_seconds",
            "engines",
            "providers",
            "disk_total_bytes",
            "disk_free_bytes",
            "directories",
            "directory_bytes",
            "registered_at",
        ]
        read_only_fields = fields

    def get_health(self, row: Any) -> Health:
        return status(row.age, settings.SLIPWAY)

    def get_heartbeat_age_seconds(self, row: Any) -> float | None:
        return None if row.age is None else round(row.age.total_seconds(), 1)


class AgentFilter(ExtendedFilterSet):
    pool = django_filters.CharFilter("pod__pool__name", help_text="Name of its pool")
    phase = django_filters.MultipleChoiceFilter("pod__phase", choices=PodPhase.choices)

    class Meta:
        model = Agent
        fields: list[str] = []


_Revoked = inline_serializer(
    "RevokedAgent", {"revoked_tokens": serializers.IntegerField(help_text="That were live")}
)


class AgentViewSet(ApiViewSet):
    """Agent programs in pods."""

    queryset = Agent.objects.all()
    serializer_class = AgentSerializer
    filterset_class = AgentFilter

    def get_queryset(self) -> QuerySet[Agent]:
        if is_schema(self):
            return Agent.objects.none()
        return (
            Agent.objects.filter(pod__pool__in=visible_pools(self.request.user))
            .select_related("pod__pool")
            .annotate(
                age=_AGE,
                directories=Count("pod__work_directories", filter=_KEPT),
                directory_bytes=Coalesce(Sum("pod__work_directories__bytes", filter=_KEPT), 0),
            )
        )

    def list(self, request: Request) -> Response:
        """List the agents of the pools you may see, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show an agent."""
        return self.answer(self.get_object())

    @extend_schema(request=NoInput, responses=_Revoked)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """Lock an agent out: its next request is refused; it must register again."""
        self.input(NoInput)
        revoked = revoke_agent(actor=self.actor, agent=self.get_object())
        return Response({"revoked_tokens": revoked})
