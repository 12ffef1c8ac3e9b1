"""Pools, the tokens agents register with, and credentials for runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field, inline_serializer
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from pods_app import pools as service
from pods_app.api.visibility import visible_pools
from pods_app.autoscaler.demand import scalings
from pods_app.models import Pool, PoolCredential, PoolToken
from pods_app.registration import create_pool_token, revoke_pool_token
from pods_app.services import set_pool_credential
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.api.base import UUID_PATTERN, ApiViewSet, Input, is_schema, person
from tasks_app.api.credentials import CredentialInput
from tasks_app.api.pagination import ByName
from tasks_app.exceptions import InvalidInput
from tasks_app.models import Project
from tasks_app.permissions import Action, may, require

_POOL = f"pools/(?P<pool_id>{UUID_PATTERN})"
TOKENS_PREFIX = f"{_POOL}/tokens"
CREDENTIALS_PREFIX = f"{_POOL}/credentials"
_HOURS_MAX = 24 * 366 * 10


_Staying = inline_serializer(
    "StayingPod",
    {"pod": serializers.CharField(), "reason": serializers.CharField()},
    many=True,
    help_text="Why pods are not scaled down",
)
_Scaling = inline_serializer(
    "Scaling",
    {
        "desired": serializers.IntegerField(help_text="Pods it wants"),
        "reason": serializers.CharField(),
        "supply": serializers.IntegerField(help_text="Pods that take work, or start"),
        "starting": serializers.IntegerField(help_text="Of these, not online yet"),
        "staying": _Staying,
    },
    allow_null=True,
)


class PoolSerializer(serializers.ModelSerializer[Pool]):
    projects: Any = serializers.SlugRelatedField("name", many=True, read_only=True)
    proxy = serializers.SerializerMethodField(help_text="Without user and password")
    pod_template = serializers.SerializerMethodField(
        help_text="YAML of a Kubernetes pool's pods, for those who may operate pools; else null"
    )

    scaling = serializers.SerializerMethodField(
        help_text="What the autoscaler wants; null for a static pool"
    )

    class Meta:
        model = Pool
        fields = [
            "id",
            "name",
            "kind",
            "is_default",
            "projects",
            "slots_per_pod",
            "min_pods",
            "max_pods",
            "spare_slots",
            "scale_down_delay_seconds",
            "frozen",
            "proxy",
            "ca_bundle",
            "pod_template",
            "trouble",
            "scaling",
            "created_at",
        ]
        read_only_fields = fields

    @extend_schema_field({"type": "object", "additionalProperties": {"type": "string"}})
    def get_proxy(self, row: Pool) -> dict[str, str]:
        return service.shown_proxy(row)

    def get_pod_template(self, row: Pool) -> str | None:
        return row.pod_template if self.context["operates"] else None

    @extend_schema_field(_Scaling)
    def get_scaling(self, row: Pool) -> dict[str, Any] | None:
        # One look for all pools of a list.
        context = cast("dict[str, Any]", self.context)
        if "scalings" not in context:
            rows: Any = self.parent.instance if self.parent else [row]
            context["scalings"] = scalings(rows)
        found = context["scalings"].get(row.pk)
        return found and {
            "desired": found.desired,
            "reason": found.reason,
            "supply": found.supply,
            "starting": found.starting,
            "staying": [{"pod": pod, "reason": why} for pod, why in found.staying.items()],
        }


class PoolInput(Input):
    name = serializers.SlugField(max_length=60)
    kind = serializers.ChoiceField(PoolKind.choices, required=False)
    is_default = serializers.BooleanField(required=False)
    projects = serializers.ListField(
        child=serializers.CharField(max_length=90),
        required=False,
        max_length=1000,
        help_text="Names of the projects that may use it. Empty: every project.",
    )
    slots_per_pod = serializers.IntegerField(min_value=1, max_value=64, required=False)
    min_pods = serializers.IntegerField(min_value=0, max_value=1000, required=False)
    max_pods = serializers.IntegerField(min_value=0, max_value=1000, required=False)
    spare_slots = serializers.IntegerField(min_value=0, max_value=1000, required=False)
    scale_down_delay_seconds = serializers.IntegerField(
        min_value=0, max_value=86400, required=False
    )
    proxy = serializers.DictField(
        child=serializers.CharField(max_length=2000, allow_blank=True), required=False
    )
    ca_bundle = serializers.CharField(max_length=1 << 20, allow_blank=True, required=False)
    pod_template = serializers.CharField(max_length=1 << 16, allow_blank=True, required=False)


class PoolViewSet(ApiViewSet):
    """Sets of pods that run the tasks of certain projects."""

    queryset = Pool.objects.all()
    serializer_class = PoolSerializer
    pagination_class = ByName

    def get_queryset(self) -> QuerySet[Pool]:
        if is_schema(self):
            return Pool.objects.none()
        return visible_pools(self.request.user).prefetch_related("projects")

    def get_serializer_context(self) -> dict[str, Any]:
        """Return the context, with whether the caller may operate pools: asked once."""
        operates = not is_schema(self) and may(self.actor, Action.OPERATE)
        return {**super().get_serializer_context(), "operates": operates}

    def list(self, request: Request) -> Response:
        """List the pools that serve projects you may see."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a pool."""
        return self.answer(self.get_object())

    @extend_schema(request=PoolInput, responses={201: PoolSerializer})
    def create(self, request: Request) -> Response:
        """Create a pool."""
        require(self.actor, Action.OPERATE, None)
        values = self._values(self.input(PoolInput))
        pool = service.create_pool(actor=self.actor, **values)
        return self.answer(pool, 201, "pool-detail", pk=pool.pk)

    @extend_schema(request=PoolInput)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a pool."""
        pool = self.get_object()
        require(self.actor, Action.OPERATE, None)
        values = self._values(self.input(PoolInput, partial=True))
        service.update_pool(actor=self.actor, pool=pool, **values)
        return self.answer(self.get_object())

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        names = values.get("projects")
        if names is not None:
            found = {row.name: row for row in Project.objects.filter(name__in=names)}
            missing = [name for name in names if name not in found]
            if missing:
                raise InvalidInput(f"There is no project “{missing[0]}”.", field="projects")
            values["projects"] = list(found.values())
        return values


class PoolPartViewSet(ApiViewSet):
    """What lies below a pool: for operators alone."""

    def pool(self) -> Pool:
        """Return the pool of the address.

        Raises:
            NotFound: it does not exist, or may not be seen; NotPermitted: no operator.
        """
        actor: Actor = self.actor
        pool = visible_pools(self.request.user).filter(pk=self.kwargs["pool_id"]).first()
        if pool is None:
            raise NotFound("There is no such pool, or you may not see it.")
        require(actor, Action.OPERATE, None)
        return pool


class PoolTokenSerializer(serializers.ModelSerializer[PoolToken]):
    created_by = serializers.SerializerMethodField()

    class Meta:
        model = PoolToken
        fields = ["id", "name", "created_at", "expires_at", "revoked_at", "created_by"]
        read_only_fields = fields

    def get_created_by(self, row: PoolToken) -> str | None:
        return person(row.created_by)


class PoolTokenInput(Input):
    name = serializers.CharField(max_length=100, help_text="What it is for")
    hours = serializers.IntegerField(
        min_value=1, max_value=_HOURS_MAX, required=False, help_text="Left out: for ever."
    )


_NewPoolToken = inline_serializer(
    "NewPoolToken",
    {
        "id": serializers.UUIDField(),
        "name": serializers.CharField(),
        "created_at": serializers.DateTimeField(),
        "expires_at": serializers.DateTimeField(allow_null=True),
        "revoked_at": serializers.DateTimeField(allow_null=True),
        "created_by": serializers.CharField(allow_null=True),
        "token": serializers.CharField(help_text="Never shown again"),
    },
)


class PoolTokenViewSet(PoolPartViewSet):
    """Tokens with which agents register in a pool."""

    queryset = PoolToken.objects.all()
    serializer_class = PoolTokenSerializer

    def get_queryset(self) -> QuerySet[PoolToken]:
        if is_schema(self):
            return PoolToken.objects.none()
        return PoolToken.objects.filter(pool=self.pool()).select_related("created_by")

    def list(self, request: Request, pool_id: str) -> Response:
        """List the tokens, without the tokens themselves."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=PoolTokenInput, responses={201: _NewPoolToken})
    def create(self, request: Request, pool_id: str) -> Response:
        """Make a token; it is shown in this answer and never again."""
        pool = self.pool()
        values = self.input(PoolTokenInput)
        hours = values.get("hours")
        row, token = create_pool_token(
            actor=self.actor,
            pool=pool,
            name=values["name"],
            lifetime=timedelta(hours=hours) if hours else None,
        )
        row = self.get_queryset().get(pk=row.pk)
        return Response({**self.get_serializer(row).data, "token": token}, status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pool_id: str, pk: str) -> Response:
        """Revoke a token: no agent registers with it any more; registered ones go on."""
        revoke_pool_token(actor=self.actor, token=self.get_object())
        return Response(status=204)


class PoolCredentialSerializer(serializers.ModelSerializer[PoolCredential]):
    class Meta:
        model = PoolCredential
        fields = ["id", "kind", "host", "username", "known_hosts", "created_at"]
        read_only_fields = fields


class PoolCredentialViewSet(PoolPartViewSet):
    """Credentials for private modules and registries, given to every run in a pool."""

    queryset = PoolCredential.objects.all()
    serializer_class = PoolCredentialSerializer

    def get_queryset(self) -> QuerySet[PoolCredential]:
        if is_schema(self):
            return PoolCredential.objects.none()
        return (
            PoolCredential.objects.filter(pool=self.pool())
            .select_related("pool")
            .defer("secret_ciphertext")
        )

    def list(self, request: Request, pool_id: str) -> Response:
        """List the credentials, without their secrets."""
        page = self.paginate_queryset(self.get_queryset())
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(request=CredentialInput, responses={201: PoolCredentialSerializer})
    def create(self, request: Request, pool_id: str) -> Response:
        """Store a credential, or replace the one of this kind and host."""
        pool = self.pool()
        row = set_pool_credential(actor=self.actor, pool=pool, **self.input(CredentialInput))
        return self.answer(row, 201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pool_id: str, pk: str) -> Response:
        """Remove a credential."""
        service.delete_pool_credential(actor=self.actor, credential=self.get_object())
        return Response(status=204)
