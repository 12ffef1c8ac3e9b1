"""Agents: how they are, what they have, and locking one out."""

from __future__ import annotations

from typing import Any, cast

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from agents_app.models import Agent
from agents_app.tokens import revoke_agent
from pods_app.api.pods import HealthFilter, LoadSerializer
from pods_app.api.visibility import visible_pools
from pods_app.models import ManagedPod
from pods_app.selectors import slot_counts, with_load
from pods_app.states import PodPhase, SlotStatus
from tasks_app.api.base import ApiViewSet, NoInput, is_schema
from tasks_app.api.fields import ExtendedFilterSet

_SlotCounts = inline_serializer(
    "SlotCounts", {name: serializers.IntegerField() for name in ("total", *SlotStatus.values)}
)


class AgentSerializer(LoadSerializer):
    pod = serializers.UUIDField(source="pod_id", read_only=True)
    pod_name = serializers.CharField(source="pod.pod_name", read_only=True)
    pool = serializers.CharField(source="pod.pool.name", read_only=True)
    phase = serializers.ChoiceField(PodPhase.choices, source="pod.phase", read_only=True)
    draining = serializers.BooleanField(source="pod.draining", read_only=True)
    last_heartbeat = serializers.DateTimeField(
        source="pod.last_heartbeat", read_only=True, allow_null=True
    )
    slots = serializers.SerializerMethodField(help_text="How many of each status")
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
            "last_heartbeat",
            *LoadSerializer.LOAD,
            "slots",
            "engines",
            "providers",
            "disk_total_bytes",
            "disk_free_bytes",
            "registered_at",
        ]
        read_only_fields = fields

    def pod_of(self, row: Any) -> ManagedPod:
        return cast(ManagedPod, row.pod)

    @extend_schema_field(_SlotCounts)
    def get_slots(self, row: Agent) -> dict[str, int]:
        return slot_counts(row.pod.slots.all())


class AgentFilter(ExtendedFilterSet):
    pool = django_filters.CharFilter("pod__pool__name", help_text="Name of its pool")
    phase = django_filters.MultipleChoiceFilter("pod__phase", choices=PodPhase.choices)
    health = HealthFilter(pod="pod__")

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
        agents = Agent.objects.filter(pod__pool__in=visible_pools(self.request.user))
        return with_load(agents.select_related("pod__pool"), "pod").prefetch_related("pod__slots")

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
