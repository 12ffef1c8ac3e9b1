"""Wakes: NOTIFY in the caller's transaction, so that a wake never precedes its cause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from django.conf import settings
from django.db import connection

AGENTS_CHANNEL = "slipway_agents"
CONTROLLER_CHANNEL = "slipway_controller"


@dataclass(frozen=True)
class Confirmed:
    """The plan that an agent keeps ready under a lease was confirmed.

    Args:
        environment_digest: of what the agent was given for it last; "" if it has to be given
            something else.
        incarnation: of the database that says so; None before the commit.
    """

    lease_id: UUID
    environment_digest: str
    incarnation: UUID | None = None


def notify_agent(agent_id: str, confirmed: Confirmed | None = None) -> None:
    """Wake the long poll of an agent when the transaction commits. A hint, never a message.

    Args:
        confirmed: why, where the agent can ask for the permit without asking what is wished.
    """
    if confirmed is None:
        _notify(AGENTS_CHANNEL, agent_id)
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_notify(%s, concat_ws(' ', %s::text, %s::text, %s::text, ("
            "SELECT incarnation FROM pods_app_installation WHERE singleton)))",
            [AGENTS_CHANNEL, agent_id, str(confirmed.lease_id), confirmed.environment_digest],
        )


def read_wake(payload: str) -> tuple[str, Confirmed | None]:
    """Return what :func:`notify_agent` was called with; what is no hint wakes all the same."""
    agent_id, *hint = payload.split(" ")
    try:
        lease_id, digest, incarnation = hint
        return agent_id, Confirmed(UUID(lease_id), digest, UUID(incarnation))
    except ValueError:
        return agent_id, None


def notify_controller() -> None:
    """Make the active controller tick when the transaction commits."""
    _notify(CONTROLLER_CHANNEL, "")


def _notify(channel: str, payload: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


def listener(channel: str, name: str) -> psycopg.Connection[Any]:
    """Open a connection of its own that listens on ``channel``; use it as a context.

    Direct where a pooler is in the way of LISTEN.

    Args:
        name: shown by PostgreSQL as the connection's application.

    Raises:
        psycopg.Error: the database is not reachable.
    """
    options: dict[str, Any] = {
        "autocommit": True,
        "connect_timeout": 5,
        "application_name": name,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if settings.SLIPWAY.database_direct_url:
        opened = psycopg.connect(settings.SLIPWAY.database_direct_url, **options)
    else:
        own = connection.get_connection_params()
        for unknown in ("cursor_factory", "context", "prepare_threshold"):
            own.pop(unknown, None)
        opened = psycopg.connect(**{**own, **options})
    opened.execute(f"LISTEN {channel}")
    return opened
