"""The ASGI application, for uvicorn. It also ends the agents' long polls when the server stops."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import Any, cast

from django.core.asgi import get_asgi_application
from django.core.checks import run_checks
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.server")
_django = get_asgi_application()

from agents_app.hub import hub  # noqa: E402  after Django is set up

# Threads that wait for the database get the interpreter back after 1 ms, not 5: a wake comes
# through while heartbeats are computed.
sys.setswitchinterval(0.001)

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve HTTP by Django and the server's life span by the hub."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        await _django(scope, cast(Any, receive), cast(Any, send))


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    problems = await asyncio.to_thread(_problems)
    if problems:
        await send({"type": "lifespan.startup.failed", "message": "\n".join(problems)})
        return
    hub().start()
    _end_polls_on_signals()
    _spare_the_collector()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    hub().shutdown()
    await asyncio.to_thread(hub().join, 5)
    await send({"type": "lifespan.shutdown.complete"})


def _spare_the_collector() -> None:
    """Keep what was loaded out of every later garbage collection.

    Modules, models and addresses live as long as the process. A full collection that looks at
    them all stops every thread, and so each wake and permit, for longer than a wake takes.
    """
    gc.collect()
    gc.freeze()


def _problems() -> list[str]:
    """What management commands check before they start, and a server must check itself."""
    try:
        messages = run_checks(databases=["default"])
        return [str(message) for message in messages if message.is_serious()]
    finally:
        connections.close_all()


def _end_polls_on_signals() -> None:
    """Wake the polls at the signal: the server says "shutdown" only after the last has ended."""
    loop = asyncio.get_running_loop()

    def chain(number: signal.Signals) -> None:
        before = signal.getsignal(number)

        def handle(signum: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(hub().shutdown)
            if callable(before):
                before(signum, frame)

        signal.signal(number, handle)

    for number in (signal.SIGTERM, signal.SIGINT):
        chain(number)
