"""Wakes for long polls: one LISTEN connection per web process, in a thread of its own.

A wake is a hint, never a message: whoever waits asks the database again, or lets the agent ask
for the permit, which decides. After every (re)connection everybody is woken, because a
notification may have been missed meanwhile.

The same thread notes every few seconds that this process could hear agents
(`agents_app.health`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
from django.conf import settings
from django.db import DatabaseError, connection

from agents_app.health import note_listening
from pods_app.notify import AGENTS_CHANNEL, Confirmed, notify_agent, read_wake

log = logging.getLogger(__name__)

#: How often this process notes that it listens, in seconds; also finds a dead connection.
BEAT_SECONDS = 3.0
#: How long the notification of the self-check may take, in seconds.
CHECK_SECONDS = 5.0
_RETRY_SECONDS_MAX = 5.0
#: How soon the thread sees that it shall end, in seconds.
_LOOK_SECONDS = 0.5


class Waiter:
    """One long poll. Its event belongs to the event loop that made it.

    ``confirmed`` are the confirmations that its wakes named.
    """

    #: Whose wakes it gets; None before it has entered, and after its end.
    agent_id: str | None = None
    ended = False

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()
        self.confirmed: list[Confirmed] = []

    def wake(self, confirmed: Confirmed | None = None) -> None:
        """Wake the poll from any thread."""
        if confirmed is not None:
            self.confirmed.append(confirmed)
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:
            pass  # its loop is closed: nobody waits any more

    async def wait(self, seconds: float) -> None:
        """Return after a wake or ``seconds``; a wake since the last wait counts."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        self._event.clear()


class Hub:
    """Listens for wakes and hands each to the waiters of one agent."""

    def __init__(self) -> None:
        self._waiters: dict[str, set[Waiter]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._check = ""
        self._check_until = 0.0
        self.listening = threading.Event()

    @property
    def closing(self) -> bool:
        """Whether polls shall end at once, because the process is about to."""
        return self._closing.is_set()

    def start(self) -> None:
        """Start listening, once; called by the server and by the first request."""
        with self._lock:
            if self._thread is None and not self.closing:
                self._thread = threading.Thread(target=self._run, name="agents hub", daemon=True)
                self._thread.start()

    def shutdown(self) -> None:
        """End every poll at once and stop listening. Safe in a signal handler."""
        self._closing.set()
        self._wake_everybody()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended after :meth:`shutdown`."""
        if self._thread is not None:
            self._thread.join(seconds)

    @contextmanager
    def waiting(self) -> Iterator[Waiter]:
        """Make a long poll for the body; it is woken from :meth:`enter` on."""
        self.start()
        waiter = Waiter()
        try:
            yield waiter
        finally:
            with self._lock:
                waiter.ended = True
                waiters = self._waiters.get(waiter.agent_id or "", set())
                waiters.discard(waiter)
                if not waiters:
                    self._waiters.pop(waiter.agent_id or "", None)

    def enter(self, waiter: Waiter, agent_id: str) -> None:
        """Let a long poll hear the wakes of one agent from now on. Safe in any thread."""
        with self._lock:
            if not waiter.ended:  # its client may have gone meanwhile
                waiter.agent_id = agent_id
                self._waiters.setdefault(agent_id, set()).add(waiter)

    def wake(self, agent_id: str, confirmed: Confirmed | None = None) -> None:
        """Wake the polls of one agent."""
        for waiter in tuple(self._waiters.get(agent_id, ())):
            waiter.wake(confirmed)

    def _wake_everybody(self) -> None:
        for waiters in tuple(self._waiters.values()):
            for waiter in tuple(waiters):
                waiter.wake()

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.1
        while not self.closing:
            try:
                with _connect() as listener:
                    listener.execute(f"LISTEN {AGENTS_CHANNEL}")
                    self._send_check()
                    self.listening.set()
                    self._wake_everybody()
                    pause = 0.1
                    self._listen(listener)
            except (psycopg.Error, DatabaseError, OSError) as error:
                self.listening.clear()
                if not self.closing:
                    log.warning("not listening for wakes, trying again: %s", error)
                    self._closing.wait(pause)
                    pause = min(pause * 2, _RETRY_SECONDS_MAX)
            finally:
                connection.close()
        self.listening.clear()

    def _listen(self, listener: psycopg.Connection[Any]) -> None:
        beat = 0.0
        while not self.closing:
            if time.monotonic() >= beat:
                listener.execute("SELECT 1")
                note_listening()
                connection.close()
                beat = time.monotonic() + BEAT_SECONDS
            for notification in listener.notifies(timeout=_LOOK_SECONDS):
                self._received(notification.payload)
            self._judge_check()

    def _received(self, payload: str) -> None:
        if payload == self._check:
            self._check = ""
        else:
            self.wake(*read_wake(payload))

    def _send_check(self) -> None:
        """Notify ourselves through the connection that everybody else uses."""
        self._check = f"check {uuid4()}"
        self._check_until = time.monotonic() + CHECK_SECONDS
        notify_agent(self._check)
        connection.close()

    def _judge_check(self) -> None:
        if self._check and time.monotonic() > self._check_until:
            self._check = ""
            log.error(
                "A NOTIFY did not arrive within %s s: a pooler in transaction mode stands between "
                "Slipway and PostgreSQL. Set DATABASE_DIRECT_URL to PostgreSQL's own address; "
                "until then agents see their work only when their polls end.",
                CHECK_SECONDS,
            )


def _connect() -> psycopg.Connection[Any]:
    """Open the connection that listens: direct where a pooler is in the way."""
    keepalive: dict[str, Any] = {
        "autocommit": True,
        "connect_timeout": 5,
        "application_name": "slipway hub",
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if settings.SLIPWAY.database_direct_url:
        return psycopg.connect(settings.SLIPWAY.database_direct_url, **keepalive)
    own = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        own.pop(name, None)
    return psycopg.connect(**{**own, **keepalive})


_hub = Hub()


def hub() -> Hub:
    """Return this process's hub."""
    return _hub
