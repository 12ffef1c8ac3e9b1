"""Overrides of freezes: a pool works in spite of its windows, for a short time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from pods_app.api.freezes import MomentField
from pods_app.api.visibility import visible_pools
from pods_app.freeze import by_hand
from pods_app.freeze.services import database_now
from pods_app.models import FreezeOverride
from tasks_app.api.base import ApiViewSet, Input, is_schema, person
from tasks_app.api.fields import ExtendedFilterSet, YesNoFilter
from tasks_app.exceptions import InvalidInput
from tasks_app.permissions import Action, require

_HOURS_MAX = by_hand.OVERRIDE_MINUTES_MAX // 60


class FreezeOverrideSerializer(serializers.ModelSerializer[FreezeOverride]):
    pool = serializers.CharField(source="pool.name", read_only=True, help_text="Its name")
    in_force = serializers.SerializerMethodField(help_text="It has not expired and was not ended")
    created_by = serializers.SerializerMethodField()

    class Meta:
        model = FreezeOverride
        fields = ["id", "pool", "reason", "begins_at", "expires_at", "in_force", "created_by"]
        read_only_fields = fields

    def get_in_force(self, row: FreezeOverride) -> bool:
        now: datetime = self.context["now"]
        return row.begins_at <= now < row.expires_at

    def get_created_by(self, row: FreezeOverride) -> str | None:
        return person(row.created_by)


class FreezeOverrideFilter(ExtendedFilterSet):
    pool = django_filters.CharFilter("pool__name", help_text="Name of its pool")
    in_force = YesNoFilter(method="which", help_text="Those that count now, or those that do not")

    class Meta:
        model = FreezeOverride
        fields: list[str] = []

    def which(
        self, queryset: QuerySet[FreezeOverride], name: str, value: bool
    ) -> QuerySet[FreezeOverride]:
        """Return the overrides that are in force, or the others."""
        now = database_now()
        live = {"expires_at__gt": now, "begins_at__lte": now}
        return queryset.filter(**live) if value else queryset.exclude(**live)


class FreezeOverrideInput(Input):
    pool = serializers.CharField(max_length=60, help_text="Its name.")
    reason = serializers.CharField(max_length=500, help_text="For the others.")
    expires_at = MomentField(
        help_text=f"At most {_HOURS_MAX} hours from now. If a window is in force then, the pool is "
        "frozen again, and what runs is interrupted."
    )


class EndOverrideInput(Input):
    reason = serializers.CharField(max_length=500, allow_blank=True, default="")


class FreezeOverrideViewSet(ApiViewSet):
    """Overrides: for a short time a pool works in spite of its freeze windows."""

    queryset = FreezeOverride.objects.all()
    serializer_class = FreezeOverrideSerializer
    filterset_class = FreezeOverrideFilter

    def get_queryset(self) -> QuerySet[FreezeOverride]:
        if is_schema(self):
            return FreezeOverride.objects.none()
        seen = FreezeOverride.objects.filter(pool__in=visible_pools(self.request.user))
        return seen.select_related("pool", "created_by")

    def get_serializer_context(self) -> dict[str, Any]:
        """Return what every row of an answer needs, read once."""
        context: dict[str, Any] = {**super().get_serializer_context()}
        return context if is_schema(self) else {**context, "now": database_now()}

    def list(self, request: Request) -> Response:
        """List the overrides of pools you may see, newest first; also those that are over."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show an override."""
        return self.answer(self.get_object())

    @extend_schema(request=FreezeOverrideInput, responses={201: FreezeOverrideSerializer})
    def create(self, request: Request) -> Response:
        """Let a pool work in spite of its windows, from now until `expires_at`.

        It needs a manager of every project. With an API token it also needs the permission “May
        override freezes with an API token”, which nobody has until a superuser gives it: neither
        a role nor being a superuser brings it.
        """
        self._require()
        values = self.input(FreezeOverrideInput)
        name = values.pop("pool")
        pool = visible_pools(request.user).filter(name=name).first()
        if pool is None:
            raise InvalidInput(f"There is no pool “{name}”.", field="pool")
        row = by_hand.grant_override(actor=self.actor, pool=pool, **values)
        return self.answer(row, 201, "freeze-override-detail", pk=row.pk)

    @extend_schema(request=EndOverrideInput, responses=FreezeOverrideSerializer)
    @action(detail=True, methods=["post"])
    def end(self, request: Request, pk: str) -> Response:
        """End it now: the windows count again at once, unless another override is in force.

        It needs what making one needs.
        """
        row = self.get_object()
        self._require()
        by_hand.end_override(actor=self.actor, override=row, **self.input(EndOverrideInput))
        return self.answer(self.get_object())

    def _require(self) -> None:
        """Raise unless the caller may: more is needed with a token than in a session.

        Raises:
            NotPermitted.
        """
        require(self.actor, Action.OVERRIDE_FREEZE, None)
        if self.request.auth is not None:
            by_hand.require_override_by_token(self.actor)
