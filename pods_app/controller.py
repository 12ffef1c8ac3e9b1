"""The controller: one active per installation, ticking every second or on an event.

Every pass it makes is also made by django-q2 every minute; each alone is sufficient, and both
at once are harmless. The active one holds the lease row ``controller``; the others stand by
and take over when it expires.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import Error, close_old_connections, connection

from pods_app.dispatch import DISPATCH
from pods_app.freeze.edges import follow_schedules
from pods_app.leases import repair_slots
from pods_app.models import Pool
from pods_app.notify import CONTROLLER_CHANNEL, listener
from pods_app.outcomes import return_lost_work
from pods_app.queue import dispatch_pass
from pods_app.reconcile import cluster_pools, reconcile_local_pods
from pods_app.warmups import expire_pass, warm_pass
from pods_app.work_directories import forget_directories_of_gone_pods
from tasks_app.services.void_plans import void_moved_plans
from tasks_app.single_flight import acquire, new_holder
from tasks_app.single_flight import release as give_back

log = logging.getLogger(__name__)

LEASE = "controller"
#: How long a dead controller blocks its successor, in seconds.
LEASE_SECONDS = 5.0
TICK_SECONDS = 1.0
#: How long the end waits for a pass over the cluster that is under way, in seconds.
_CLUSTER_END_SECONDS = 10.0


def _reconcile_local_pools() -> None:
    reconcile_local_pods(Pool.objects.all())


def _return_lost_work() -> int:
    return return_lost_work(actor=DISPATCH)


_passes: dict[str, Callable[[], object]] = {
    "freezes": follow_schedules,
    "local pods": _reconcile_local_pools,
    "expired warm-ups": expire_pass,
    "lost work": _return_lost_work,
    "slots": repair_slots,
    "void plans": void_moved_plans,
    "directories": forget_directories_of_gone_pods,
    "dispatch": dispatch_pass,
    "warm-ups": warm_pass,
}
#: What gives slots away comes last, to what people wait for first.
_LAST = ("dispatch", "warm-ups")


def register_pass(name: str, function: Callable[[], object]) -> None:
    """Add a pass of an upper app; it runs before dispatch in each tick."""
    last = {name: _passes.pop(name) for name in _LAST}
    _passes[name] = function
    _passes.update(last)


def controller_pass(go_on: Callable[[], bool] = lambda: True) -> None:
    """Do once what the controller does each tick; a failing pass does not stop the others.

    Args:
        go_on: asked before each pass; False ends the round, because somebody else took over.
    """
    for name, function in list(_passes.items()):
        if not go_on():
            return
        try:
            function()
        except Exception:
            log.exception("the controller's pass %r failed", name)
            connection.close()  # whatever state it is in; the next query opens another


def run(stop: threading.Event) -> None:
    """Be the controller, or stand by, until ``stop`` is set."""
    holder, active = new_holder(), False
    cluster = _ClusterWork(stop, lambda: active)

    def mine() -> bool:
        return not stop.is_set() and acquire(LEASE, holder, LEASE_SECONDS)

    while not stop.is_set():
        try:
            with listener(CONTROLLER_CHANNEL, "slipway controller") as events:
                while not stop.is_set():
                    if active != (active := mine()) and not stop.is_set():
                        log.info("controller is %s", "active" if active else "standing by")
                    if active:
                        controller_pass(mine)
                        cluster.start_if_needed()
                    if _wait(events):
                        cluster.wake()
        except (psycopg.Error, Error, OSError) as error:
            # A restart of the database, a failover: whoever comes back first is the controller.
            log.warning("the database is not reachable, trying again: %s", error)
            active = False
            connection.close()
            stop.wait(TICK_SECONDS)
    cluster.join()
    try:
        give_back(LEASE, holder)
    except Error:
        log.info("the controller's lease expires by itself")
    close_old_connections()


class _ClusterWork:
    """The pools in a Kubernetes cluster, from when there is one: threads beside the tick."""

    def __init__(self, stop: threading.Event, active: Callable[[], bool]) -> None:
        self._stop, self._active = stop, active
        self._loop: Any = None  # a ClusterLoop

    def start_if_needed(self) -> None:
        if self._loop is None and cluster_pools():
            # Only where there is a cluster, its client is worth its memory.
            from pods_app.cluster.loop import ClusterLoop

            self._loop = ClusterLoop(self._stop, self._active)
            self._loop.start()

    def wake(self) -> None:
        if self._loop is not None:
            self._loop.wake()

    def join(self) -> None:
        if self._loop is not None:
            self._loop.join(_CLUSTER_END_SECONDS)


def _wait(events: psycopg.Connection[Any]) -> bool:
    """Return at the next event or tick, and which it was. Events that came together are one."""
    came = False
    for _ in events.notifies(timeout=TICK_SECONDS, stop_after=1):
        came = True
    # Not inside the loop above: it holds the connection's lock.
    for _ in events.notifies(timeout=0):
        pass
    return came
