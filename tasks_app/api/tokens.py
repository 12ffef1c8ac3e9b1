"""Your own API tokens."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, inline_serializer
from knox.models import AuthToken
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from tasks_app.api.base import ApiViewSet, Input, is_schema
from tasks_app.services import tokens as service

_HOURS_MAX = 24 * 366


class TokenSerializer(serializers.ModelSerializer[Any]):
    id = serializers.CharField(source="token_key", help_text="The beginning of the token")
    created_at = serializers.DateTimeField(source="created")
    expires_at = serializers.DateTimeField(source="expiry", allow_null=True)

    class Meta:
        model = AuthToken
        fields = ["id", "created_at", "expires_at"]
        read_only_fields = fields


class TokenInput(Input):
    hours = serializers.IntegerField(
        min_value=1, max_value=_HOURS_MAX, default=24 * 30, help_text="How long it works"
    )


_NewToken = inline_serializer(
    "NewToken",
    {
        "id": serializers.CharField(),
        "created_at": serializers.DateTimeField(),
        "expires_at": serializers.DateTimeField(allow_null=True),
        "token": serializers.CharField(help_text="Never shown again"),
    },
)


class TokenViewSet(ApiViewSet):
    """Your own API tokens: for this API, and as the password of the state backend."""

    queryset = AuthToken.objects.all()
    serializer_class = TokenSerializer
    lookup_field = "token_key"
    lookup_url_kwarg = "id"
    lookup_value_regex = "[0-9A-Za-z]{1,25}"
    pagination_class = None

    def get_queryset(self) -> QuerySet[Any]:
        if is_schema(self):
            return AuthToken.objects.none()
        return service.own_tokens(self.actor).order_by("-created")

    def list(self, request: Request) -> Response:
        """List your tokens, newest first, without the tokens themselves."""
        return Response(self.get_serializer(self.get_queryset(), many=True).data)

    @extend_schema(request=TokenInput, responses={201: _NewToken})
    def create(self, request: Request) -> Response:
        """Make a token. Send it as `Authorization: Token <token>`."""
        row, token = service.create_token(actor=self.actor, **self.input(TokenInput))
        return Response({**TokenSerializer(row).data, "token": token}, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, id: str) -> Response:
        """End a token at once."""
        service.revoke_token(actor=self.actor, token=self.get_object())
        return Response(status=204)
