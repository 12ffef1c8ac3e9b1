"""A phase's log and steps on their way to the server, while the run goes on and after it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from agents_app.agent.client import Patience, Refused, Unreachable
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.schema import Phase, ProgressRequest, Step

log = logging.getLogger("agent.uploads")

#: How often a running phase's log is looked at, in seconds.
_LOOK_SECONDS = 0.25
#: How long the log waits after a failure that nobody foresaw, in seconds.
_BACK_OFF_SECONDS = 10.0
#: Log bytes of one request.
_CHUNK_BYTES = 256 * 1024


class Uploader:
    """Sends a log file by offset of its redacted bytes; what is sent twice is stored once."""

    def __init__(self, calls: LeaseCalls, phase: Phase, path: Path) -> None:
        self._calls, self._phase, self._path = calls, phase, path
        self._offset = 0
        self._steps: list[Step] = []
        self._lock = threading.Lock()
        self._patience = Patience()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"upload {phase}", daemon=True)

    def start(self) -> None:
        """Send what there is, again and again, in a thread."""
        self._thread.start()

    def note(self, step: Step) -> None:
        """Send a step soon."""
        with self._lock:
            self._steps.append(step)

    def close(self) -> None:
        """Stop the thread. What is not sent yet is for :meth:`complete`."""
        self._closing.set()
        self._patience.end()
        if self._thread.is_alive():
            self._thread.join()

    def complete(self, patience: Patience | None = None) -> None:
        """Send the log to its end, however long the server is away.

        Raises:
            Refused: the lease is over.
            Unreachable: ``patience`` ended.
        """
        self._send_log(patience or Patience())

    @property
    def size(self) -> int:
        """Bytes of the log on disk."""
        return self._path.stat().st_size if self._path.exists() else 0

    def rewind(self, offset: int) -> None:
        """Continue where the server says it has a gap."""
        self._offset = offset

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            try:
                self._send_log(self._patience)
                self._send_steps()
            except Unreachable:
                return  # closing
            except Refused as refusal:
                # The worker hears the same when it reports the phase's end.
                log.warning("the server refuses the log of this lease: %s", refusal.detail)
                return
            except Exception:
                log.exception("the log of this %s waits; it is tried again", self._phase)
                self._closing.wait(_BACK_OFF_SECONDS)

    def _send_log(self, patience: Patience) -> None:
        while data := self._read():
            before = self._offset
            self._offset = self._calls.put_log(self._phase, before, data, patience)
            if self._offset <= before:
                return  # it has less than was sent before: the phase's end will tell

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                return file.read(_CHUNK_BYTES)
        except FileNotFoundError:
            return b""

    def _send_steps(self) -> None:
        with self._lock:
            steps, self._steps = self._steps, []
        if steps:
            self._calls.progress(ProgressRequest(phase=self._phase, steps=steps), self._patience)
