"""The controller's work in the cluster, beside its tick: a slow cluster delays no dispatch.

A watch tells when something has changed; what has changed, each pass reads anew. A pass is also
made every few seconds, so that nothing depends on the watch.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from django.db import close_old_connections, connection

from pods_app.cluster import names
from pods_app.cluster.connection import cluster
from pods_app.cluster.errors import ClusterError, Expired
from pods_app.cluster.reconcile import reconcile_cluster
from pods_app.reconcile import cluster_pools

log = logging.getLogger(__name__)

#: The longest time between two passes, and the shortest, in seconds.
PASS_SECONDS, _BREATH_SECONDS = 5.0, 0.5
_PAUSE, _PAUSE_MAX = 1.0, 60.0
#: Every pod of any installation.
SELECTOR = f"{names.MANAGED_BY}={names.SLIPWAY}"


class Pauses:
    """How long to wait after failures in a row: doubled each time, with jitter."""

    def __init__(self) -> None:
        self._next = _PAUSE

    def failed(self) -> float:
        """Return the seconds to wait now."""
        pause = self._next * random.uniform(0.5, 1.0)
        self._next = min(self._next * 2, _PAUSE_MAX)
        return pause

    def went_well(self) -> None:
        self._next = _PAUSE


class ClusterLoop:
    """Looks after the pools in the cluster while this controller is the active one.

    Args:
        stop: set when the controller ends.
        active: whether this controller is the active one.
    """

    def __init__(self, stop: threading.Event, active: Callable[[], bool]) -> None:
        self._stop, self._active = stop, active
        self._changed = threading.Event()
        self._version = ""  # up to which the cluster was watched
        self._threads = [
            threading.Thread(target=self._passes, name="cluster passes", daemon=True),
            threading.Thread(target=self._watch, name="cluster watch", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Something has changed in the database."""
        self._changed.set()

    def join(self, seconds: float) -> None:
        """Wait for the pass under way; the watch has nothing to finish."""
        self._changed.set()
        self._threads[0].join(seconds)

    def _passes(self) -> None:
        pauses = Pauses()
        while not self._stop.is_set():
            self._changed.wait(PASS_SECONDS)
            self._changed.clear()
            if self._stop.is_set() or not self._active():
                continue
            begun = time.monotonic()
            try:
                reconcile_cluster(cluster_pools())
                pauses.went_well()
                # In a large cluster a pass is work: at most a third of the time goes into it.
                self._stop.wait(max(_BREATH_SECONDS, 2 * (time.monotonic() - begun)))
            except ClusterError as error:
                log.warning("%s", error.detail)
                self._stop.wait(pauses.failed())
            except Exception:
                log.exception("a pass over the cluster's pools failed")
                connection.close()  # whatever state it is in; the next query opens another
                self._stop.wait(pauses.failed())
        close_old_connections()

    def _watch(self) -> None:
        pauses = Pauses()
        while not self._stop.is_set():
            if not self._active():
                self._version = ""
                self._stop.wait(PASS_SECONDS)
                continue
            try:
                self._watch_on()
                pauses.went_well()
            except Expired:
                self._version = ""  # what happened meanwhile, the next pass sees
                self._stop.wait(pauses.failed())
            except ClusterError as error:
                log.info("the cluster is not watched: %s", error.detail)
                self._stop.wait(pauses.failed())

    def _watch_on(self) -> None:
        """Watch from where it ended, until the server's time-out."""
        if not self._version:
            self._version = cluster().version(SELECTOR)
            self._changed.set()
        for event in cluster().watch_pods(SELECTOR, self._version):
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._changed.set()
            if self._stop.is_set():
                return
