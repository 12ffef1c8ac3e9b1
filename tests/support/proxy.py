"""A proxy between agents, Terraform and the server that breaks what a test asks it to break.

It stands at the address that SLIPWAY_URL names. One request is one decision: the first live
fault that matches its method and path is applied to it, otherwise it passes through.
"""

from __future__ import annotations

import http.client
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: How long a test waits for something to come by, in seconds.
PATIENCE = 90.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


class Action(Enum):
    """What happens to a request."""

    REFUSE = "the connection ends before the server hears of it"
    CUT = "the server answers, and the connection ends before the answer"
    TWICE = "the server hears it twice, and its second answer is passed on"
    LATE = "the connection ends, and the server hears of it only when the fault is released"
    ANSWER = "the proxy answers with an error itself"
    HOLD_REQUEST = "the request waits in front of the server"
    HOLD_REPLY = "the server's answer waits in front of the client"


#: A fault of these has hit when the server has answered.
_ANSWERED = {Action.CUT, Action.TWICE, Action.LATE, Action.HOLD_REPLY}


@dataclass(eq=False)
class Fault:
    """One way to break requests; live until it has hit ``times`` requests, or is ended."""

    action: Action
    method: re.Pattern[str]
    path: re.Pattern[str]
    times: int | None
    status: int
    hits: int = 0
    statuses: list[int] = field(default_factory=list)  # what the server answered
    _hit: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def matches(self, method: str, path: str) -> bool:
        exhausted = self.times is not None and self.hits >= self.times
        return not exhausted and bool(self.method.fullmatch(method) and self.path.search(path))

    def note(self, *statuses: int) -> None:
        self.statuses += statuses
        self._hit.set()

    def wait(self, seconds: float = PATIENCE) -> None:
        """Wait until it hit a request; where the server hears of it, until that answered."""
        assert self._hit.wait(seconds), f"nothing came by for {self}"

    def release(self) -> None:
        """Let go what is held, and hold nothing more."""
        self.end()
        self._released.set()

    def hold(self) -> None:
        self._released.wait(PATIENCE)

    def end(self) -> None:
        """Heal: later requests pass."""
        self.times = self.hits

    def __str__(self) -> str:
        return f"{self.method.pattern} {self.path.pattern} ({self.action.value})"


@dataclass(frozen=True)
class Exchange:
    """A request that the server answered."""

    method: str
    path: str
    status: int


class FaultProxy:
    """Listens on a free port of loopback. Use it as a context manager."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.exchanges: list[Exchange] = []
        self.unheard: list[tuple[str, str]] = []  # what came while it was down
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._clients: set[socket.socket] = set()
        self._down = False
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for fault in self._faults:
            fault.release()
        self._server.shutdown()
        self._thread.join()
        self._close_clients()
        self._server.server_close()

    # --- what tests ask for ---------------------------------------------------------------

    def fault(
        self,
        action: Action,
        method: str = ".*",
        path: str = "",
        *,
        times: int | None = 1,
        status: int = 503,
    ) -> Fault:
        """Break the next requests whose method and path match.

        Args:
            method: a regular expression for all of it.
            path: a regular expression to be found in it, the query string included.
            times: how many requests; None: until :meth:`Fault.end`.
            status: the answer of Action.ANSWER.
        """
        fault = Fault(action, re.compile(method), re.compile(path), times, status)
        with self._lock:
            self._faults.append(fault)
        return fault

    @contextmanager
    def down(self) -> Iterator[None]:
        """Cut everything, and refuse every connection during the body."""
        self._down = True
        self._close_clients()
        try:
            yield
        finally:
            self._down = False

    def count(self, method: str, path: str = "", status: int | None = None) -> int:
        """Return how many matching requests the server answered."""
        pattern = re.compile(path)
        return sum(
            one.method == method and bool(pattern.search(one.path)) and status in (None, one.status)
            for one in list(self.exchanges)
        )

    # --- for the handler ------------------------------------------------------------------

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.matches(method, path):
                    fault.hits += 1
                    if fault.action not in _ANSWERED:
                        fault.note()
                    return fault
        return None

    @property
    def is_down(self) -> bool:
        return self._down

    def add(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.add(client)

    def remove(self, client: socket.socket) -> None:
        with self._lock:
            self._clients.discard(client)

    def _close_clients(self) -> None:
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it went by itself


class _Gone(Exception):
    """One of the two sides ended the connection."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A broken connection is what this is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.proxy.add(self.connection)

    def finish(self) -> None:
        self.server.proxy.remove(self.connection)
        try:
            super().finish()
        except OSError:
            pass  # the client went first

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def _forward(self) -> None:
        body = self._body()
        proxy = self.server.proxy
        if proxy.is_down:
            proxy.unheard.append((self.command, self.path))
            self.close_connection = True
            return
        fault = proxy.take(self.command, self.path)
        action = fault.action if fault else None
        if fault and action is Action.HOLD_REQUEST:
            fault.hold()
        if fault and action is Action.ANSWER:
            self._answer(fault.status, [("Content-Type", "text/plain")], b"broken on purpose\n")
            return
        if action is Action.REFUSE:
            self.close_connection = True
            return
        if fault and action is Action.LATE:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            fault.hold()
        try:
            first = [self._ask(body, alone=True)[0]] if action is Action.TWICE else []
            status, headers, content = self._ask(body, alone=action is Action.LATE)
        except (_Gone, OSError, http.client.HTTPException):
            self.close_connection = True
            return
        proxy.exchanges.append(Exchange(self.command, self.path, status))
        if fault:
            fault.note(*first, status)
        if fault and action is Action.HOLD_REPLY:
            fault.hold()
        if action in {Action.CUT, Action.LATE} or proxy.is_down:
            self.close_connection = True
            return
        self._answer(status, headers, content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LOCK = do_UNLOCK = _forward

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _ask(self, body: bytes, *, alone: bool = False) -> tuple[int, list[tuple[str, str]], bytes]:
        """Send the request to the server; returns status, headers and content.

        Args:
            alone: whatever becomes of the client.
        """
        upstream = http.client.HTTPConnection(
            "127.0.0.1", self.server.proxy.upstream_port, timeout=PATIENCE
        )
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    upstream.putheader(name, value)
            upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body)
            if not alone:
                self._wait_for_answer(upstream)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _wait_for_answer(self, upstream: http.client.HTTPConnection) -> None:
        """Wait as long as both sides are there, so that a long poll ends with its client."""
        assert upstream.sock is not None
        ready, _, _ = select.select([upstream.sock, self.connection], [], [], PATIENCE)
        if upstream.sock not in ready and self.connection in ready:
            if not self.connection.recv(1, socket.MSG_PEEK):
                raise _Gone
            select.select([upstream.sock], [], [], PATIENCE)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        try:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True
