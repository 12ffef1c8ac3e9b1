"""`scripts/demo`: the main job from start to end, through the HTTP API.

    python -m config.demo [--story [--kubeconfig PATH]] [--json]

It starts an installation of its own below ``var/demo``, makes a workspace, plans, confirms,
applies, and shows how long the apply took to start: from a Terraform that was held since the plan,
and once more by the normal path. Exit code 0 only if the apply succeeded and its resource exists.
With ``--story`` it plays `config.story` instead.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from config import story
from config.client import APPLY_ENDS, PLAN_ENDS, POLL_SECONDS, Api, first_action_ms
from config.launch import BASE_DIR, Platform, free_port, fresh_directory
from config.processes import Failed

EXAMPLE = BASE_DIR / "examples" / "hello"
#: A Terraform that is not held by then is not waited for: the apply starts all the same.
_HELD_SECONDS = 15.0
_SGR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
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


def tell(platform: Platform, api: Api, say: Callable[[str], None]) -> Outcome:
    """Play the story on a running platform."""
    started = time.monotonic()
    hello = platform.directory / "hello.txt"
    workspace = api.call("POST", "workspaces/", json={"name": "hello"})["id"]
    say("Made workspace hello")
    api.upload(workspace, EXAMPLE)
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
    return Outcome(
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
        time.sleep(POLL_SECONDS)
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


def _report(outcome: Outcome) -> str:
    def ms(value: float | None) -> str:
        return "not measured" if value is None else f"{value:.0f} ms"

    verdict = "Applied" if outcome.ok else f"NOT applied: {outcome.status}"
    return f"""
{verdict}, by the {outcome.path} path ({outcome.path_reason})

  Confirmation to first resource action
    {_WORDS.get(outcome.path, outcome.path):25} {ms(outcome.confirm_to_first_action_ms)}
    by the normal path        {ms(outcome.normal_path_ms)}
  The file exists             {"yes" if outcome.resource_exists else "no"}
  The state holds it          {"yes" if outcome.resource_in_state else "no"}
  The story took              {outcome.total_seconds} s
"""


def main() -> int:
    """Run the demo; returns the exit code."""
    options = _options()

    def say(line: str) -> None:
        print(f"  {line}", file=sys.stderr if options.json else sys.stdout, flush=True)

    logs = options.directory / "logs"
    result: Outcome | story.Told
    try:
        settings = story.surroundings(options.kubeconfig, options.namespace)
        directory = fresh_directory(options.directory)
        platform = Platform(directory, free_port(), say=say, settings=settings)
        with platform.running(), Api(platform) as api:
            if options.story:
                kind = "kubernetes" if options.kubeconfig else "local"
                result = story.tell(platform, api, say, kind)
            else:
                result = tell(platform, api, say)
    except KeyboardInterrupt:
        return 130
    except Failed as error:
        if options.json:
            print(json.dumps({"status": "error", "error": str(error)}))
        print(f"\n{error}\n\nLogs: {logs}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(_report(result) if isinstance(result, Outcome) else story.report(result, logs))
    return 0 if result.ok else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document instead")
    parser.add_argument("--story", action="store_true", help="the life of a pool instead")
    parser.add_argument(
        "--kubeconfig",
        type=Path,
        help="with --story: the pods are of the cluster that this file leads to, which must reach "
        "this machine's loopback address",
    )
    parser.add_argument("--namespace", default="", help="of these pods; default: the kubeconfig's")
    parser.add_argument(
        "--directory",
        type=Path,
        default=BASE_DIR / "var" / "demo",
        help="for its database and logs; what an earlier run left there is deleted first",
    )
    options = parser.parse_args()
    options.directory = options.directory.resolve()
    if _is_of_others(options.directory):
        parser.error(f"{options.directory} holds files, none of scripts/demo; name an empty folder")
    if not options.story and (options.kubeconfig or options.namespace):
        parser.error("--kubeconfig and --namespace belong to --story")
    if options.namespace and not options.kubeconfig:
        parser.error("--namespace needs --kubeconfig")
    if options.kubeconfig and not options.kubeconfig.is_file():
        parser.error(f"there is no kubeconfig {options.kubeconfig}")
    return options


def _is_of_others(directory: Path) -> bool:
    """Return whether a folder holds something that is not an earlier run's."""
    if not directory.is_dir():
        return directory.exists()
    return any(directory.iterdir()) and not (directory / "lock").exists()


if __name__ == "__main__":
    sys.exit(main())
