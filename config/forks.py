"""Database connections do not survive a fork: django-q2 forks workers from a process that has some.

Two processes on one connection read each other's answers. A child therefore forgets what it
inherited, without closing it: closing would end the parent's session.
"""

from __future__ import annotations

import os
from typing import Any

from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

#: What was inherited, kept so that no finaliser runs on it.
_inherited: list[Any] = []


def forget_connections() -> None:
    """Start without connections and pools, as a new process does."""
    pools: dict[str, Any] = DatabaseWrapper._connection_pools  # type: ignore[attr-defined]
    _inherited.extend(pools.values())
    pools.clear()
    for connection in connections.all(initialized_only=True):
        _inherited.append(connection.connection)
        connection.connection = None


def install() -> None:
    """Forget the connections in every child forked from now on."""
    os.register_at_fork(after_in_child=forget_connections)
