"""What a task produced: its plan, its logs, its events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse, HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, inline_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import ApiViewSet, Input, checked, is_schema, of_visible, person
from tasks_app.api.downloads import download
from tasks_app.api.task_documents import PlanSummarySerializer
from tasks_app.models import Event, Task
from tasks_app.services.logs import LogPart, read_log
from tasks_app.services.plans import changes, plan_of, plan_text

_OFFSET_MAX = 2**62

_Attribute = inline_serializer(
    "AttributeChange",
    {
        "name": serializers.CharField(),
        "before": serializers.JSONField(),
        "after": serializers.JSONField(),
    },
    many=True,
)
_Change = inline_serializer(
    "PlannedChange",
    {
        "address": serializers.CharField(),
        "actions": serializers.ListField(child=serializers.CharField()),
        "reason": serializers.CharField(),
        "attributes": _Attribute,
    },
    many=True,
)
_PlanDocument = inline_serializer(
    "PlanDocument",
    {
        "plan_hash": serializers.CharField(),
        "summary": PlanSummarySerializer(),
        "resources": _Change,
        "drift": _Change,
        "outputs": _Change,
    },
)
_LogDocument = inline_serializer(
    "LogPart",
    {
        "text": serializers.CharField(),
        "next_offset": serializers.IntegerField(),
        "complete": serializers.BooleanField(help_text="Nothing will follow"),
        "truncated": serializers.BooleanField(help_text="The log was longer than is kept"),
    },
)


class LogQuery(Input):
    phase = serializers.ChoiceField(["plan", "warmup", "apply"], help_text="Whose log")
    offset = serializers.IntegerField(
        min_value=0, max_value=_OFFSET_MAX, default=0, help_text="In bytes; where to continue"
    )


class PhaseQuery(Input):
    phase = serializers.ChoiceField(["plan", "warmup", "apply"], help_text="Whose log")


class EventSerializer(serializers.ModelSerializer[Event]):
    user = serializers.SerializerMethodField()

    class Meta:
        model = Event
        fields = [
            "id",
            "created_at",
            "kind",
            "from_status",
            "to_status",
            "actor",
            "user",
            "cause",
            "lease_id",
            "epoch",
            "data",
        ]
        read_only_fields = fields

    def get_user(self, row: Event) -> str | None:
        return person(row.user)


class TaskContentViewSet(ApiViewSet):
    """Contents of a task."""

    queryset = Task.objects.all()
    serializer_class = EventSerializer

    def get_queryset(self) -> QuerySet[Any]:
        if is_schema(self):
            return Task.objects.none()
        rows = Task.objects.select_related("workspace__project")
        return of_visible(rows, self.request.user, "workspace__project")

    @extend_schema(responses=_PlanDocument)
    @action(detail=True)
    def plan(self, request: Request, pk: str) -> Response:
        """Show the plan as data; sensitive values are masked."""
        task = self.get_object()
        found = plan_of(task)
        document = changes(task)
        document.pop("terraform_version")
        summary = PlanSummarySerializer(found).data
        return Response({"plan_hash": found.plan_hash, "summary": summary, **document})

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR})
    @action(detail=True, url_path="plan/text", url_name="plan-text")
    def plan_text(self, request: Request, pk: str) -> HttpResponse:
        """Show the plan as Terraform prints it; empty once it was purged."""
        text = plan_text(self.get_object())
        return HttpResponse(text, content_type="text/plain; charset=utf-8")

    @extend_schema(parameters=[LogQuery], responses=_LogDocument)
    @action(detail=True)
    def log(self, request: Request, pk: str) -> Response:
        """Show what a log has from `offset` on; ask again at `next_offset` until `complete`."""
        query = checked(LogQuery, request)
        part = read_log(self.get_object(), query["phase"], query["offset"])
        text, next_offset = whole_characters(part)
        return Response(
            {
                "text": text,
                "next_offset": next_offset,
                "complete": part.complete,
                "truncated": part.truncated,
            }
        )

    @extend_schema(parameters=[PhaseQuery], responses={(200, "text/plain"): OpenApiTypes.STR})
    @action(detail=True, url_path="log/download", url_name="log-download")
    def log_download(self, request: Request, pk: str) -> HttpResponseBase:
        """Download a whole log."""
        phase = checked(PhaseQuery, request)["phase"]
        task = self.get_object()
        return download(
            request,
            _parts(task, phase),
            "text/plain; charset=utf-8",
            f"{task.workspace.name}-{task.number}-{phase}.log",
        )

    @extend_schema(responses=EventSerializer(many=True))
    @action(detail=True)
    def events(self, request: Request, pk: str) -> Response:
        """List what happened to the task, newest first."""
        rows = Event.objects.filter(task=self.get_object()).select_related("user")
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(EventSerializer(page, many=True).data)


def whole_characters(part: LogPart) -> tuple[str, int]:
    """Return a log's piece as text and the offset after it.

    A character whose end is not written yet is left for the next piece.
    """
    data = part.data
    if not part.complete:
        data = data[: len(data) - _begun(data)]
    return data.decode(errors="replace"), part.next_offset - (len(part.data) - len(data))


def _begun(data: bytes) -> int:
    """Return how many bytes at the end begin a UTF-8 character without ending it."""
    for count in range(1, min(3, len(data)) + 1):
        byte = data[-count]
        if byte & 0xC0 != 0x80:  # the first byte of a character, or ASCII
            length = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return count if length > count else 0
    return 0


def _parts(task: Task, phase: str) -> Iterator[bytes]:
    offset = 0
    while (part := read_log(task, phase, offset)).data:
        yield part.data
        offset = part.next_offset
