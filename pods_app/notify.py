"""Wakes: NOTIFY in the caller's transaction, so that a wake never precedes its cause."""

from django.db import connection

AGENTS_CHANNEL = "slipway_agents"
CONTROLLER_CHANNEL = "slipway_controller"


def notify_agent(agent_id: str) -> None:
    """Wake the long poll of an agent when the transaction commits. A hint, never a message."""
    _notify(AGENTS_CHANNEL, agent_id)


def notify_controller() -> None:
    """Make the active controller tick when the transaction commits."""
    _notify(CONTROLLER_CHANNEL, "")


def _notify(channel: str, payload: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])
