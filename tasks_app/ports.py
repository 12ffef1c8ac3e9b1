"""What `tasks_app` asks of upper apps without importing them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from tasks_app.models import Workspace


@dataclass(frozen=True)
class StateGrant:
    """What a run's token may do with a state. ``refusal`` says why it may not lock."""

    workspace: Workspace
    task_id: UUID
    lease_id: UUID
    may_read: bool
    may_lock: bool
    may_write: bool
    refusal: str = ""


class StateAccess(Protocol):
    """Decides what a token made for a run may do; `pods_app` implements it."""

    def authenticate(self, token: str) -> StateGrant | None:
        """Return what the token may do now, or None if it is not a run's token.

        Called inside the transaction of a LOCK or a write, with the task's row locked.
        """
        ...


_state_access: StateAccess | None = None


def register_state_access(implementation: StateAccess) -> None:
    """Install the implementation; called once from an AppConfig."""
    global _state_access
    _state_access = implementation


def state_access() -> StateAccess:
    """Return the implementation.

    Raises:
        RuntimeError: none was registered.
    """
    if _state_access is None:
        raise RuntimeError("no StateAccess is registered; is pods_app installed?")
    return _state_access
