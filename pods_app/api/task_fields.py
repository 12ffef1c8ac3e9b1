"""Of a task's own document: how its apply would start, and what is known of one cut off."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from pods_app.evidence import evidence_of
from pods_app.forecast import forecast_of
from pods_app.health import Health
from pods_app.states import ApplyPath, LeaseState


class WhyNotSerializer(serializers.Serializer[Any]):
    path = serializers.ChoiceField(ApplyPath.choices)
    sentence = serializers.CharField()


class ForecastSerializer(serializers.Serializer[Any]):
    path = serializers.ChoiceField(
        ApplyPath.choices, allow_null=True, help_text="Null: it cannot be applied now"
    )
    agent = serializers.CharField(help_text="Name of its pod; empty: not known yet")
    sentence = serializers.CharField()
    why_not = WhyNotSerializer(many=True, help_text="The faster paths, fastest first")
    waits = serializers.CharField(help_text="What it would wait for first; empty: nothing")


class PermitSerializer(serializers.Serializer[Any]):
    granted_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="Until then it lets take the state's lock")
    expired = serializers.BooleanField()
    path = serializers.CharField()
    state_verified = serializers.BooleanField(help_text="False: a foreign backend")


class PermittedLeaseSerializer(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    epoch = serializers.IntegerField()
    state = serializers.ChoiceField(LeaseState.choices)
    pod = serializers.CharField(source="slot.pod.pod_name")
    reported_at = serializers.DateTimeField(
        allow_null=True, help_text="When its agent named it last"
    )
    ended_at = serializers.DateTimeField(allow_null=True)
    end_reason = serializers.CharField()


class LockSerializer(serializers.Serializer[Any]):
    lock_id = serializers.CharField()
    operation = serializers.CharField(source="info.Operation", default="")
    who = serializers.CharField(source="info.Who", default="")
    created_at = serializers.DateTimeField()
    released_at = serializers.DateTimeField(allow_null=True, help_text="Null: still held")
    forced = serializers.SerializerMethodField(help_text="Taken away by a person")

    def get_forced(self, row: Any) -> bool:
        return row.forced_by_id is not None


class StoredStateSerializer(serializers.Serializer[Any]):
    serial = serializers.IntegerField()
    created_at = serializers.DateTimeField()


class NoteSerializer(serializers.Serializer[Any]):
    actor = serializers.CharField()
    comment = serializers.CharField(source="cause")
    created_at = serializers.DateTimeField()


class EvidenceSerializer(serializers.Serializer[Any]):
    meaning = serializers.CharField(help_text="What follows from it")
    permit = PermitSerializer(allow_null=True)
    lease = PermittedLeaseSerializer(allow_null=True)
    agent_health = serializers.ChoiceField(Health.choices, source="agent", allow_null=True)
    locks = LockSerializer(many=True, help_text="Of the state, taken for it, oldest first")
    states_stored = StoredStateSerializer(source="written", many=True)
    still_running = NoteSerializer(
        source="notes", many=True, help_text="Notes of people, newest first"
    )


@extend_schema_field(ForecastSerializer(allow_null=True))
class ForecastField(serializers.Field):
    """The path of a waiting plan's apply."""

    def __init__(self) -> None:
        super().__init__(
            source="*",
            read_only=True,
            help_text="How its apply would start if it were confirmed now, and why not faster; "
            "null unless a plan waits",
        )

    def to_representation(self, value: Any) -> dict[str, Any] | None:
        """Return the forecast of a task."""
        found = forecast_of(value)
        return None if found is None else ForecastSerializer(found).data


@extend_schema_field(EvidenceSerializer(allow_null=True))
class EvidenceField(serializers.Field):
    """What is known of an apply that somebody has to judge."""

    def __init__(self) -> None:
        super().__init__(
            source="*",
            read_only=True,
            help_text="What is known of an apply that is unknown or was cut off, else null",
        )

    def to_representation(self, value: Any) -> dict[str, Any] | None:
        """Return the evidence of a task."""
        found = evidence_of(value)
        return None if found is None else EvidenceSerializer(found).data
