"""What the autoscaler decided about a pool, and from what."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from pods_app.api.visibility import visible_pools
from pods_app.models import ScalingDecision
from tasks_app.api.base import UUID_PATTERN, ApiViewSet, is_schema

DECISIONS_PREFIX = f"pools/(?P<pool_id>{UUID_PATTERN})/scaling-decisions"

_Demand = inline_serializer(
    "ScalingDemand",
    {
        "running": serializers.IntegerField(help_text="Slots in which something runs"),
        "confirmed": serializers.IntegerField(help_text="Confirmed applies without a slot"),
        "kept_warm": serializers.IntegerField(
            help_text="Reserved slots, and plans that are to be kept warm without one"
        ),
        "startable": serializers.IntegerField(help_text="Pending tasks that only lack a slot"),
    },
)
_Limits = inline_serializer(
    "ScalingLimits",
    {
        "slots_per_pod": serializers.IntegerField(),
        "min_pods": serializers.IntegerField(),
        "max_pods": serializers.IntegerField(),
        "spare_slots": serializers.IntegerField(),
        "delay_seconds": serializers.FloatField(help_text="How long a pod is idle before it goes"),
    },
)
_Inputs = inline_serializer(
    "ScalingInputs",
    {
        "demand": _Demand,
        "limits": _Limits,
        "supply": serializers.IntegerField(help_text="Pods that took work, or started"),
        "starting": serializers.IntegerField(help_text="Of these, not online yet"),
    },
)


class ScalingDecisionSerializer(serializers.ModelSerializer[ScalingDecision]):
    inputs = serializers.SerializerMethodField(help_text="What it was decided from")

    class Meta:
        model = ScalingDecision
        fields = ["id", "at", "before", "desired", "reason", "inputs"]
        read_only_fields = fields

    @extend_schema_field(_Inputs)
    def get_inputs(self, row: ScalingDecision) -> Any:
        return row.inputs


class ScalingDecisionViewSet(ApiViewSet):
    """Changes of how many pods a pool wants."""

    queryset = ScalingDecision.objects.all()
    serializer_class = ScalingDecisionSerializer

    def get_queryset(self) -> QuerySet[ScalingDecision]:
        """Return the pool's decisions.

        Raises:
            NotFound: the pool does not exist, or may not be seen.
        """
        if is_schema(self):
            return ScalingDecision.objects.none()
        pool = visible_pools(self.request.user).filter(pk=self.kwargs["pool_id"]).first()
        if pool is None:
            raise NotFound("There is no such pool, or you may not see it.")
        return ScalingDecision.objects.filter(pool=pool)

    def list(self, request: Request, pool_id: str) -> Response:
        """List what was decided, newest first; why pods stay now, the pool itself says."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)
