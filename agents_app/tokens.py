"""Agents' bearer tokens: 256 random bits, stored as a hash, rotated with an overlap.

A token is ``sla_<row id>_<secret>``: the row is found by its id and the secret is compared in
constant time. A new token comes with a heartbeat's reply when half the life of the one in use
is over; the old one ends only some time after the new one was first used, so a lost reply
costs nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from agents_app.models import Agent, AgentToken
from pods_app.incarnation import installation
from pods_app.models import ManagedPod
from tasks_app.actors import Actor
from tasks_app.exceptions import Unauthenticated
from tasks_app.models.base import ClockTimestamp, columns
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

PREFIX = "sla"
#: Replacements whose replies may have been lost; older unused ones are revoked.
_PENDING_REPLACEMENTS = 2


@dataclass(frozen=True)
class Caller:
    """The agent behind a request, as of the database at that moment."""

    agent_id: UUID
    pod: ManagedPod
    token_created_at: datetime
    rotation_due: bool
    incarnation: UUID
    doubt: str

    @property
    def actor(self) -> Actor:
        return Actor.agent(self.agent_id)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def issue(agent: Agent) -> str:
    """Return a new token of ``agent``; it cannot be shown again."""
    row = AgentToken(agent=agent)
    token = f"{PREFIX}_{row.pk.hex}_{secrets.token_urlsafe(32)}"
    row.token_hash = _hash(token)
    row.expires_at = ClockTimestamp() + timedelta(seconds=settings.SLIPWAY.agent_token_seconds)
    row.save(force_insert=True)
    return token


def authenticate(token: str) -> Caller:
    """Return who sends ``token``; one query.

    Raises:
        Unauthenticated: unknown, expired or revoked.
    """
    row = _row(token)
    if row is None or not hmac.compare_digest(row.token_hash, _hash(token)):
        raise Unauthenticated(
            "The agent token is unknown, expired or revoked; register again with a pool token."
        )
    return Caller(
        agent_id=row.token_agent_id,
        pod=row,
        token_created_at=row.token_created_at,
        rotation_due=row.token_age.total_seconds() > settings.SLIPWAY.agent_token_seconds / 2,
        incarnation=row.incarnation or installation().incarnation,
        doubt=row.doubt or "",
    )


#: Every request begins with this, those of idle agents too. Written out, because Django spends
#: more than ten times as long on composing it as psycopg does on sending and reading it.
#: Whoever was taken for gone and is not registers again, instead of idling unheard.
_CALLER = f"""
SELECT {columns(ManagedPod, "pod")},
    token.agent_id AS token_agent_id,
    token.token_hash,
    token.created_at AS token_created_at,
    clock_timestamp() - token.created_at AS token_age,
    here.incarnation,
    here.doubt
FROM agents_app_agenttoken token
JOIN agents_app_agent agent ON agent.id = token.agent_id
JOIN pods_app_managedpod pod ON pod.id = agent.pod_id
LEFT JOIN pods_app_installation here ON here.singleton
WHERE token.id = %s AND token.revoked_at IS NULL AND token.expires_at > clock_timestamp()
    AND pod.phase <> 'gone'
"""


def _row(token: str) -> Any:  # a ManagedPod with annotations
    parts = token.split("_", 2)
    if len(parts) != 3 or parts[0] != PREFIX:
        return None
    try:
        token_id = UUID(hex=parts[1])
    except ValueError:
        return None
    return next(iter(ManagedPod.objects.raw(_CALLER, [token_id])), None)


_RETIRE = """
UPDATE agents_app_agenttoken SET expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE agent_id = %s AND revoked_at IS NULL AND created_at < %s
    AND expires_at > clock_timestamp() + make_interval(secs => %s)
"""


def rotate(caller: Caller) -> str | None:
    """Retire what the token in use replaced, and return a new one if it is due.

    Called in the heartbeat: using a token proves that the agent has it.
    """
    overlap = settings.SLIPWAY.agent_token_overlap_seconds
    with connection.cursor() as cursor:
        cursor.execute(_RETIRE, [overlap, caller.agent_id, caller.token_created_at, overlap])
    if not caller.rotation_due:
        return None
    agent = Agent.objects.get(pk=caller.agent_id)
    live = agent.tokens.filter(revoked_at=None)
    newer = live.filter(created_at__gt=caller.token_created_at).order_by("-created_at")
    surplus = [row.pk for row in newer[_PENDING_REPLACEMENTS - 1 :]]
    live.filter(pk__in=surplus).update(revoked_at=ClockTimestamp())
    agent.tokens.filter(expires_at__lt=ClockTimestamp()).delete()
    return issue(agent)


def revoke_all(agent: Agent) -> int:
    """End every token of an agent at once; returns how many were live."""
    return AgentToken.objects.filter(agent=agent, revoked_at=None).update(
        revoked_at=ClockTimestamp()
    )


def revoke_agent(*, actor: Actor, agent: Agent) -> int:
    """Lock an agent out: its next request is answered with 401.

    Raises:
        NotPermitted: the actor may not operate pools and agents.
    """
    require(actor, Action.OPERATE, None)
    with transaction.atomic():
        revoked = revoke_all(agent)
        record("agent.revoked", actor=actor, data={"agent": str(agent.pk), "tokens": revoked})
    return revoked
