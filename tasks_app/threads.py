"""Database work of requests that need nothing of Django's own handling of synchronous views."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from django.db import close_old_connections, connections

Result = TypeVar("Result")


async def run_in(executor: Executor, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function in a thread of ``executor``, whose connection then goes back to the pool."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(executor, _with_connection, function, *args)


def _with_connection(function: Callable[..., Result], *args: Any) -> Result:
    close_old_connections()
    try:
        return function(*args)
    finally:
        _give_back()


def _give_back() -> None:
    """Return the connection to the pool; one that had an error is ended instead.

    What is prepared on it may not fit the tables any more, as after a migration.
    """
    for connection in connections.all(initialized_only=True):
        if connection.errors_occurred and connection.connection is not None:
            connection.connection.close()
    connections.close_all()
