"""The real agent program on a machine whose clock is wrong, and may be set at any moment.

``SLIPWAY_TEST_CLOCK`` names a file with the seconds by which every reading of the wall clock is
wrong; it is read again at each. Monotonic clocks, which no one sets, are as they are.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

CLOCK = "SLIPWAY_TEST_CLOCK"


def _skew(file: Path) -> None:
    genuine, genuine_ns = time.time, time.time_ns
    genuine_localtime, genuine_gmtime = time.localtime, time.gmtime

    def wrong_by() -> float:
        return float(file.read_text())

    def wrong_time() -> float:
        return genuine() + wrong_by()

    time.time = wrong_time
    time.time_ns = lambda: genuine_ns() + int(wrong_by() * 1e9)
    time.localtime = lambda seconds=None: genuine_localtime(
        wrong_time() if seconds is None else seconds
    )
    time.gmtime = lambda seconds=None: genuine_gmtime(wrong_time() if seconds is None else seconds)


if __name__ == "__main__":
    # Before anything of the program takes the functions by name.
    _skew(Path(os.environ[CLOCK]))
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", "run_agent", *sys.argv[1:]])
