"""`scripts/demo`: the main job from start to end, through the HTTP API.

    python -m config.demo [--json]

It starts an installation of its own below ``var/demo``, makes a workspace, plans, confirms,
applies, and shows how long the apply took to start: from a Terraform that was held since the plan,
and once more by the normal path. Exit code 0 only if the apply succeeded and its resource exists.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from config.launch import BASE_DIR, Platform, free_port, fresh_directory
from config.processes import Failed, log_end

EXAMPLE = BASE_DIR / "examples" / "hello"
_TASK_SECONDS = 120
_POLL_SECONDS = 0.1
#: A Terraform that is not held by then is not waited for: the apply starts all the same.
_HELD_SECONDS = 15.0
PLAN_ENDS = {
    "apply_pending",
    "success",
    "planned_and_finished",
    "failed",
    "cancelled",
    "discarded",
}
APPLY_ENDS = {"applied", "failed", "cancelled", "interrupted", "apply_unknown"}


_SGR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Story:
    """What happened; the document of ``--json``."""

    status: str
    path: str
    path_reason: str
    confirm_to_first_action_ms: float | None
    normal_path_ms: float | None
    normal_path_status: str
    resource_exists: bool
    resource_in_state: bool
    total_seconds: float

    @property
    def ok(self) -> bool:
        """Whether the apply succeeded and the resource exists."""
        return self.status == "applied" and self.resource_exists and self.resource_in_state


class Api:
    """The REST API, as its users call it."""

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
            Failed: the API refused; the message is its explanation.
        """
        self._platform.check()
        answer = self._client.request(method, path, **arguments)
        if answer.is_error:
            raise Failed(f"{method} {path} was refused ({answer.status_code}): {answer.text}")
        return answer.json() if answer.content else None

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
        pause: float = _POLL_SECONDS,
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


def tell(platform: Platform, api: Api, say: Callable[[str], None]) -> Story:
    """Play the story on a running platform."""
    started = time.monotonic()
    hello = platform.directory / "hello.txt"
    workspace = api.call("POST", "workspaces/", json={"name": "hello"})["id"]
    say("Made workspace hello")
    _upload(api, workspace)
    _set_variable(api, workspace, "path", str(hello))
    _set_variable(api, workspace, "greeting", "Hello from Slipway")
    say(f"Uploaded {EXAMPLE.relative_to(BASE_DIR)} and set its variables")

    task = _plan(api, workspace, say)
    _wait_until_held(api, task["id"], say)
    say(f"Confirmed plan {task['plan_hash'][:12]}")
    applied = _apply(api, task, say)
    exists = hello.exists() and hello.read_text().strip() == "Hello from Slipway"
    in_state = _in_state(api, workspace)

    say("Once more, by the normal path: another greeting, its kept directory removed")
    _set_variable(api, workspace, "greeting", "Hello again")
    second = _plan(api, workspace, lambda line: None)
    _wait_until_held(api, second["id"], lambda line: None)
    shutil.rmtree(_directory(platform, workspace, second["id"]))
    again = _apply(api, second, lambda line: None)
    return Story(
        status=applied["status"],
        path=applied["apply_path"],
        path_reason=applied["apply_path_reason"],
        confirm_to_first_action_ms=first_action_ms(applied),
        normal_path_ms=first_action_ms(again) if again["apply_path"] == "normal" else None,
        normal_path_status=again["status"],
        resource_exists=exists,
        resource_in_state=in_state,
        total_seconds=round(time.monotonic() - started, 1),
    )


def first_action_ms(task: dict[str, Any]) -> float | None:
    """Return the time from the confirmation to the first resource action."""
    value = task["confirm_to_first_action_ms"]
    return None if value is None else round(float(value), 1)


def _plan(api: Api, workspace: str, say: Callable[[str], None]) -> dict[str, Any]:
    task = api.call("POST", f"workspaces/{workspace}/plan/", json={"type": "plan_and_apply"})
    say("Planning")
    planned = api.wait(task["id"], PLAN_ENDS, _follow(api, task["id"], "plan", say))
    if planned["status"] != "apply_pending":
        text, _ = api.log(task["id"], "plan", 0)
        raise Failed(f"The plan is {planned['status']}: {planned.get('error', '')}\n{text}")
    counts = api.call("GET", f"tasks/{task['id']}/plan/")["summary"]
    say(f"Plan: +{counts['to_add']} ~{counts['to_change']} -{counts['to_destroy']}")
    return planned


def _wait_until_held(api: Api, task: str, say: Callable[[str], None]) -> None:
    """Wait until Terraform waits at its gate, or no longer than somebody reads a plan."""
    deadline = time.monotonic() + _HELD_SECONDS
    while True:
        forecast = api.call("GET", f"tasks/{task}/")["forecast"]
        if forecast is None or forecast["path"] == "held" or time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    if forecast is not None:
        say(f"While somebody reads the plan: {forecast['sentence']}")


def _apply(api: Api, task: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    api.call(
        "POST",
        f"tasks/{task['id']}/apply/",
        json={"plan_hash": task["plan_hash"], "comment": "by scripts/demo"},
    )
    ended = api.wait(task["id"], APPLY_ENDS, _follow(api, task["id"], "apply", say))
    if ended["status"] != "applied":
        raise Failed(f"The apply is {ended['status']}: {ended['error']}\n{api.agent_logs()}")
    return ended


def _follow(api: Api, task: str, phase: str, say: Callable[[str], None]) -> Callable[[], None]:
    """Return a function that says the lines a log has gained."""
    offset = 0
    rest = ""

    def more() -> None:
        nonlocal offset, rest
        text, offset = api.log(task, phase, offset)
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            say(f"  | {_SGR.sub('', line)}")

    return more


def pack(directory: Path) -> io.BytesIO:
    """Return a folder's files as a tar.gz, as an upload of a configuration is."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for file in sorted(directory.iterdir()):
            packed.add(file, file.name)
    return archive


def _upload(api: Api, workspace: str) -> None:
    api.call(
        "POST",
        f"workspaces/{workspace}/configurations/",
        content=pack(EXAMPLE).getvalue(),
        headers={"Content-Type": "application/gzip"},
    )


def _set_variable(api: Api, workspace: str, key: str, value: str) -> None:
    api.call(
        "POST",
        f"workspaces/{workspace}/variables/",
        json={"key": key, "value": value, "category": "terraform"},
    )


def _in_state(api: Api, workspace: str) -> bool:
    """Whether the newest version of the state holds a resource."""
    versions = api.call("GET", f"workspaces/{workspace}/state-versions/")["results"]
    return bool(versions) and versions[0]["resource_count"] > 0


def _directory(platform: Platform, workspace: str, task: str) -> Path:
    return platform.directory / "work" / "workspaces" / workspace / task


_WORDS = {
    "held": "from the held Terraform",
    "kept": "from the kept directory",
    "normal": "by the normal path",
}


def _report(story: Story) -> str:
    def ms(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.0f} ms"

    verdict = "Applied" if story.ok else f"NOT applied: {story.status}"
    return f"""
{verdict}, by the {story.path} path ({story.path_reason})

  Confirmation to first resource action
    {_WORDS.get(story.path, story.path):25} {ms(story.confirm_to_first_action_ms)}
    by the normal path        {ms(story.normal_path_ms)}
  The file exists             {"yes" if story.resource_exists else "no"}
  The state holds it          {"yes" if story.resource_in_state else "no"}
  The story took              {story.total_seconds} s
"""


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    as_json = parser.parse_args().json

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr if as_json else sys.stdout, flush=True)

    try:
        platform = Platform(fresh_directory(BASE_DIR / "var" / "demo"), free_port(), say=say)
        with platform.running(), Api(platform) as api:
            story = tell(platform, api, say)
    except KeyboardInterrupt:
        return 130
    except Failed as error:
        if as_json:
            print(json.dumps({"status": "error", "error": str(error)}))
        print(f"\n{error}\n\nLogs: {BASE_DIR / 'var' / 'demo' / 'logs'}", file=sys.stderr)
        return 1
    print(json.dumps(asdict(story)) if as_json else _report(story))
    return 0 if story.ok else 1


if __name__ == "__main__":
    sys.exit(main())
