"""Who does something: a person, an agent, or a part of Slipway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from django.contrib.auth.models import User


@dataclass(frozen=True)
class Actor:
    """``name`` is what the audit row says; ``user`` is set for people only."""

    name: str
    user: User | None = None

    @classmethod
    def person(cls, user: User) -> Actor:
        """Return the actor of a signed-in person."""
        return cls(f"user:{user.get_username()}", user)

    @classmethod
    def agent(cls, agent_id: UUID | str) -> Actor:
        """Return the actor of an agent."""
        return cls(f"agent:{agent_id}")

    @classmethod
    def system(cls, part: str) -> Actor:
        """Return a part of Slipway, for example ``dispatch``; it may do everything."""
        return cls(f"system:{part}")

    @property
    def is_system(self) -> bool:
        return self.name.startswith("system:")
