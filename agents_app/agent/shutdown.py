"""SIGTERM drains, a second signal interrupts Terraform once; an apply is never cut."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

log = logging.getLogger("agent.shutdown")


class Signals:
    """Counts the signals that ask this process to end."""

    def __init__(self) -> None:
        self.count = 0
        self.asked = threading.Event()

    def install(self) -> None:
        """Listen to SIGTERM and SIGINT; call it in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.asked.set()
        log.info("received %s", signal.Signals(number).name)
