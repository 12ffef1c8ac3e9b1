"""Agents that speak the agents' API as `run_agent` does and run nothing, many in one thread."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx

from agents_app import schema
from benchmarks.result import CannotMeasure
from config.launch import Platform

Result = TypeVar("Result")

ENGINE = schema.Engine(engine="terraform", version="1.11.4")
SLOTS = 3
_PATIENCE_SECONDS = 120.0
#: As `agents_app/agent/client.py` and `loop.py` have them.
_LIMITS = httpx.Limits(max_keepalive_connections=16, keepalive_expiry=75)
_START_SECONDS = 0.1
_HASTE_SECONDS = 1.0


class Refused(CannotMeasure):
    """The server refused a call, with this status."""

    def __init__(self, status: int, call: str, answer: str) -> None:
        super().__init__(f"The agents' API refused {call} with {status}: {answer}")
        self.status = status


class SimulatedAgent:
    """Registers, polls for work and sends heartbeats; what its work is, its kind says.

    Args:
        url: of the platform.
        context: shared by all: each holds every known authority.
        name: of its pod; default: a random one. Dispatch goes through agents by name.
        uid: of its pod.
    """

    def __init__(self, url: str, context: ssl.SSLContext, name: str = "", uid: str = "") -> None:
        self.name = name or uuid4().hex
        self._uid = uid or self.name
        # A client for each agent: one pool looks through all its connections at every request.
        self._client = httpx.AsyncClient(
            base_url=f"{url}{schema.API_PREFIX}", verify=context, timeout=60, limits=_LIMITS
        )
        self._known: dict[UUID, schema.KnownAssignment] = {}
        self._newest_lease: UUID | None = None
        self._registered: schema.RegisterReply
        self.group: asyncio.TaskGroup

    async def register(self, token: str) -> None:
        """Introduce itself with the token of its pool or pod."""
        request = schema.RegisterRequest(
            pod_name=self.name,
            pod_uid=self._uid,
            registration_key=uuid4(),
            hostname="benchmark",
            program_version="0",
            engines=[ENGINE],
            slots=SLOTS,
        )
        answer = await self.send("POST", "register", request, token=token)
        self._registered = schema.RegisterReply.model_validate_json(answer.content)

    async def live(self) -> None:
        """Poll and send heartbeats until cancelled.

        Raises:
            Refused: the server refused something.
        """
        try:
            async with asyncio.TaskGroup() as self.group:
                self.group.create_task(self._poll())
                self.group.create_task(self._beat())
        finally:
            await self._client.aclose()

    # --- what each kind of agent says -----------------------------------------------------

    def wished(self, assignment: schema.Assignment) -> None:
        """The server wishes something new of a lease; ``job`` is there if it came with it."""

    def confirmed(self, lease_id: UUID) -> None:
        """The plan that is held under a lease was confirmed; the wish for it comes later."""

    def reports(self) -> list[schema.LeaseReport]:
        """Return the leases for a heartbeat."""
        return [
            schema.LeaseReport(
                lease_id=known.lease_id,
                epoch=known.epoch,
                activity=schema.Activity.PLANNING,
                process_alive=True,
            )
            for known in self._known.values()
        ]

    def directories(self) -> list[schema.DirectoryReport]:
        """Return the work directories for a heartbeat."""
        return []

    # --- the agents' API ------------------------------------------------------------------

    async def send(
        self,
        method: str,
        path: str,
        message: schema.Message | bytes = b"",
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> httpx.Response:
        """Send a request; ``token`` instead of the agent's own.

        Raises:
            Refused: the server did not accept it.
        """
        body = message if isinstance(message, bytes) else message.model_dump_json().encode()
        answer = await self._client.request(
            method,
            path,
            params=query,
            content=body,
            headers={
                "Authorization": f"Bearer {token or self._registered.agent_token}",
                "Content-Type": "application/json",
                **(headers or {}),
            },
        )
        if answer.is_error:
            raise Refused(answer.status_code, f"{method} {path}", answer.text)
        return answer

    async def _poll(self) -> None:
        wait = 0.0
        while True:
            begun = time.monotonic()
            request = schema.WorkRequest(
                incarnation=self._registered.incarnation,
                known=list(self._known.values()),
                wait_seconds=wait,
            )
            answer = await self.send("POST", "work", request)
            reply = schema.WorkReply.model_validate_json(answer.content)
            news = self._take(reply)
            if reply.confirmed:
                await asyncio.sleep(_START_SECONDS)
            if wait and not news and time.monotonic() - begun < _HASTE_SECONDS:
                await asyncio.sleep(_HASTE_SECONDS)
            wait = self._registered.poll_seconds

    def _take(self, reply: schema.WorkReply) -> bool:
        """Take over the server's wishes; returns whether they are others than before."""
        if reply.assignments is None:
            for lease_id in reply.confirmed:
                self.confirmed(lease_id)
            return True
        before, self._known = self._known, {}
        for one in reply.assignments:
            known = before.get(one.lease_id)
            digest = known.environment_digest if known else ""
            self._known[one.lease_id] = schema.KnownAssignment(
                lease_id=one.lease_id,
                epoch=one.epoch,
                directive=one.directive,
                environment_digest=one.job.environment_digest if one.job else digest,
            )
            if known is None:
                self._newest_lease = max(self._newest_lease or one.lease_id, one.lease_id)
            if known is None or known.directive != one.directive or one.job is not None:
                self.wished(one)
        return self._known != before

    async def _beat(self) -> None:
        await asyncio.sleep(random.uniform(0, self._registered.heartbeat_seconds))
        deleted: list[UUID] = []
        while True:
            request = schema.HeartbeatRequest(
                incarnation=self._registered.incarnation,
                newest_lease=self._newest_lease,
                leases=self.reports(),
                directories=self.directories(),
                deleted_directories=deleted,
                providers=[],
                engines=[ENGINE],
                disk_total_bytes=1 << 40,
                disk_free_bytes=1 << 40,
                draining=False,
            )
            answer = await self.send("POST", "heartbeat", request)
            reply = schema.HeartbeatReply.model_validate_json(answer.content)
            deleted = reply.delete_directories
            await asyncio.sleep(self._registered.heartbeat_seconds)


class Fleet(threading.Thread):
    """Agents in an event loop and thread of their own. Use it as a context manager."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(name="simulated agents", daemon=True)
        self._platform = platform
        self.context = ssl.create_default_context()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._main: asyncio.Task[None]
        self._group: asyncio.TaskGroup
        self._problem: BaseException | None = None

    def __enter__(self) -> Fleet:
        self.start()
        self._ready.wait()
        return self

    def __exit__(self, *error: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._main.cancel)
        self.join(10)

    def call(self, what: Coroutine[Any, Any, Result], seconds: float = _PATIENCE_SECONDS) -> Result:
        """Run something in the agents' loop; returns its result.

        Raises:
            CannotMeasure: an agent failed meanwhile, or it took longer than ``seconds``.
        """
        try:
            future = asyncio.run_coroutine_threadsafe(what, self._loop)
        except RuntimeError:  # the loop has ended
            what.close()
            self.check()
            raise
        deadline = time.monotonic() + seconds
        while True:
            try:
                return future.result(0.2)
            except TimeoutError:
                self.check()
                if time.monotonic() > deadline:
                    future.cancel()
                    raise CannotMeasure(f"The agents took more than {seconds:.0f} s.") from None
            except ExceptionGroup as group:
                raise CannotMeasure(f"{_first(group)}") from group

    def check(self) -> None:
        """Raise when an agent failed, or a process of the platform ended."""
        self._platform.check()
        if self._problem is not None or not self.is_alive():
            raise CannotMeasure(f"The simulated agents failed: {self._problem!r}")

    async def add(self, agent: SimulatedAgent, token: str) -> asyncio.Task[None]:
        """Register an agent and let it live; for :meth:`call`."""
        await agent.register(token)
        return self._group.create_task(agent.live())

    def cancel(self, agent: asyncio.Task[None]) -> None:
        """End an agent that :meth:`add` let live, as if its machine were gone."""
        self._loop.call_soon_threadsafe(agent.cancel)

    def run(self) -> None:
        try:
            self._main = self._loop.create_task(self._live())
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # noqa: BLE001  told to the thread that waits
            self._problem = _first(error)
        finally:
            self._ready.set()
            self._loop.close()

    async def _live(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            self._ready.set()
            await asyncio.Event().wait()  # until cancelled


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
