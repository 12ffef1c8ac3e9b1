"""At most one holder of a named job at a time, by a lease row whose expiry is database time."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection

_ACQUIRE = """
INSERT INTO tasks_app_singleflight AS held (name, holder, acquired_at, expires_at)
VALUES (%(name)s, %(holder)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET
    holder = excluded.holder,
    acquired_at = CASE WHEN held.holder = excluded.holder
                       THEN held.acquired_at ELSE excluded.acquired_at END,
    expires_at = excluded.expires_at
WHERE held.holder = excluded.holder OR held.expires_at < clock_timestamp()
RETURNING name
"""


def new_holder() -> str:
    """Return a name for this process as a holder, unique over machines and restarts."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def acquire(name: str, holder: str, seconds: float) -> bool:
    """Take or renew the lease ``name`` for ``seconds``; False when somebody else holds it."""
    with connection.cursor() as cursor:
        cursor.execute(_ACQUIRE, {"name": name, "holder": holder, "seconds": seconds})
        return cursor.fetchone() is not None


def release(name: str, holder: str) -> None:
    """Give the lease back at once."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM tasks_app_singleflight WHERE name = %s AND holder = %s", [name, holder]
        )


@contextmanager
def single_flight(name: str, seconds: float) -> Iterator[bool]:
    """Hold ``name`` for the body; yields whether this process got it.

    Args:
        seconds: longer than the body ever takes; a dead holder blocks for that long.
    """
    holder = new_holder()
    got = acquire(name, holder, seconds)
    try:
        yield got
    finally:
        if got:
            release(name, holder)
