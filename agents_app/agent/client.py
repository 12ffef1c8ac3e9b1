"""How the agent speaks to the server: every call may be repeated, and is.

A call that finds no server, or one in trouble (5xx, 429), is tried again with growing,
scattered pauses for as long as its :class:`Patience` lasts. Any other refusal is the server's
last word and is raised as :class:`Refused`; only 401 is answered with a new registration.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx

from agents_app.agent.identity import Identity
from agents_app.agent.options import Options
from agents_app.schema import (
    API_PREFIX,
    INCARNATION_HEADER,
    HeartbeatReply,
    HeartbeatRequest,
    Message,
    RegisterReply,
    RegisterRequest,
    WorkReply,
    WorkRequest,
)

log = logging.getLogger("agent.client")

_jitter = random.Random()

_PAUSE_SECONDS, _PAUSE_SECONDS_MAX = 0.1, 5.0
#: After a 401 that a new registration did not cure.
_UNWELCOME_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
_POLL_GRACE_SECONDS = 15.0


class Refused(Exception):
    """The server's last word on a call; ``kind`` is the problem's type without its prefix."""

    def __init__(self, status: int, kind: str, detail: str, extra: Mapping[str, Any]) -> None:
        super().__init__(detail or kind)
        self.status, self.kind, self.detail, self.extra = status, kind, detail or kind, extra


class Unreachable(Exception):
    """The server did not answer for as long as the call had patience."""


@dataclass
class Patience:
    """How long a call is repeated: for ``seconds`` (None: for ever), or until it is ended."""

    seconds: float | None = None
    _ended: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Give up soon."""
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def pause(self, seconds: float) -> None:
        self._ended.wait(seconds)


class Server:
    """The agents' API of one server. Safe for threads; connections are kept open.

    Args:
        about: makes the message that registers this agent.
        on_incarnation: called with the incarnation of every reply.
        transport: instead of the network.
    """

    def __init__(
        self,
        options: Options,
        identity: Identity,
        about: Callable[[], RegisterRequest],
        on_incarnation: Callable[[UUID], None],
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._options, self.identity = options, identity
        self._about, self._on_incarnation = about, on_incarnation
        self._registering = threading.Lock()
        self._http = httpx.Client(
            base_url=options.url.rstrip("/") + API_PREFIX,
            verify=_verification(options),
            transport=transport,
            headers={"User-Agent": "slipway-agent"},
            limits=httpx.Limits(max_keepalive_connections=16, keepalive_expiry=75),
        )

    # --- the agent itself -----------------------------------------------------------------

    def register(self) -> RegisterReply:
        """Register, once.

        Raises:
            Refused: the pool token is not valid, or the message is not.
            httpx.HTTPError: the server is not reachable.
            AgentError: there is no pool token.
        """
        response = self._http.post(
            "register",
            content=self._about().model_dump_json(),
            headers={"Authorization": f"Bearer {self._options.read_pool_token()}"},
            timeout=_timeout(READ_SECONDS),
        )
        _raise_for_status(response)
        reply = RegisterReply.model_validate_json(response.content)
        self.identity.registered(reply)
        self._on_incarnation(reply.incarnation)
        return reply

    def heartbeat(self, message: HeartbeatRequest, patience: Patience) -> HeartbeatReply:
        """Say how the agent is."""
        return self.post("heartbeat", message, HeartbeatReply, patience)

    def work(self, message: WorkRequest, patience: Patience) -> WorkReply:
        """Return the server's wishes as soon as they differ from what the message knows."""
        return self.post(
            "work", message, WorkReply, patience, read=message.wait_seconds + _POLL_GRACE_SECONDS
        )

    # --- any call -------------------------------------------------------------------------

    def post(
        self,
        path: str,
        message: Message,
        answer: type[Any],
        patience: Patience,
        *,
        params: Mapping[str, Any] | None = None,
        read: float = READ_SECONDS,
    ) -> Any:
        """Send a message and return the answer.

        Raises:
            Refused, Unreachable: as the module says.
        """
        body = message.model_dump_json().encode()
        with self.send("POST", path, lambda: body, patience, params=params, read=read) as response:
            return answer.model_validate_json(response.read())

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        content: Callable[[], Any],
        patience: Patience,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        read: float = READ_SECONDS,
        stream: bool = False,
    ) -> Iterator[httpx.Response]:
        """Send a request until it is answered whole, for the body to read.

        Args:
            content: makes the request's body anew for each attempt.
            read: how long the server may be silent, in seconds.
            stream: leave the answer's body, which may be large and be cut off, to the caller.
        """
        response = self._answer(method, path, content, patience, params, headers, read, stream)
        try:
            yield response
        finally:
            response.close()

    def _answer(
        self,
        method: str,
        path: str,
        content: Callable[[], Any],
        patience: Patience,
        params: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        read: float,
        stream: bool,
    ) -> httpx.Response:
        begun, attempt = time.monotonic(), 0
        while True:
            token, why, least = self.identity.token, "", 0.0
            try:
                request = self._http.build_request(
                    method,
                    path,
                    content=content(),
                    params=params,
                    headers={**(headers or {}), "Authorization": f"Bearer {token}"},
                    timeout=_timeout(read),
                )
                response = self._http.send(request, stream=stream)
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {error}"
            else:
                if response.is_success:
                    self._note_incarnation(response)
                    return response
                why, least = self._judge(response, token)
            attempt += 1
            pause = max(least, _pause(attempt))
            spent = time.monotonic() - begun
            late = patience.seconds is not None and spent + pause > patience.seconds
            if patience.ended or late:
                raise Unreachable(f"The server did not answer within {spent:.0f} s ({why}).")
            log.log(
                logging.WARNING if attempt == 5 or attempt % 20 == 0 else logging.DEBUG,
                "%s %s: attempt %d failed: %s",
                *(method, path.rpartition("/")[2], attempt, why),
            )
            patience.pause(pause)

    def _judge(self, response: httpx.Response, token: str) -> tuple[str, float]:
        """Return why to try again and after how many seconds at least.

        Raises:
            Refused: trying again is useless.
        """
        try:
            response.read()
        except httpx.HTTPError as error:
            return f"{response.status_code}, then {type(error).__name__}", 0.0
        finally:
            response.close()
        status = response.status_code
        if status == 401:
            return self._renew(token)
        if status == 429 or status >= 500:
            return f"status {status}", _retry_after(response)
        self._note_incarnation(response)
        _raise_for_status(response)
        return f"status {status}", _UNWELCOME_SECONDS  # a redirect: no server of ours

    def _renew(self, refused: str) -> tuple[str, float]:
        """Register again because a token was refused, unless another thread just did."""
        with self._registering:
            if self.identity.token != refused:
                return "a new token came meanwhile", 0.0
            log.warning("the server does not accept this agent's token; registering again")
            try:
                self.register()
            except Exception as error:  # noqa: BLE001  whatever it was, try again later
                return f"registering again failed: {error}", _UNWELCOME_SECONDS
            return "registered again", 0.0

    def _note_incarnation(self, response: httpx.Response) -> None:
        try:
            self._on_incarnation(UUID(response.headers.get(INCARNATION_HEADER, "")))
        except ValueError:
            pass  # a proxy's answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _verification(options: Options) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=options.ca_bundle) if options.ca_bundle else True


def _timeout(read: float) -> httpx.Timeout:
    return httpx.Timeout(read, connect=_CONNECT_SECONDS, pool=None)


def _pause(attempt: int) -> float:
    """Return how long to wait after a failed attempt: growing, and scattered."""
    longest = min(_PAUSE_SECONDS * 2.0 ** (attempt - 1), _PAUSE_SECONDS_MAX)
    return longest * _jitter.uniform(0.5, 1.0)


def _retry_after(response: httpx.Response) -> float:
    try:
        return min(float(response.headers.get("Retry-After", "0")), 60.0)
    except ValueError:
        return 0.0


def _raise_for_status(response: httpx.Response) -> None:
    """Raise Refused for what is not a success."""
    if response.is_success or response.is_redirect:
        return
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    raise Refused(
        response.status_code,
        str(problem.get("type", "")).removeprefix("urn:slipway:"),
        str(problem.get("detail") or f"The server answered with status {response.status_code}."),
        problem,
    )
