"""A pool as people use it through the REST API, and waiting until something is seen there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from config.client import Api
from config.launch import Platform
from config.processes import Failed

Say = Callable[[str], None]
#: What a look returns: whether it is as it should be, and what was seen.
Look = Callable[[], tuple[bool, str]]

_PATIENCE_SECONDS = 180.0
_POLL_SECONDS = 0.4
_BAD_ENDS = {"failed", "cancelled", "discarded", "interrupted", "apply_unknown"}
_LOG_LINES = 20


class PoolClient:
    """A pool, its pods and its tasks.

    Args:
        say: gets a line whenever something else is seen while something is waited for.
    """

    def __init__(self, platform: Platform, api: Api, say: Say, name: str) -> None:
        self._platform, self._api, self._say = platform, api, say
        self.name, self.id = name, ""

    # --- doing ----------------------------------------------------------------------------

    def create(self, **fields: Any) -> None:
        """Create the pool."""
        self.id = self._api.call("POST", "pools/", json={"name": self.name, **fields})["id"]

    def add_workspace(self, name: str, configuration: Path, variables: Mapping[str, str]) -> str:
        """Make a workspace of the pool with a folder's files in it; returns its id."""
        body = {"name": name, "pool": self.name}
        workspace: str = self._api.call("POST", "workspaces/", json=body)["id"]
        self._api.upload(workspace, configuration)
        for key, value in variables.items():
            row = {"key": key, "value": value, "category": "terraform"}
            self._api.call("POST", f"workspaces/{workspace}/variables/", json=row)
        return workspace

    def plan(self, workspace: str) -> str:
        """Ask for a plan; returns the task's id."""
        body = {"type": "plan_and_apply"}
        task: str = self._api.call("POST", f"workspaces/{workspace}/plan/", json=body)["id"]
        return task

    def confirm(self, task: str) -> None:
        """Confirm the plan of a task, by id."""
        body = {"plan_hash": self.task(task)["plan_hash"], "comment": "by scripts/demo --story"}
        self._api.call("POST", f"tasks/{task}/apply/", json=body)

    def discard(self, task: str) -> None:
        """Say no to the plan of a task, by id."""
        self._api.call("POST", f"tasks/{task}/discard/", json={"comment": "the story ends"})

    # --- looking --------------------------------------------------------------------------

    def pods(self) -> list[dict[str, Any]]:
        """Return the pods that are not gone."""
        return self._list("pods/")

    def tasks(self) -> list[dict[str, Any]]:
        """Return its tasks, newest first."""
        return self._list("tasks/")

    def waiting(self) -> list[dict[str, Any]]:
        """Return the tasks whose plan waits for a person, oldest first."""
        return [task for task in reversed(self.tasks()) if task["status"] == "apply_pending"]

    def task(self, task: str) -> dict[str, Any]:
        """Return a task's own document."""
        found: dict[str, Any] = self._api.call("GET", f"tasks/{task}/")
        return found

    def scaling(self) -> dict[str, Any]:
        """Return what the autoscaler wants, and why."""
        found: dict[str, Any] = self._api.call("GET", f"pools/{self.id}/")["scaling"]
        return found

    def freeze_state(self) -> dict[str, Any]:
        """Return how it stands to its freezes."""
        found: dict[str, Any] = self._api.call("GET", f"pools/{self.id}/freeze-state/")
        return found

    def held_by_pod(self) -> dict[str, list[dict[str, Any]]]:
        """Return the waiting tasks whose Terraform is held, by the name of their pod."""
        found = defaultdict(list)
        for task in map(self.task, (task["id"] for task in self.waiting())):
            if (task["forecast"] or {}).get("path") == "held":
                found[task["agent"]["pod"]].append(task)
        return dict(found)

    def _list(self, path: str) -> list[dict[str, Any]]:
        query = {"pool": self.name, "page_size": 200}
        found: list[dict[str, Any]] = self._api.call("GET", path, params=query)["results"]
        return found

    # --- waiting --------------------------------------------------------------------------

    def until(self, what: str, look: Look) -> None:
        """Look until it is as it should be.

        Raises:
            Failed: it took too long; with what was seen last, and the end of the right log.
        """
        deadline, last = time.monotonic() + _PATIENCE_SECONDS, ""
        while True:
            done, seen = look()
            if done:
                return
            if seen != last:
                self._say(f"  … {seen}")
                last = seen
            if time.monotonic() > deadline:
                raise self.failed(f"{what}: not within {_PATIENCE_SECONDS:.0f} s, but {seen}")
            time.sleep(_POLL_SECONDS)

    def stays(self, seconds: float, look: Look) -> None:
        """Look for so long, and see each time that it is as it should be.

        Raises:
            Failed: once it was not.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            as_wanted, seen = look()
            self.check(as_wanted, seen)
            time.sleep(_POLL_SECONDS)

    def until_tasks(self, tasks: Collection[str], *statuses: str) -> None:
        """Wait until each of the tasks, by id, has one of the statuses.

        Raises:
            Failed: one ended otherwise, with the end of its log; or it took too long.
        """

        def look() -> tuple[bool, str]:
            found = [task for task in self.tasks() if task["id"] in tasks]
            self._end_if_bad(found, statuses)
            done = sum(task["status"] in statuses for task in found)
            return done == len(tasks), f"{done} of {len(tasks)} {statuses[0]}"

        self.until(f"{len(tasks)} tasks are {statuses[0]}", look)

    def until_held(self, number: int) -> None:
        """Wait until Terraform is held for so many waiting plans.

        Raises:
            Failed: a plan ended otherwise, with the end of its log; or it took too long.
        """

        def look() -> tuple[bool, str]:
            tasks = self.check_tasks()
            waiting = sum(task["status"] == "apply_pending" for task in tasks)
            held = sum(pod["held_applies"] for pod in self.pods())
            return held == waiting == number, f"{waiting} plans wait for a person, {held} held"

        self.until(f"{number} applies are held", look)
        held = sum(map(len, self.held_by_pod().values()))
        self.check(held == number, f"the forecast of {held} tasks is “held”, not of {number}")

    def check_tasks(self) -> list[dict[str, Any]]:
        """Return its tasks, newest first.

        Raises:
            Failed: one ended as none should, with the end of its log.
        """
        tasks = self.tasks()
        self._end_if_bad(tasks, ())
        return tasks

    def _end_if_bad(self, tasks: Collection[dict[str, Any]], wanted: Collection[str]) -> None:
        for task in tasks:
            if task["status"] in _BAD_ENDS - set(wanted):
                phase = "apply" if task["confirmed_at"] else "plan"
                text, _ = self._api.log(task["id"], phase, 0)
                end = "\n".join(text.splitlines()[-_LOG_LINES:])
                raise Failed(
                    f"the task of {task['workspace_name']} is {task['status']}: {task['error']}\n"
                    f"The end of its {phase} log:\n{end}"
                )

    # --- failing --------------------------------------------------------------------------

    def check(self, holds: bool, sentence: str) -> None:
        """Raise Failed with what was seen, and the end of the right log, unless it holds."""
        if not holds:
            raise self.failed(sentence)

    def failed(self, sentence: str) -> Failed:
        """Return the failure of a step, with what pool, pods and logs say."""
        facts = [sentence]
        if self.id:
            trouble = self._api.call("GET", f"pools/{self.id}/")["trouble"]
            facts += [f"Pool {self.name}: {trouble}"] * bool(trouble)
            facts += [
                f"Pod {pod['pod_name']} is {pod['phase']}: {pod['phase_reason']}"
                for pod in self.pods()
                if pod["phase_reason"]
            ]
            facts += [
                f"Task of {task['workspace_name']} is {task['status']}: {task['waiting_reason']}"
                for task in self.tasks()
                if task["waiting_reason"]
            ]
        facts += [self._platform.log_end("controller"), self._api.agent_logs()]
        return Failed("\n".join(filter(None, facts)))
