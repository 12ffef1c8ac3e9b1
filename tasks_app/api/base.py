"""What every view of the REST API shares."""

from __future__ import annotations

import hashlib
from functools import partial
from typing import Any

from django.db.models import Model, QuerySet
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from tasks_app.actors import Actor
from tasks_app.api.idempotency import HEADER, run_once
from tasks_app.api.parsers import StrictJSONParser, Upload, give_length
from tasks_app.exceptions import TooLarge
from tasks_app.models import Project, Workspace
from tasks_app.permissions import visible_projects

UUID_PATTERN = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
#: Prefix of what lies below a workspace, for the router.
WORKSPACE = f"workspaces/(?P<workspace_id>{UUID_PATTERN})"
PROJECT = f"projects/(?P<project_id>{UUID_PATTERN})"


class AlwaysFirst(BaseContentNegotiation):
    """There is one format of answers; ``Accept`` chooses nothing, and errs nothing."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        """Return the parser of the body's content type, None if there is none."""
        media_type = request.content_type.partition(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == media_type), None)

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        """Return the first renderer."""
        return renderers[0], renderers[0].media_type


class Input(serializers.Serializer[Any]):
    """What a request may say, exactly.

    Unknown fields are refused, because a typing error in an option such as ``destroy`` must not
    plan something else; in JSON so are values of another type, which the framework would turn
    into something.
    """

    def to_internal_value(self, data: Any) -> Any:
        """Return the checked values.

        Raises:
            ValidationError: names the fields.
        """
        problems: dict[str, list[str]] = {}
        known = ", ".join(self.fields)
        for name in sorted(set(data) - set(self.fields)):
            problems[name] = [f"There is no such field; there are: {known}."]
        if not isinstance(data, MultiValueDict):
            for name in sorted(set(data) & set(self.fields)):
                if wrong := _wrong_type(self.fields[name], data[name]):
                    problems[name] = [wrong]
        if problems:
            raise serializers.ValidationError(problems)
        return super().to_internal_value(data)


_TYPES: list[tuple[tuple[type[serializers.Field], ...], type, str]] = [
    ((serializers.BooleanField,), bool, "true or false"),
    ((serializers.IntegerField,), int, "a whole number"),
    (
        (serializers.CharField, serializers.ChoiceField, serializers.UUIDField),
        str,
        "a text",
    ),
]


def _wrong_type(field: Any, value: Any) -> str:
    """Return what a JSON value should be, "" if it is that."""
    children: list[Any] = []
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        children = value
    if isinstance(field, serializers.DictField) and isinstance(value, dict):
        children = list(value.values())
    for child in children:
        if wrong := _wrong_type(field.child, child):
            return wrong
    for fields, kind, words in _TYPES:
        if isinstance(field, fields) and value is not None and type(value) is not kind:
            return f"This must be {words}."
    return ""


class NoInput(Input):
    """An action without options."""


class ApiViewSet(GenericViewSet[Any]):
    """Base of all views: the actor, checked input, objects one may see, idempotency keys."""

    content_negotiation_class = AlwaysFirst
    parser_classes = [StrictJSONParser]
    lookup_value_regex = UUID_PATTERN
    #: What an upload's view has read.
    uploaded: Upload | None = None

    @property
    def actor(self) -> Actor:
        """The person who asks."""
        user: Any = self.request.user
        return Actor.person(user)

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Make the framework's request; a refused length is answered by `initial`."""
        self._refusal: TooLarge | None = None
        if not self.reads_uploads(request):
            try:
                give_length(request)
            except TooLarge as refusal:
                self._refusal = refusal
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the caller, then let an ``Idempotency-Key`` guard the action."""
        super().initial(request, *args, **kwargs)
        if self._refusal is not None:
            raise self._refusal
        key = request.headers.get(HEADER)
        if key is not None and request.method == "POST":
            # Dispatch looks the handler up on this object, after this.
            setattr(self, "post", partial(self._once, key, getattr(self, "post")))  # noqa: B009, B010

    def _once(self, key: str, handler: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
        digest = self.body_digest(request)
        return run_once(request, key, digest, lambda: handler(request, *args, **kwargs))

    def finalize_response(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let go of an upload, whatever came of it."""
        if self.uploaded is not None:
            self.uploaded.close()
        return super().finalize_response(request, *args, **kwargs)

    def reads_uploads(self, request: Any) -> bool:
        """Whether the view reads the body as a stream."""
        return False

    def body_digest(self, request: Request) -> str:
        """Return the SHA-256 of the body, for the fingerprint of an idempotent request."""
        return hashlib.sha256(request._request.body).hexdigest()

    def input(self, kind: type[serializers.Serializer[Any]], **options: Any) -> dict[str, Any]:
        """Return the request's checked values.

        Raises:
            ValidationError.
        """
        serializer = kind(data=self.request.data, context=self.get_serializer_context(), **options)
        serializer.is_valid(raise_exception=True)
        values: dict[str, Any] = serializer.validated_data
        return values

    def visible_workspace(self) -> Workspace:
        """Return the workspace of the address.

        Raises:
            NotFound: it does not exist, or may not be seen.
        """
        found = (
            Workspace.objects.select_related("project", "locked_by")
            .filter(
                pk=self.kwargs["workspace_id"],
                project__in=visible_projects(self.request.user),
            )
            .first()
        )
        if found is None:
            raise NotFound("There is no such workspace, or you may not see it.")
        return found

    def visible_project(self) -> Project:
        """Return the project of the address.

        Raises:
            NotFound: it does not exist, or may not be seen.
        """
        rows = visible_projects(self.request.user)
        found = rows.filter(pk=self.kwargs["project_id"]).first()
        if found is None:
            raise NotFound("There is no such project, or you may not see it.")
        return found

    def answer(self, row: Any, status: int = 200, location: str = "", **names: Any) -> Response:
        """Return an object as the answer.

        Args:
            location: name of the address that the header names, with its arguments.
        """
        headers = {"Location": reverse(location, kwargs=names)} if location else None
        return Response(self.get_serializer(row).data, status=status, headers=headers)


def checked(kind: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """Return the query string's checked values.

    Raises:
        ValidationError.
    """
    query = kind(data=request.query_params)
    query.is_valid(raise_exception=True)
    values: dict[str, Any] = query.validated_data
    return values


def is_schema(view: Any) -> bool:
    """Whether a view is only looked at for the OpenAPI document."""
    return bool(getattr(view, "swagger_fake_view", False))


def of_visible(queryset: QuerySet[Any], user: Any, project: str) -> QuerySet[Any]:
    """Return the rows whose ``project`` (a path of names) the user may see."""
    return queryset.filter(**{f"{project}__in": visible_projects(user)})


def person(row: Model | None) -> str | None:
    """Return a user's name, as every document shows people."""
    return row.get_username() if row is not None else None  # type: ignore[attr-defined]
