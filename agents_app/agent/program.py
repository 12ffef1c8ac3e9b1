"""The agent program: who it is, what the machine has, then work until it is asked to end."""

from __future__ import annotations

import logging
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx

from agents_app.agent.client import Refused, Server
from agents_app.agent.heartbeat import Heartbeat
from agents_app.agent.identity import Identity
from agents_app.agent.loop import Loop
from agents_app.agent.machine import clear, prepare
from agents_app.agent.options import AgentError, Options
from agents_app.agent.shutdown import Signals
from agents_app.runner.engines import LocalEngine, discover
from agents_app.runner.errors import EngineMissing
from agents_app.runner.probe import waits_at_gate
from agents_app.schema import Engine, RegisterReply, RegisterRequest

log = logging.getLogger("agent")

VERSION = "0.1"
#: Whoever replaces an agent that died a moment ago waits until that one is silent.
_NAME_TAKEN = "name-taken"
_TRY_SECONDS, _TRY_SECONDS_MAX = 0.5, 10.0
#: How often a draining agent looks whether another signal came, in seconds.
_LOOK_SECONDS = 0.5


class Agent:
    """One run of the program."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._loop: Loop | None = None
        self._signals = Signals()

    def run(self) -> None:
        """Work until a signal came and everything that ran has ended.

        Raises:
            AgentError: it cannot work like this.
        """
        self._signals.install()
        options = self._options
        options.read_pool_token()
        identity = Identity(options.directory, options.pod_uid)
        try:
            engines = discover(options.engines)
        except EngineMissing as error:
            raise AgentError(str(error)) from None
        server = Server(
            options, identity, lambda: _about(options, identity, engines), self._incarnation_seen
        )
        reply = self._registered(server, identity)
        if reply is None:
            return
        probed = [_probed(engine, options.directory / "probe") for engine in engines]
        machine = prepare(options, probed, reply, identity.pod_uid)
        names = ", ".join(f"{engine.engine} {engine.version}" for engine in engines)
        log.info("agent %s works in %s with %s", reply.agent_id, machine.base, names)
        loop = self._loop = Loop(options, server, identity, machine, reply.poll_seconds)
        heartbeat = Heartbeat(server, identity, machine, loop, reply.heartbeat_seconds)
        loop.start()
        heartbeat.start()
        # Large deletions keep nobody waiting; what was taken up is known by now.
        arguments = (machine, loop.tasks())
        threading.Thread(target=clear, args=arguments, name="clear", daemon=True).start()
        self._signals.asked.wait()
        self._drain(loop, heartbeat)

    def _registered(self, server: Server, identity: Identity) -> RegisterReply | None:
        """Register, however long the server is away; None if asked to end meanwhile.

        Raises:
            AgentError: the server refuses, and no earlier registration is left to work with.
        """
        pause = _TRY_SECONDS
        while not self._signals.asked.is_set():
            try:
                return server.register()
            except Refused as refusal:
                if identity.registration is not None and refusal.status in (401, 403):
                    log.warning("%s Working with the earlier registration.", refusal.detail)
                    return identity.registration
                waits = refusal.status >= 500 or refusal.status == 429
                if not waits and refusal.kind != _NAME_TAKEN:
                    raise AgentError(f"The server refuses this agent: {refusal.detail}") from None
                why = "is not reachable yet" if waits else "does not take this agent yet"
                why = f"{why}: {refusal.detail}"
            except httpx.HTTPError as error:
                why = f"is not reachable yet: {type(error).__name__}: {error}"
            log.warning("the server at %s %s", self._options.url, why)
            self._signals.asked.wait(pause)
            pause = min(pause * 2, _TRY_SECONDS_MAX)
        return None

    def _incarnation_seen(self, incarnation: UUID) -> None:
        if self._loop is not None:
            self._loop.incarnation_seen(incarnation)

    def _drain(self, loop: Loop, heartbeat: Heartbeat) -> None:
        """Take no new work and wait for what runs; a second signal interrupts that once."""
        begun = time.monotonic()
        loop.drain()
        heartbeat.soon()
        interrupted = False
        while loop.workers():
            if self._signals.count > 1 and not interrupted:
                interrupted = True
                loop.interrupt()
            loop.wait_for_end(_LOOK_SECONDS)
            loop.drain()  # a plan that is over now only waits
        loop.end()
        heartbeat.end()
        log.info("drained in %.1f s; ending", time.monotonic() - begun)


def _probed(engine: LocalEngine, scratch: Path) -> LocalEngine:
    """Return the engine with what is known of its gate."""
    if difference := waits_at_gate(engine, scratch):
        log.warning(
            "%s %s is not held before an apply is confirmed, but started from the kept directory: "
            "%s",
            engine.engine,
            engine.version,
            difference,
        )
    return replace(engine, holds=not difference)


def _about(options: Options, identity: Identity, engines: list[LocalEngine]) -> RegisterRequest:
    return RegisterRequest(
        pod_name=options.pod_name,
        pod_uid=identity.pod_uid,
        registration_key=identity.registration_key,
        hostname=socket.gethostname(),
        program_version=VERSION,
        engines=[Engine(engine=engine.engine, version=engine.version) for engine in engines],
        slots=options.slots,
    )
