"""What lies ready for a plan that waits, brought about and waited for by a benchmark.

Django is set up for the platform's database (`harness.running_platform`).
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.bench import PATIENCE_SECONDS, Bench
from benchmarks.result import CannotMeasure

_PAUSE = 0.01


def wait_until_held(task: dict[str, Any]) -> None:
    """Wait until Terraform waits at its gate for the task."""
    wait(lambda: _held(task) is True, "Terraform is not held")


def kill_held(bench: Bench, task: dict[str, Any]) -> None:
    """Kill the held Terraform, as a machine short of memory does; the directory stays."""
    wait_until_held(task)
    for folder in (bench.directory(task) / "run").glob("hold*"):
        _kill(int((folder / "pid").read_text()))
    wait(lambda: _held(task) is False, "nobody noticed that the held Terraform is gone")


def restored_elsewhere(bench: Bench, task: dict[str, Any]) -> None:
    """Take slot and directory away; wait until a warm-up has restored and held it."""
    from pods_app.leases import release_hold
    from pods_app.models import Lease
    from tasks_app.actors import Actor

    wait_until_held(task)
    lease = Lease.objects.get(task=task["id"], ended_at=None)
    actor = Actor.system("benchmark")
    wait(  # it does not wait for a row that somebody has locked
        lambda: release_hold(lease.pk, actor=actor, reason="benchmark", keep_directory=False),
        "the slot is not given back",
    )
    wait(
        lambda: (
            Lease.objects.filter(task=task["id"], ended_at=None, held=True)
            .exclude(pk=lease.pk)
            .exists()
        ),
        "nobody warms the plan again",
    )


def cool(bench: Bench, task: dict[str, Any], *, mirror: bool) -> None:
    """Leave nothing ready: keep warm no longer, delete the directory, perhaps the mirror too."""
    from pods_app.models import Lease
    from tasks_app.models import Task
    from tasks_app.models.base import ClockTimestamp

    Task.objects.filter(pk=UUID(task["id"])).update(keep_warm_until=ClockTimestamp())
    leases = Lease.objects.filter(task=task["id"], ended_at=None)
    wait(lambda: not leases.exists(), "the plan is kept warm")
    shutil.rmtree(bench.directory(task), ignore_errors=True)
    if mirror:
        bench.remove_mirror()


def _held(task: dict[str, Any]) -> bool | None:
    from pods_app.models import Lease

    return (
        Lease.objects.filter(task=task["id"], ended_at=None).values_list("held", flat=True).first()
    )


def _kill(pid: int) -> None:
    if Path(f"/proc/{pid}").exists():
        os.kill(pid, signal.SIGKILL)


def wait(
    condition: Callable[[], bool],
    what: str,
    *,
    pause: float = _PAUSE,
    patience: float = PATIENCE_SECONDS,
) -> None:
    """Wait until the condition is true; it is asked every ``pause`` seconds, for ``patience``.

    Raises:
        CannotMeasure: it did not become true; ``what`` says what is wrong.
    """
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise CannotMeasure(f"{what} after {patience:.0f} s.")
        time.sleep(pause)
