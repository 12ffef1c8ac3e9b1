"""Room for work: who makes some has it used at once, without waiting for a pass."""

from __future__ import annotations

from uuid import UUID

from pods_app.queue import fill_slots
from pods_app.warmups import warm_pass
from tasks_app.after_commit import after_commit


def use_room(pool_id: UUID) -> None:
    """Place and warm what waits in a pool, once the caller's transaction is committed.

    Never in that transaction: the task's row comes first in the lock order, and other tasks'
    rows would follow it.
    """
    after_commit(fill_slots, pool_id)
    after_commit(warm_pass, {pool_id})
