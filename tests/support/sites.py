"""A workspace as a person uses it: plan, wait, confirm, look."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from pods_app.leases import unended
from pods_app.models import ApplyPermit, Pool, PoolAssignment
from tasks_app.actors import Actor
from tasks_app.models import Event, StateLock, Task, Workspace
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.configurations import store_configuration
from tasks_app.services.logs import read_log
from tasks_app.services.state import read_state
from tasks_app.services.state_position import current_version
from tasks_app.services.tasks import create_task
from tasks_app.services.variables import set_variable
from tasks_app.services.workspaces import create_workspace, default_project
from tasks_app.states import FINAL, WarmupStatus
from tests.support.configurations import archive
from tests.support.programs import PATIENCE, wait_until

if TYPE_CHECKING:
    from tests.support.platform import Platform

_numbers = itertools.count(1)


class Site:
    """One workspace of a platform."""

    def __init__(
        self,
        platform: Platform,
        files: Mapping[str, str | bytes],
        *,
        pool: Pool | None = None,
        **fields: Any,
    ) -> None:
        self.platform = platform
        self.actor = Actor.person(platform.admin)
        self.workspace: Workspace = create_workspace(
            actor=self.actor, project=default_project(), name=f"site-{next(_numbers)}", **fields
        )
        if pool is not None:
            PoolAssignment.objects.create(workspace=self.workspace, pool=pool)
        self.configure(files)

    def configure(self, files: Mapping[str, str | bytes]) -> None:
        """Upload another configuration."""
        from io import BytesIO

        store_configuration(
            actor=self.actor,
            workspace=self.workspace,
            archive=BytesIO(archive(files)),
            source="upload",
        )

    def set(self, key: str, value: str, **fields: Any) -> None:
        """Set a variable of the workspace."""
        set_variable(actor=self.actor, workspace=self.workspace, key=key, value=value, **fields)

    # --- running --------------------------------------------------------------------------

    def start(self, **fields: Any) -> Task:
        """Queue a plan and return at once."""
        return create_task(actor=self.actor, workspace=self.workspace, **fields)

    def plan(self, **fields: Any) -> Task:
        """Plan, until the plan waits for a person and its agent said what lies ready."""
        return self.ready(self.wait(self.start(**fields), "apply_pending"))

    def ready(self, task: Task) -> Task:
        """Wait until an agent holds Terraform for a task, or said why it does not."""
        told = unended().filter(task=task).exclude(held=False, hold_reason="")
        wait_until(told.exists, f"task #{task.number} is ready")
        return task

    def lose_directory(self, task: Task) -> None:
        """Delete a waiting plan's work directory, until its agent told that nothing is ready."""
        shutil.rmtree(self.directory(task))
        failed = Task.objects.filter(pk=task.pk, warmup_status=WarmupStatus.FAILED)
        wait_until(failed.exists, "the agent tells")
        task.refresh_from_db()
        assert "not on this agent any more" in task.warmup_error

    def warm_without_pause(self, task: Task) -> None:
        """Let the next attempt to make a plan ready come at once."""
        Task.objects.filter(pk=task.pk, warmup_retry_at__isnull=False).update(
            warmup_retry_at=ClockTimestamp()
        )

    def confirm(self, task: Task) -> httpx.Response:
        """Confirm by the REST API; returns its answer."""
        task.refresh_from_db()
        return self.platform.request(
            "POST", f"tasks/{task.pk}/apply/", json={"plan_hash": task.plan_hash}
        )

    def confirmed(self, task: Task) -> Task:
        """Confirm, and be sure of it."""
        answer = self.confirm(task)
        assert answer.is_success, answer.text
        return task

    def apply(self, task: Task, *, ends: str = "applied") -> Task:
        """Confirm, until the apply ended like this."""
        return self.wait(self.confirmed(task), ends)

    def cancel(self, task: Task, *, force: bool = False) -> None:
        """Cancel by the REST API."""
        answer = self.platform.request("POST", f"tasks/{task.pk}/cancel/", json={"force": force})
        assert answer.is_success, answer.text

    def wait(self, task: Task, *statuses: str, seconds: float = PATIENCE) -> Task:
        """Wait until the task has one of the statuses.

        Raises:
            AssertionError: it ended otherwise, or went on for too long; with its story.
        """

        def arrived() -> bool:
            task.refresh_from_db()
            if task.status in FINAL and task.status not in statuses:
                raise AssertionError(f"{' or '.join(statuses)} was expected.\n{story(task)}")
            return task.status in statuses

        try:
            wait_until(arrived, f"task #{task.number} is {' or '.join(statuses)}", seconds)
        except AssertionError as error:
            if "\n" in str(error):
                raise
            raise AssertionError(f"{error}\n{story(task)}") from None
        return task

    # --- looking --------------------------------------------------------------------------

    def directory(self, task: Task) -> Path:
        """Return the task's work directory."""
        return self.platform.work / "workspaces" / str(self.workspace.pk) / str(task.pk)

    @property
    def state(self) -> dict[str, Any]:
        """The current state; empty if there is none."""
        version = current_version(self.workspace)
        return json.loads(read_state(version)) if version else {}

    @property
    def resources(self) -> list[str]:
        """The addresses in the state, of instances that exist."""
        return sorted(
            f"{resource['type']}.{resource['name']}"
            for resource in self.state.get("resources", [])
            for _ in resource["instances"]
        )

    @property
    def locked(self) -> bool:
        return StateLock.objects.filter(workspace=self.workspace, released_at=None).exists()


def wait_for_expiry(task: Task) -> None:
    """Wait until the permit of a task has expired."""
    expired = ApplyPermit.objects.filter(task=task, expires_at__lt=ClockTimestamp())
    wait_until(expired.exists, "the permit expired")


def log(task: Task, phase: str) -> str:
    """Return a stored log."""
    return read_log(task=task, phase=phase, offset=0).data.decode()


def events(task: Task) -> list[str]:
    """Return the kinds of the task's events, oldest first."""
    return list(
        Event.objects.filter(task=task).order_by("created_at").values_list("kind", flat=True)
    )


def story(task: Task) -> str:
    """Return all that the database says of a task, for a failed test."""
    lines = [f"task #{task.number} is {task.status}: {task.error or task.waiting_reason}"]
    for event in Event.objects.filter(task=task).order_by("created_at"):
        lines.append(f"  {event.kind:22} {event.actor}: {event.cause}")
    for phase in ("plan", "apply"):
        try:
            text = log(task, phase)
        except Exception as error:  # noqa: BLE001  the story goes on without it
            text = f"(cannot be read: {error})"
        if text:
            lines += [f"--- {phase} log", text[-3000:]]
    return "\n".join(lines)
