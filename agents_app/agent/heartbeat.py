"""The heartbeat: how the agent is, every few seconds, and the server's wishes for it."""

from __future__ import annotations

import logging
import threading
from typing import Protocol
from uuid import UUID

from agents_app.agent.client import Patience, Refused, Server, Unreachable
from agents_app.agent.directories import Directories
from agents_app.agent.identity import Identity
from agents_app.agent.machine import Machine
from agents_app.schema import Engine, HeartbeatRequest, LeaseReport

log = logging.getLogger("agent.heartbeat")


class Leases(Protocol):
    """What the heartbeat asks of the agent."""

    @property
    def draining(self) -> bool: ...

    def reports(self, incarnation: UUID) -> list[LeaseReport]: ...

    def tasks(self) -> list[UUID]: ...


class Heartbeat:
    """Sends heartbeats in a thread of its own until it is ended."""

    def __init__(
        self, server: Server, identity: Identity, machine: Machine, leases: Leases, seconds: float
    ) -> None:
        self._server, self._identity = server, identity
        self._machine, self._leases = machine, leases
        self._seconds = seconds
        self._directories = Directories(machine.base, machine.owners)
        self._deleted: list[UUID] = []
        self._heard = True
        self._soon = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin with the first one at once."""
        self._thread.start()

    def soon(self) -> None:
        """Send the next one now."""
        self._soon.set()

    def end(self) -> None:
        """Send no more."""
        self._over.set()
        self._soon.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._soon.clear()
            try:
                self._beat()
            except (Refused, Unreachable) as error:
                if self._heard:
                    log.warning("the server does not hear this agent: %s", error)
                self._heard = False
            except Exception:
                log.exception("no heartbeat")
            else:
                if not self._heard:
                    log.info("the server hears this agent again")
                self._heard = True
            self._soon.wait(self._seconds)

    def _beat(self) -> None:
        incarnation = self._identity.incarnation
        assert incarnation is not None, "register first"
        total, free = self._machine.disk()
        message = HeartbeatRequest(
            incarnation=incarnation,
            newest_lease=self._identity.newest_lease,
            newest_permit=self._identity.newest_permit,
            leases=self._leases.reports(incarnation),
            directories=self._directories.reports(),
            deleted_directories=self._deleted,
            providers=self._machine.mirror.packages(),
            engines=[Engine(engine=e.engine, version=e.version) for e in self._machine.engines],
            disk_total_bytes=total,
            disk_free_bytes=free,
            draining=self._leases.draining,
        )
        # An old heartbeat is worth nothing: a new one is made instead of repeating it for long.
        reply = self._server.heartbeat(message, Patience(self._seconds))
        self._deleted = []
        if reply.agent_token:
            self._identity.rotated(reply.agent_token)
            log.info("a new token came")
        if reply.delete_directories:
            tasks = self._leases.tasks()
            self._deleted = self._directories.delete(reply.delete_directories, tasks)
            if self._deleted:
                self._soon.set()
        self._directories.clear_quarantine()
