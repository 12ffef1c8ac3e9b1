"""The REST API as its users call it; and what an upload is made of."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from config.launch import Platform
from config.processes import Failed, log_end

_TASK_SECONDS = 120
POLL_SECONDS = 0.1
PLAN_ENDS = {
    "apply_pending",
    "success",
    "planned_and_finished",
    "failed",
    "cancelled",
    "discarded",
}
APPLY_ENDS = {"applied", "failed", "cancelled", "interrupted", "apply_unknown"}


class Api:
    """The REST API of a platform; use it as a context manager."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._client = httpx.Client(
            base_url=f"{platform.url}/api/v1/",
            headers={"Authorization": f"Token {platform.token}"},
            timeout=30,
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """Return the JSON answer.

        Raises:
            Failed: the API refused, or did not answer; the message says why.
        """
        self._platform.check()
        try:
            answer = self._client.request(method, path, **arguments)
        except httpx.HTTPError as error:
            self._platform.check()
            raise Failed(f"{method} {path}: {error}\n{self._platform.log_end('web')}") from error
        if answer.is_error:
            raise Failed(f"{method} {path} was refused ({answer.status_code}): {_why(answer)}")
        return answer.json() if answer.content else None

    def upload(self, workspace: str, directory: Path) -> None:
        """Give a workspace, by id, a folder's files as its newest configuration."""
        self.call(
            "POST",
            f"workspaces/{workspace}/configurations/",
            content=pack(directory).getvalue(),
            headers={"Content-Type": "application/gzip"},
        )

    def log(self, task: str, phase: str, offset: int) -> tuple[str, int]:
        """Return what a log has from ``offset`` on, and the next offset."""
        part = self.call("GET", f"tasks/{task}/log/", params={"phase": phase, "offset": offset})
        return part["text"], part["next_offset"]

    def wait(
        self,
        task: str,
        ends: set[str],
        meanwhile: Callable[[], None],
        *,
        pause: float = POLL_SECONDS,
    ) -> dict[str, Any]:
        """Poll a task every ``pause`` seconds until its status is one of ``ends``."""
        deadline = time.monotonic() + _TASK_SECONDS
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.call("GET", f"tasks/{task}/")
            meanwhile()
            if found["status"] in ends:
                return found
            time.sleep(pause)
        raise Failed(
            f"The task is still {found['status']} after {_TASK_SECONDS} s. "
            f"{found['waiting_reason']}\n{self.agent_logs()}"
        )

    def agent_logs(self) -> str:
        """Return the ends of the local agents' logs."""
        logs = sorted(self._platform.directory.glob("agents/*/agent.log"))
        return "\n".join(map(log_end, logs))


def _why(answer: httpx.Response) -> str:
    """Return an error's explanation, a whole document if it has none."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text


def first_action_ms(task: dict[str, Any]) -> float | None:
    """Return the time from the confirmation to the first resource action."""
    value = task["confirm_to_first_action_ms"]
    return None if value is None else round(float(value), 1)


def pack(directory: Path) -> io.BytesIO:
    """Return a folder's files as a tar.gz, as an upload of a configuration is."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for file in sorted(directory.iterdir()):
            packed.add(file, file.name)
    return archive
