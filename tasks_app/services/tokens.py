"""Personal API tokens: made by their owner, shown once, with an end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from knox.models import AuthToken

from tasks_app.actors import Actor
from tasks_app.exceptions import NotPermitted
from tasks_app.transitions import record


def _owner(actor: Actor) -> User:
    if actor.user is None:
        raise NotPermitted("Only a person has tokens.")
    return actor.user


def create_token(*, actor: Actor, hours: int) -> tuple[Any, str]:
    """Make a token of the actor's own.

    Returns:
        The row, and the token itself, which is not stored and cannot be shown again.
    """
    with transaction.atomic():
        row, token = AuthToken.objects.create(user=_owner(actor), expiry=timedelta(hours=hours))
        record("token.created", actor=actor, data={"token": row.token_key, "hours": hours})
    return row, token


def own_tokens(actor: Actor) -> QuerySet[Any]:
    """Return the actor's tokens; expired ones too, until they are removed."""
    return AuthToken.objects.filter(user=_owner(actor))


def revoke_token(*, actor: Actor, token: Any) -> None:
    """End one of the actor's tokens at once."""
    with transaction.atomic():
        own_tokens(actor).filter(pk=token.pk).delete()
        record("token.revoked", actor=actor, data={"token": token.token_key})
