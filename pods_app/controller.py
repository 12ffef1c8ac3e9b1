"""The controller: one active per installation, ticking every second or on an event.

Every pass it makes is also made by django-q2 every minute; each alone is sufficient, and both
at once are harmless. The active one holds the lease row ``controller``; the others stand by
and take over when it expires.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import DatabaseError, close_old_connections, connection

from pods_app.dispatch import DISPATCH
from pods_app.leases import release
from pods_app.models import Lease, Pool
from pods_app.notify import CONTROLLER_CHANNEL
from pods_app.outcomes import lose_lease
from pods_app.queue import dispatch_pass
from pods_app.reconcile import reconcile_pods
from pods_app.states import LeasePhase, LeaseState
from pods_app.work_directories import forget_directories_of_gone_pods
from tasks_app.models.base import ClockTimestamp
from tasks_app.single_flight import acquire, new_holder
from tasks_app.single_flight import release as give_back
from tasks_app.states import Status

log = logging.getLogger(__name__)

LEASE = "controller"
#: How long a dead controller blocks its successor, in seconds.
LEASE_SECONDS = 5.0
TICK_SECONDS = 1.0


def _reconcile_all() -> None:
    for pool in Pool.objects.all():
        reconcile_pods(pool)


def end_expired_holds() -> int:
    """Let the reservations of plans go that nobody confirmed in time; returns how many."""
    expired = Lease.objects.filter(
        state=LeaseState.LIVE,
        phase=LeasePhase.HOLD,
        task__status=Status.APPLY_PENDING,
        task__keep_warm_until__lt=ClockTimestamp(),
    ).select_related("task", "slot__pod")
    return sum(
        release(lease, actor=DISPATCH, reason="nobody confirmed the plan while it was kept warm")
        for lease in expired
    )


def settle_unknown_applies() -> None:
    """Fail unknown applies once the second gate proves that they applied nothing."""
    leases = Lease.objects.filter(
        state=LeaseState.LIVE, phase=LeasePhase.APPLY, task__status=Status.APPLY_UNKNOWN
    )
    for lease_id in leases.values_list("pk", flat=True):
        lose_lease(lease_id, actor=DISPATCH, cause="the agent vanished after the permit")


_passes: dict[str, Callable[[], object]] = {
    "pods": _reconcile_all,
    "expired holds": end_expired_holds,
    "unknown applies": settle_unknown_applies,
    "directories": forget_directories_of_gone_pods,
    "dispatch": dispatch_pass,
}


def register_pass(name: str, function: Callable[[], object]) -> None:
    """Add a pass of an upper app; it runs before dispatch in each tick."""
    dispatch = _passes.pop("dispatch")
    _passes[name] = function
    _passes["dispatch"] = dispatch


def controller_pass() -> None:
    """Do once what the controller does each tick; a failing pass does not stop the others."""
    for name, function in _passes.items():
        try:
            function()
        except Exception:
            log.exception("the controller's pass %r failed", name)


def run(stop: threading.Event) -> None:
    """Be the controller, or stand by, until ``stop`` is set."""
    holder, active = new_holder(), False
    try:
        while not stop.is_set():
            try:
                now_active = acquire(LEASE, holder, LEASE_SECONDS)
                if now_active != active:
                    active = now_active
                    log.info("controller is %s", "active" if active else "standing by")
                if active:
                    controller_pass()
                _wait(stop, TICK_SECONDS)
            except DatabaseError as error:
                log.warning("the database is not reachable: %s", error)
                active = False
                connection.close()
                stop.wait(TICK_SECONDS)
    finally:
        try:
            give_back(LEASE, holder)
        except DatabaseError:
            log.info("the controller's lease expires by itself")
        close_old_connections()


def _wait(stop: threading.Event, seconds: float) -> None:
    """Sleep until an event or the next tick."""
    with connection.cursor() as cursor:
        cursor.execute(f"LISTEN {CONTROLLER_CHANNEL}")
        driver = cursor.connection
        for _ in driver.notifies(timeout=seconds, stop_after=1):
            break
    if stop.is_set():
        return
