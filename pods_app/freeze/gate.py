"""The one question whether a pool may start something now.

Asked inside the transaction that starts it: the answer holds until its commit, because entering
a freeze, and every change of a window, takes the pool's row ``FOR UPDATE``. The schedule is
read after that row is locked, and compared with the database's clock: nothing starts in a
window even if no process has noticed that it began.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from uuid import UUID

from django.db import connection

from pods_app.freeze.state import Freeze
from pods_app.freeze.stored import state_of
from pods_app.states import FreezeState


class Start(StrEnum):
    """What is about to start. All but a plan would outlast the lead time of a freeze."""

    PLAN = "plan"
    HOLD = "hold"
    WARMUP = "warmup"
    APPLY = "apply"


def refusal(pool_id: UUID, start: Start) -> Freeze | None:
    """Lock the pool for key share and return the freeze that forbids ``start``; None: it may.

    In the lock order after the task and before the pod.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT frozen FROM pods_app_pool WHERE id = %s FOR KEY SHARE", [pool_id])
        row = cursor.fetchone()
    # A statement of its own: it sees every window committed before the lock was ours.
    return judge(state_of(pool_id), bool(row and row[0]), start)


def judge(freeze: Freeze, entered: bool, start: Start) -> Freeze | None:
    """Return what forbids ``start``, for callers that read many pools at once and only look.

    Args:
        entered: the pool is marked frozen: its pods are gone, or going.
    """
    if freeze.state == FreezeState.FROZEN:
        return freeze
    if entered:
        return replace(freeze, state=FreezeState.REOPENING)
    if freeze.state == FreezeState.CLOSING and start != Start.PLAN:
        return freeze
    return None
