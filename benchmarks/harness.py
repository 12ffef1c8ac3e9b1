"""The platform that benchmarks measure: the real one, in a directory of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from benchmarks.result import CannotMeasure
from config.launch import BASE_DIR, Platform, free_port, fresh_directory
from config.processes import Failed

_DIRECTORY = BASE_DIR / "var" / "benchmarks"


@contextmanager
def running_platform(**environment: str) -> Iterator[Platform]:
    """Run the whole platform below ``var/benchmarks``, emptied before, for the body.

    Django is set up in this process for the platform's database.

    Args:
        environment: further variables of its processes.

    Raises:
        CannotMeasure: it did not start.
    """
    # People's limit; a benchmark polls.
    os.environ.update({"API_RATE": "100000/min", **environment})
    try:
        platform = Platform(fresh_directory(_DIRECTORY), free_port(), say=say)
        with platform.running():
            _set_up_django(platform)
            yield platform
    except Failed as error:
        raise CannotMeasure(f"{error}\nLogs: {_DIRECTORY / 'logs'}") from error


def _set_up_django(platform: Platform) -> None:
    import django

    # In this process every request of a client would be an event.
    os.environ.update(platform.environment | {"LOG_LEVEL": "WARNING"})
    django.setup()


def say(line: str) -> None:
    """Tell progress; standard output is for the result."""
    print(f"  {line}", file=sys.stderr, flush=True)


def resident_mb(pid: int) -> float:
    """Return the resident memory of one process in MB (10^6 bytes)."""
    return round(psutil.Process(pid).memory_info().rss / 1e6, 1)
