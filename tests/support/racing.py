"""Real races: threads with connections of their own that start together."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection

from tasks_app.exceptions import SlipwayError


def race(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run all at once; returns each result, or the exception it raised, in order."""
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)

    def run(index: int) -> None:
        try:
            barrier.wait()
            results[index] = functions[index]()
        except Exception as error:  # noqa: BLE001  the test judges it
            results[index] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def soon(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return the same call some milliseconds later, so that either side wins at times.

    The loaded machine decides how often; no test depends on it.
    """

    def later() -> Any:
        time.sleep(random.choice([0.003, 0.012, 0.05]) * random.random())
        return function()

    return later


def wait_until_somebody_waits_for_a_row() -> None:
    """Return when a connection of this database waits for a lock that another has."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits for a row")


def no_surprise(results: Sequence[Any]) -> None:
    """Check that refusals have names; anything else is a bug, a deadlock above all."""
    errors = [r for r in results if isinstance(r, Exception)]
    unexpected = [error for error in errors if not isinstance(error, SlipwayError)]
    assert not unexpected, unexpected
