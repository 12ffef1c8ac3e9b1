"""The real agent program, that dies at a chosen record of its journals, as at a power cut.

Every step of an agent is a record on disk before anything follows from it. This counts them:

``SLIPWAY_TEST_RECORDS``  a file that gets the name of each record, one a line
``SLIPWAY_TEST_FATAL``    the number of the record, from 1, after which the process kills itself
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from django.core.management import execute_from_command_line

from agents_app.agent.journal import LeaseJournal

RECORDS, FATAL = "SLIPWAY_TEST_RECORDS", "SLIPWAY_TEST_FATAL"
_lock = threading.Lock()


def _count(records: Path, fatal: int) -> None:
    genuine = LeaseJournal.record

    def record(self: LeaseJournal, event: str, **facts: Any) -> None:
        genuine(self, event, **facts)
        with _lock:
            with records.open("a") as file:
                file.write(" ".join([event, str(facts.get("name", facts.get("what", "")))]) + "\n")
            if len(records.read_text().splitlines()) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

    LeaseJournal.record = record  # type: ignore[method-assign]


if __name__ == "__main__":
    _count(Path(os.environ[RECORDS]), int(os.environ.get(FATAL, "0")))
    execute_from_command_line(["manage.py", "run_agent", *sys.argv[1:]])
