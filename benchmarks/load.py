"""Who had the processors between two moments: the platform's parts, the agents, everybody."""

from __future__ import annotations

import time

import psutil

from config.launch import Platform

_PARTS = ("web", "worker", "controller")


class Load:
    """Counts from when it is made."""

    def __init__(self, platform: Platform) -> None:
        self._pids = {name: platform.pids(name) for name in _PARTS}
        if (postgres := _postmaster()) is not None:
            self._pids["postgres"] = [postgres]
        self._begun, self._before, self._busy = time.monotonic(), self._used(), _busy_seconds()

    def shares(self) -> dict[str, float]:
        """Return the cores each had on average until now; ``machine`` is everybody together."""
        took = time.monotonic() - self._begun
        now = self._used()
        shares = {name: (now[name] - self._before[name]) / took for name in now}
        shares["machine"] = (_busy_seconds() - self._busy) / took
        return {name: round(cores, 2) for name, cores in shares.items()}

    def _used(self) -> dict[str, float]:
        used = {name: sum(map(_tree_seconds, pids)) for name, pids in self._pids.items()}
        return used | {"simulated agents": time.process_time()}


def _postmaster() -> int | None:
    """Return PostgreSQL's first process, whose children serve the connections, if it is here."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = cursor.fetchone()[0]
    try:
        parent = psutil.Process(backend).parent()
    except psutil.NoSuchProcess:
        return None
    return parent.pid if parent is not None and parent.name().startswith("postgres") else None


def _tree_seconds(pid: int) -> float:
    """Return the processor time of a process, its descendants and those it has waited for."""
    process, total = psutil.Process(pid), 0.0
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))
