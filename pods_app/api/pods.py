"""Pods and their slots."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import django_filters
from django.conf import settings
from django.db.models import Prefetch, QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from pods_app import deletion
from pods_app import services as service
from pods_app.api.visibility import visible_pools, visible_project_ids
from pods_app.health import Health, condition, doubt_seconds, judge
from pods_app.models import ManagedPod, PodSlot
from pods_app.selectors import with_load
from pods_app.states import PodPhase, PoolKind, SlotStatus
from tasks_app.api.base import ApiViewSet, Input, is_schema
from tasks_app.api.fields import ExtendedFilterSet, YesNoFilter
from tasks_app.api.pagination import ByNumber


class SlotSerializer(serializers.ModelSerializer[PodSlot]):
    pod = serializers.UUIDField(source="pod_id", read_only=True)
    pod_name = serializers.CharField(source="pod.pod_name", read_only=True)
    pool = serializers.CharField(source="pod.pool.name", read_only=True)
    task = serializers.SerializerMethodField(
        help_text="Id of the task in it; null if idle, or of a project you may not see"
    )

    class Meta:
        model = PodSlot
        fields = ["id", "pod", "pod_name", "pool", "slot_id", "status", "task", "task_type"]
        fields += ["updated_at"]
        read_only_fields = fields

    def get_task(self, row: PodSlot) -> str | None:
        task = row.task
        if task is None or task.workspace.project_id not in self.context["visible"]:
            return None
        return str(task.pk)


class LoadSerializer(serializers.ModelSerializer[Any]):
    """How an agent is and what it has, of rows from `with_load`."""

    LOAD: ClassVar[list[str]] = [
        "health",
        "heartbeat_age_seconds",
        "unknown_after_seconds",
        "lost_after_seconds",
        "held_applies",
        "directories",
        "directory_bytes",
    ]
    health = serializers.SerializerMethodField(
        help_text="`unknown`: silent for longer than `unknown_after_seconds`. `lost`: declared "
        "so after `lost_after_seconds`, and its work was returned."
    )
    heartbeat_age_seconds = serializers.SerializerMethodField(help_text="Null: never heard")
    unknown_after_seconds = serializers.SerializerMethodField()
    lost_after_seconds = serializers.SerializerMethodField()
    held_applies = serializers.IntegerField(
        read_only=True, help_text="Plans for whose apply Terraform was started and waits"
    )
    directories = serializers.IntegerField(read_only=True, help_text="Work directories it keeps")
    directory_bytes = serializers.IntegerField(read_only=True)

    def pod_of(self, row: Any) -> ManagedPod:
        """Return the pod of a row."""
        return cast(ManagedPod, row)

    def get_health(self, row: Any) -> Health:
        return judge(self.pod_of(row), row.silence)

    def get_heartbeat_age_seconds(self, row: Any) -> float | None:
        return None if row.silence is None else round(row.silence.total_seconds(), 1)

    def get_unknown_after_seconds(self, row: Any) -> float:
        return doubt_seconds()

    def get_lost_after_seconds(self, row: Any) -> float:
        return float(settings.SLIPWAY.agent_lost_seconds)


class HealthFilter(django_filters.ChoiceFilter):
    """By how agents are; ``pod`` leads from the model to the pod."""

    def __init__(self, pod: str = "", **options: Any) -> None:
        self._pod = pod
        super().__init__(choices=Health.choices, **options)

    def filter(self, queryset: QuerySet[Any], value: str) -> QuerySet[Any]:
        """Narrow to the chosen health."""
        return queryset.filter(condition(Health(value), self._pod)) if value else queryset


class PodSerializer(LoadSerializer):
    pool = serializers.CharField(source="pool.name", read_only=True)
    engines = serializers.ListField(child=serializers.DictField(), read_only=True)
    providers = serializers.ListField(child=serializers.CharField(), read_only=True)
    slots = SlotSerializer(many=True, read_only=True)

    class Meta:
        model = ManagedPod
        fields = [
            "id",
            "pod_name",
            "pod_uid",
            "pool",
            "kind",
            "phase",
            "phase_reason",
            "draining",
            "deletion_reason",
            "agent_id",
            "last_heartbeat",
            *LoadSerializer.LOAD,
            "engines",
            "providers",
            "disk_total_bytes",
            "disk_free_bytes",
            "slots",
            "created_at",
        ]
        read_only_fields = fields


class PodFilter(ExtendedFilterSet):
    pool = django_filters.CharFilter("pool__name", help_text="Name of its pool")
    phase = django_filters.MultipleChoiceFilter(
        choices=PodPhase.choices, help_text="Left out: all that are not gone."
    )
    kind = django_filters.MultipleChoiceFilter(choices=PoolKind.choices)
    health = HealthFilter()
    draining = YesNoFilter()

    class Meta:
        model = ManagedPod
        fields: list[str] = []

    def filter_queryset(self, queryset: QuerySet[ManagedPod]) -> QuerySet[ManagedPod]:
        """Leave gone pods out unless they are asked for."""
        found: QuerySet[ManagedPod] = super().filter_queryset(queryset)
        if self.form.cleaned_data.get("phase"):
            return found
        return found.exclude(phase=PodPhase.GONE)


class SlotFilter(ExtendedFilterSet):
    pool = django_filters.CharFilter("pod__pool__name", help_text="Name of its pool")
    pod = django_filters.UUIDFilter("pod_id", help_text="Id of its pod")
    status = django_filters.MultipleChoiceFilter(choices=SlotStatus.choices)

    class Meta:
        model = PodSlot
        fields: list[str] = []


class DrainReason(Input):
    reason = serializers.CharField(max_length=500, help_text="Why, for those who wait.")


class UndrainReason(Input):
    reason = serializers.CharField(max_length=500, allow_blank=True, default="")


class DeletePod(Input):
    reason = serializers.CharField(max_length=200, help_text="Why; it is kept in the events.")
    confirm = serializers.CharField(
        max_length=253,
        required=False,
        allow_blank=True,
        help_text="The pod's name, if an apply that was started would be cut off.",
    )


class KnowsVisible(ApiViewSet):
    """Hides tasks of projects that the caller may not see."""

    def get_serializer_context(self) -> dict[str, Any]:
        """Return the context, with the ids of the visible projects."""
        context = super().get_serializer_context()
        visible = set() if is_schema(self) else visible_project_ids(self.request.user)
        return {**context, "visible": visible}


def slots() -> QuerySet[PodSlot]:
    """Return slots with what their documents show."""
    return PodSlot.objects.select_related("pod__pool", "task__workspace").only(
        "slot_id",
        "status",
        "task_type",
        "updated_at",
        "pod__pod_name",
        "pod__pool__name",
        "task__workspace__project_id",
    )


class PodViewSet(KnowsVisible):
    """Pods: each an agent with its slots."""

    queryset = ManagedPod.objects.all()
    serializer_class = PodSerializer
    filterset_class = PodFilter

    def get_queryset(self) -> QuerySet[ManagedPod]:
        if is_schema(self):
            return ManagedPod.objects.none()
        pods = ManagedPod.objects.filter(pool__in=visible_pools(self.request.user))
        return with_load(pods.select_related("pool")).prefetch_related(
            Prefetch("slots", slots().order_by("slot_id"))
        )

    def list(self, request: Request) -> Response:
        """List the pods of the pools you may see, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a pod with its slots."""
        return self.answer(self.get_object())

    @extend_schema(request=DrainReason, responses=PodSerializer)
    @action(detail=True, methods=["post"])
    def drain(self, request: Request, pk: str) -> Response:
        """Give the pod no new work; what runs or waits in it stays."""
        return self._changed(service.drain_pod, self.input(DrainReason))

    @extend_schema(request=UndrainReason, responses=PodSerializer)
    @action(detail=True, methods=["post"])
    def undrain(self, request: Request, pk: str) -> Response:
        """Let the pod take work again."""
        return self._changed(service.undrain_pod, self.input(UndrainReason))

    @extend_schema(request=DeletePod, responses={202: PodSerializer})
    @action(detail=True, methods=["post"], url_path="delete")
    def delete_pod(self, request: Request, pk: str) -> Response:
        """End the pod with all that runs in it; its pool makes another one if it wants it.

        Plans go back to the queue, and what waits for a person is made ready elsewhere. A started
        apply is cut off and becomes `apply_unknown`: that needs the pod's name as `confirm`. A
        static pod can be deleted once its agent is lost.
        """
        return self._changed(deletion.delete_pod, self.input(DeletePod), 202)

    def _changed(self, change: Any, values: dict[str, Any], status: int = 200) -> Response:
        change(actor=self.actor, pod_id=self.get_object().pk, **values)
        return self.answer(self.get_object(), status)


class SlotViewSet(KnowsVisible):
    """Places for work: the one truth about what is occupied."""

    queryset = PodSlot.objects.all()
    serializer_class = SlotSerializer
    filterset_class = SlotFilter
    pagination_class = ByNumber
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[PodSlot]:
        if is_schema(self):
            return PodSlot.objects.none()
        return (
            slots()
            .filter(pod__pool__in=visible_pools(self.request.user))
            .exclude(pod__phase=PodPhase.GONE)
        )

    def list(self, request: Request) -> Response:
        """List the slots of the pools you may see, newest first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a slot."""
        return self.answer(self.get_object())
