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
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Subquery

from agents_app.models import Agent, AgentToken
from pods_app.incarnation import installation
from pods_app.models import Installation, ManagedPod
from pods_app.states import PodPhase
from tasks_app.actors import Actor
from tasks_app.exceptions import Unauthenticated
from tasks_app.models.base import ClockTimestamp
from tasks_app.permissions import Action, require
from tasks_app.transitions import record

PREFIX = "sla"
#: Replacements whose replies may have been lost; older unused ones are revoked.
_PENDING_REPLACEMENTS = 2


@dataclass(frozen=True)
class Caller:
    """The agent behind a request, as of the database at that moment."""

    agent: Agent
    token: AgentToken
    rotation_due: bool
    incarnation: UUID
    doubt: str

    @property
    def pod(self) -> ManagedPod:
        return self.agent.pod

    @property
    def actor(self) -> Actor:
        return Actor.agent(self.agent.pk)


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
    life = timedelta(seconds=settings.SLIPWAY.agent_token_seconds)
    incarnation = row.incarnation or installation().incarnation
    return Caller(
        agent=row.agent,
        token=row,
        rotation_due=row.now - row.created_at > life / 2,
        incarnation=incarnation,
        doubt=row.doubt or "",
    )


def _row(token: str) -> Any:  # an AgentToken with annotations
    parts = token.split("_", 2)
    if len(parts) != 3 or parts[0] != PREFIX:
        return None
    try:
        token_id = UUID(hex=parts[1])
    except ValueError:
        return None
    here = Installation.objects.filter(singleton=True)
    return (
        AgentToken.objects.select_related("agent__pod__pool")
        .annotate(
            now=ClockTimestamp(),
            incarnation=Subquery(here.values("incarnation")[:1]),
            doubt=Subquery(here.values("doubt")[:1]),
        )
        .filter(pk=token_id, revoked_at=None, expires_at__gt=ClockTimestamp())
        # Whoever was taken for gone and is not registers again, instead of idling unheard.
        .exclude(agent__pod__phase=PodPhase.GONE)
        .first()
    )


def rotate(caller: Caller) -> str | None:
    """Retire what the token in use replaced, and return a new one if it is due.

    Called in the heartbeat: using a token proves that the agent has it.
    """
    mine = AgentToken.objects.filter(agent=caller.agent, revoked_at=None)
    overlap = ClockTimestamp() + timedelta(seconds=settings.SLIPWAY.agent_token_overlap_seconds)
    mine.filter(created_at__lt=caller.token.created_at, expires_at__gt=overlap).update(
        expires_at=overlap
    )
    if not caller.rotation_due:
        return None
    newer = mine.filter(created_at__gt=caller.token.created_at).order_by("-created_at")
    surplus = [row.pk for row in newer[_PENDING_REPLACEMENTS - 1 :]]
    mine.filter(pk__in=surplus).update(revoked_at=ClockTimestamp())
    AgentToken.objects.filter(agent=caller.agent, expires_at__lt=ClockTimestamp()).delete()
    return issue(caller.agent)


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
