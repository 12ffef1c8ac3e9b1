"""What this app adds to the documents of tasks and workspaces: pool and agent."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, Q, QuerySet
from drf_spectacular.utils import extend_schema_field, inline_serializer
from rest_framework import serializers

from pods_app.api.task_fields import EvidenceField, ForecastField
from pods_app.models import Lease, Pool
from pods_app.services import assign_pool
from tasks_app import registry
from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tasks_app.models import Workspace

_AgentPlace = inline_serializer(
    "AgentPlace",
    {
        "id": serializers.CharField(),
        "pod": serializers.CharField(),
        "slot": serializers.IntegerField(),
    },
    allow_null=True,
)


@extend_schema_field(_AgentPlace)
class AgentField(serializers.Field):
    """The agent that has a task, or had it last."""

    def __init__(self) -> None:
        super().__init__(
            source="*", read_only=True, help_text="The agent that has it, or had it last"
        )

    def to_representation(self, value: Any) -> dict[str, Any] | None:
        """Return the place of the task's newest lease."""
        for lease in value.newest_leases:
            slot = lease.slot
            return {"id": slot.pod.agent_id, "pod": slot.pod.pod_name, "slot": slot.slot_id}
        return None


def _newest_leases(tasks: QuerySet[Any]) -> QuerySet[Any]:
    newest = (
        Lease.objects.order_by("task_id", "-epoch").distinct("task_id").select_related("slot__pod")
    ).only("task_id", "epoch", "slot__slot_id", "slot__pod__pod_name", "slot__pod__agent_id")
    return tasks.prefetch_related(Prefetch("leases", newest, to_attr="newest_leases"))


def _write_pool(actor: Actor, workspace: Workspace, name: str | None) -> None:
    pool = None
    if name is not None:
        pool = Pool.objects.filter(name=name).first()
        if pool is None:
            raise InvalidInput(f"There is no pool “{name}”.", field="pool")
    assign_pool(actor=actor, workspace=workspace, pool=pool)


def _workspaces_in(rows: QuerySet[Any], name: str) -> QuerySet[Any]:
    """Workspaces of a pool; those without one are in the default pool."""
    mine = Q(pool_assignment__pool__name=name)
    if Pool.objects.filter(name=name, is_default=True).exists():
        mine |= Q(pool_assignment=None)
    return rows.filter(mine)


def register() -> None:
    """Add the fields and filters; called once, when the app is ready."""
    registry.add_field(
        "task",
        registry.ApiField(
            "pool",
            serializers.CharField(source="placement.pool.name", read_only=True, allow_null=True),
            prefetch=lambda rows: rows.select_related("placement__pool"),
        ),
    )
    registry.add_field("task", registry.ApiField("agent", AgentField(), prefetch=_newest_leases))
    registry.add_field("task", registry.ApiField("forecast", ForecastField(), whole=True))
    registry.add_field("task", registry.ApiField("evidence", EvidenceField(), whole=True))
    registry.add_filter(
        "task",
        registry.ApiFilter(
            "pool",
            "Name of the pool it was created for",
            lambda rows, name: rows.filter(placement__pool__name=name),
        ),
    )
    registry.add_field(
        "workspace",
        registry.ApiField(
            "pool",
            serializers.CharField(
                source="pool_assignment.pool.name",
                read_only=True,
                allow_null=True,
                help_text="Null: the default pool",
            ),
            prefetch=lambda rows: rows.select_related("pool_assignment__pool"),
            write=_write_pool,
            write_field=serializers.CharField(
                max_length=60,
                required=False,
                allow_null=True,
                help_text="Name of its pool; null: the default pool",
            ),
        ),
    )
    registry.add_filter("workspace", registry.ApiFilter("pool", "Name of its pool", _workspaces_in))
