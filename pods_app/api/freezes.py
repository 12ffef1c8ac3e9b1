"""Freeze windows, and how a pool stands to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from pods_app.api.visibility import visible_pools, visible_windows
from pods_app.freeze import services as service
from pods_app.freeze.checks import (
    DAYS_LATER_MAX,
    GRACE_SECONDS_MAX,
    LEAD_MINUTES_MAX,
    TICKET_MAX,
    Days,
)
from pods_app.freeze.status import Standing, standing
from pods_app.freeze.stored import window_of
from pods_app.freeze.windows import UnreadableWindow, upcoming
from pods_app.models import FreezeWindow, Pool
from pods_app.states import FreezeState
from tasks_app.api.base import UUID_PATTERN, ApiViewSet, Input, checked, is_schema, person
from tasks_app.exceptions import InvalidInput
from tasks_app.permissions import Action, require

STATE_PREFIX = f"pools/(?P<pool_id>{UUID_PATTERN})/freeze-state"
_NEXT = 5
_YEARS = range(2000, 2200)
_CLOCK = {"type": "string", "pattern": r"^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?$"}


@extend_schema_field(_CLOCK)
class ClockField(serializers.TimeField):
    """A time of the wall clock, without a zone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(format="%H:%M:%S", input_formats=["%H:%M", "%H:%M:%S"], **options)

    def to_internal_value(self, value: Any) -> Any:
        """Return the time; numbers are none."""
        if not isinstance(value, str):
            self.fail("invalid", format="hh:mm")
        return super().to_internal_value(value)


class MomentField(serializers.DateTimeField):
    """A moment, with its offset: people who write none mean different ones."""

    def enforce_timezone(self, value: datetime) -> datetime:
        """Return the moment; one without an offset is none."""
        if timezone.is_naive(value):
            raise serializers.ValidationError("Add an offset, such as Z or +01:00.")
        return value


class DaysSerializer(serializers.Serializer[Any]):
    first = serializers.DateField()
    last = serializers.DateField(help_text="Included")


class OccurrenceSerializer(serializers.Serializer[Any]):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(allow_null=True, help_text="Null: when a person ends it")


class FreezeWindowSerializer(serializers.ModelSerializer[FreezeWindow]):
    pools = serializers.SerializerMethodField(help_text="Their names; empty with all_pools")
    start_time = ClockField(read_only=True)
    end_time = ClockField(read_only=True, allow_null=True)
    exceptions = serializers.SerializerMethodField()
    next_occurrences = serializers.SerializerMethodField(help_text="The present one included")
    created_by = serializers.SerializerMethodField()

    class Meta:
        model = FreezeWindow
        fields = [
            "id",
            "name",
            "reason",
            "ticket",
            "all_pools",
            "pools",
            "enabled",
            "time_zone",
            "weekdays",
            "start_time",
            "end_time",
            "days_later",
            "first_day",
            "last_day",
            "until",
            "exceptions",
            "lead_minutes",
            "grace_seconds",
            "adjusted_start",
            "adjusted_end",
            "adjusted_reason",
            "next_occurrences",
            "created_at",
            "created_by",
        ]
        read_only_fields = fields

    def get_pools(self, row: FreezeWindow) -> list[str]:
        visible: set[Any] = self.context["visible"]
        return sorted(pool.name for pool in row.pools.all() if pool.pk in visible)

    @extend_schema_field(DaysSerializer(many=True))
    def get_exceptions(self, row: FreezeWindow) -> Any:
        return DaysSerializer(service.exceptions_of(row), many=True).data

    @extend_schema_field(OccurrenceSerializer(many=True))
    def get_next_occurrences(self, row: FreezeWindow) -> Any:
        now: datetime = self.context["now"]
        try:
            coming = upcoming(window_of(row), now, _NEXT) if row.enabled else []
        except UnreadableWindow:
            coming = []
        return OccurrenceSerializer(coming, many=True).data

    def get_created_by(self, row: FreezeWindow) -> str | None:
        return person(row.created_by)


class DaysInput(Input):
    first = serializers.DateField()
    last = serializers.DateField()

    def to_internal_value(self, data: Any) -> Any:
        """Return the range."""
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("This must be an object with first and last.")
        if missing := {"first", "last"} - set(data):  # a partial change is none of a range
            raise serializers.ValidationError(dict.fromkeys(missing, "Name both days."))
        return Days(**super().to_internal_value(data))


class FreezeWindowInput(Input):
    name = serializers.CharField(max_length=100)
    reason = serializers.CharField(max_length=500)
    ticket = serializers.CharField(
        max_length=TICKET_MAX,
        required=False,
        allow_blank=True,
        help_text="Where it was agreed upon, for example CHG-4711.",
    )
    all_pools = serializers.BooleanField(required=False)
    pools = serializers.ListField(
        child=serializers.CharField(max_length=60),
        required=False,
        max_length=1000,
        help_text="Names; left out with all_pools.",
    )
    enabled = serializers.BooleanField(required=False)
    time_zone = serializers.CharField(max_length=64, help_text="IANA name")
    weekdays = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=6),
        required=False,
        max_length=7,
        help_text="0 is Monday. Left out: a one-off.",
    )
    start_time = ClockField()
    end_time = ClockField(required=False, allow_null=True)
    days_later = serializers.IntegerField(
        min_value=0,
        max_value=DAYS_LATER_MAX,
        required=False,
        help_text="Weekly: how many days after its start it ends; 1 is overnight.",
    )
    first_day = serializers.DateField(required=False, allow_null=True)
    last_day = serializers.DateField(required=False, allow_null=True)
    until = serializers.DateField(
        required=False,
        allow_null=True,
        help_text="Weekly: the last day on which it starts, in its zone.",
    )
    exceptions = serializers.ListField(child=DaysInput(), required=False, max_length=200)
    lead_minutes = serializers.IntegerField(min_value=0, max_value=LEAD_MINUTES_MAX, required=False)
    grace_seconds = serializers.IntegerField(
        min_value=0, max_value=GRACE_SECONDS_MAX, required=False
    )
    confirm = serializers.CharField(
        max_length=100,
        required=False,
        allow_blank=True,
        help_text="The window's name, if it begins within its lead time.",
    )


class EndInput(Input):
    reason = serializers.CharField(max_length=500)


class ExtendInput(EndInput):
    until = MomentField()


class FreezeWindowViewSet(ApiViewSet):
    """Times in which pools start nothing and have no pods."""

    queryset = FreezeWindow.objects.all()
    serializer_class = FreezeWindowSerializer

    def get_queryset(self) -> QuerySet[FreezeWindow]:
        if is_schema(self):
            return FreezeWindow.objects.none()
        seen = visible_windows(self.request.user)
        return seen.select_related("created_by").prefetch_related("pools")

    def get_serializer_context(self) -> dict[str, Any]:
        """Return what every row of an answer needs, read once."""
        context: dict[str, Any] = {**super().get_serializer_context()}
        if not is_schema(self):
            context["now"] = service.database_now()
            context["visible"] = set(visible_pools(self.request.user).values_list("pk", flat=True))
        return context

    def list(self, request: Request) -> Response:
        """List the windows of pools you may see."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a window with its next occurrences."""
        return self.answer(self.get_object())

    @extend_schema(request=FreezeWindowInput, responses={201: FreezeWindowSerializer})
    def create(self, request: Request) -> Response:
        """Create a window."""
        require(self.actor, Action.OPERATE, None)
        row = service.create_window(actor=self.actor, **self._values())
        return self.answer(self._again(row), 201, "freeze-window-detail", pk=row.pk)

    @extend_schema(request=FreezeWindowInput)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a window that is not in force."""
        row = self.get_object()
        require(self.actor, Action.OPERATE, None)
        values = self._values(partial=True)
        return self.answer(
            self._again(service.change_window(actor=self.actor, window=row, **values))
        )

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str) -> Response:
        """Delete a window that is not in force."""
        service.delete_window(actor=self.actor, window=self.get_object())
        return Response(status=204)

    @extend_schema(request=EndInput, responses=FreezeWindowSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """End the present occurrence now."""
        row = self.get_object()
        values = self.input(EndInput)
        service.end_early(actor=self.actor, window=row, **values)
        return self.answer(self._again(row))

    @extend_schema(request=ExtendInput, responses=FreezeWindowSerializer)
    @action(detail=True, methods=["post"])
    def extend(self, request: Request, pk: str) -> Response:
        """Let the present occurrence last longer."""
        row = self.get_object()
        values = self.input(ExtendInput)
        service.extend(actor=self.actor, window=row, **values)
        return self.answer(self._again(row))

    def _again(self, row: FreezeWindow) -> FreezeWindow:
        found: FreezeWindow = self.get_queryset().get(pk=row.pk)
        return found

    def _values(self, partial: bool = False) -> dict[str, Any]:
        values: dict[str, Any] = self.input(FreezeWindowInput, partial=partial)
        names = values.get("pools")
        if names is not None:
            found = {row.name: row for row in Pool.objects.filter(name__in=names)}
            missing = [name for name in names if name not in found]
            if missing:
                raise InvalidInput(f"There is no pool “{missing[0]}”.", field="pools")
            values["pools"] = list(found.values())
        return values


class FreezeStateSerializer(serializers.Serializer[Standing]):
    """What a pool may do at a time, and until when."""

    at = serializers.DateTimeField()
    state = serializers.ChoiceField(FreezeState.choices, source="freeze.state")
    reason = serializers.CharField(source="freeze.reason")
    since = serializers.DateTimeField(source="freeze.since", allow_null=True)
    until = serializers.DateTimeField(
        source="freeze.until",
        allow_null=True,
        help_text="When this state ends. Null: not known, or nothing within two weeks",
    )
    frozen_until = serializers.DateTimeField(source="freeze.frozen_until", allow_null=True)
    windows = serializers.SerializerMethodField(help_text="Names of what it is frozen for")
    overridden = serializers.SerializerMethodField()
    confirmed_stopped = serializers.BooleanField(
        allow_null=True, help_text="Null unless it is frozen now"
    )
    unconfirmed = serializers.IntegerField(
        allow_null=True, help_text="Runs and pods that may still live"
    )

    def get_windows(self, row: Standing) -> list[str]:
        return list(dict.fromkeys(one.window.name for one in row.freeze.intervals))

    def get_overridden(self, row: Standing) -> bool:
        return row.freeze.override is not None


class AtInput(Input):
    at = serializers.DateTimeField(required=False)

    def to_internal_value(self, data: Any) -> Any:
        """Return the time; one that is there and empty is none."""
        if data.get("at") == "":
            raise serializers.ValidationError({"at": "Give a time, or leave it out."})
        return super().to_internal_value(data)


class FreezeStateViewSet(ApiViewSet):
    """How a pool stands to its freezes."""

    queryset = Pool.objects.none()
    serializer_class = FreezeStateSerializer
    pagination_class = None

    @extend_schema(
        parameters=[
            OpenApiParameter("at", datetime, description="Another time than now, by the windows")
        ],
        responses=forced_singular_serializer(FreezeStateSerializer),
        operation_id="pools_freeze_state_retrieve",
    )
    def list(self, request: Request, pool_id: str) -> Response:
        """Show whether the pool is open, closing, frozen or reopening, why and until when."""
        pool = visible_pools(request.user).filter(pk=pool_id).first()
        if pool is None:
            raise NotFound("There is no such pool, or you may not see it.")
        at = checked(AtInput, request).get("at")
        if at is not None and at.year not in _YEARS:
            raise InvalidInput(f"Use a year from {_YEARS[0]} to {_YEARS[-1]}.", field="at")
        return self.answer(standing(pool, at))
