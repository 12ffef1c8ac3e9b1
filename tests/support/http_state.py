"""A tiny server of Terraform's http backend, which fails when told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Whoever has the lock; Terraform 1.15 waits only for somebody who is named.
_HOLDER = b'{"ID": "another", "Who": "somebody"}'


@dataclass
class HttpState:
    """``replies`` maps a method to the status it is answered with instead."""

    address: str = ""
    state: bytes = b""
    replies: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)


@contextmanager
def serve_state() -> Iterator[HttpState]:
    """Serve a state for the body."""
    served = HttpState()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, status: int, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            served.calls.append(self.command)
            if self.command in served.replies:
                self._answer(served.replies[self.command], _HOLDER)
            elif self.command == "GET":
                self._answer(200 if served.state else 404, served.state)
            else:
                if self.command == "POST":
                    served.state = body
                self._answer(200)

        do_GET = do_POST = do_LOCK = do_UNLOCK = _any

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.address = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
