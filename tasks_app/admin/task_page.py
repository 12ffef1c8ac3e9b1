"""What the task page shows: its phases as a timeline, the plan, diagnostics and history."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.utils.text import slugify
from rest_framework.request import Request

from tasks_app.admin.base import rendered_panels
from tasks_app.admin.task_operations import EVIDENCE_PANELS, START_PANELS
from tasks_app.api.downloads import download
from tasks_app.exceptions import NotFound
from tasks_app.formats import between
from tasks_app.models import Task, TaskStep, Workspace
from tasks_app.services import logs, plans
from tasks_app.states import FINAL, RUNNING, WAITING, Status

PHASES = ("plan", "warmup", "apply")
_PHASE_WORDS = {"plan": "Plan", "warmup": "Warm-up", "apply": "Apply"}
#: More resources than this are read in the plan's text.
RESOURCES_MAX = 1000
_EVENTS_MAX = 60
REFRESH_BUSY_MS, REFRESH_WAITING_MS = 1000, 3000

_PATHS = {
    "held": ("flash_on", "Held apply", "Terraform was started before and waited at its gate."),
    "kept": ("bolt", "Kept directory", "The plan's own work directory was still there, unchanged."),
    "warmed": ("local_fire_department", "Warmed directory", "An agent had prepared it."),
    "normal": ("route", "Normal path", "The directory was rebuilt from what the server keeps."),
}
_ACTIONS: dict[tuple[str, ...], tuple[str, str, str]] = {
    ("create",): ("add", "+", "create"),
    ("update",): ("change", "~", "update"),
    ("delete",): ("destroy", "−", "destroy"),
    ("delete", "create"): ("destroy", "−/+", "replace"),
    ("create", "delete"): ("destroy", "+/−", "replace"),
    ("read",): ("read", "≤", "read"),
    ("forget",): ("read", "×", "forget"),
    ("no-op",): ("import", "↓", "import"),
}


@dataclass
class PhaseLine:
    """One phase with its steps as bars on a common scale."""

    phase: str
    name: str
    total_ms: float = 0
    steps: list[dict[str, Any]] = field(default_factory=list)


def timeline(steps: Iterable[TaskStep]) -> list[PhaseLine]:
    """Return the newest attempt of each phase; positions and widths in percent."""
    by_phase: dict[str, dict[Any, list[TaskStep]]] = {}
    for step in steps:
        by_phase.setdefault(step.phase, {}).setdefault(step.lease_id, []).append(step)
    found = []
    for phase in PHASES:
        if phase not in by_phase:
            continue
        attempt = list(by_phase[phase].values())[-1]
        attempt.sort(key=lambda step: (step.started_ms, step.pk))
        total = max(step.started_ms + step.duration_ms for step in attempt) or 1
        line = PhaseLine(phase, _PHASE_WORDS[phase], total)
        for step in attempt:
            line.steps.append(
                {
                    "name": step.name.replace("_", " "),
                    "detail": step.detail,
                    "duration_ms": step.duration_ms,
                    "left": f"{100 * step.started_ms / total:.2f}",
                    "width": f"{max(100 * step.duration_ms / total, 0.6):.2f}",
                }
            )
        found.append(line)
    return found


def stations(task: Task) -> list[dict[str, Any]]:
    """Return the way of a task as stations: what is over, what is now, what comes."""
    applies = task.type == "plan_and_apply"
    ended_at_plan = task.status in FINAL and not task.confirmed_at
    rows = [
        ("Queued", task.created_at, task.started_at),
        ("Plan", task.started_at, task.planned_at or (ended_at_plan and task.finished_at) or None),
    ]
    if applies and not (ended_at_plan and not task.planned_at):
        decided = task.confirmed_at or (task.finished_at if ended_at_plan else None)
        rows += [
            ("Confirmation", task.planned_at, decided),
            ("Apply", task.confirmed_at, task.finished_at if task.confirmed_at else None),
        ]
    found = [
        {
            "name": name,
            "begun": begun,
            "ended": ended,
            "took": between(begun, ended),
            "state": "over" if ended else "now" if begun and not task.is_final else "open",
        }
        for name, begun, ended in rows
    ]
    over = [station for station in found if station["state"] == "over"]
    if task.status in {Status.FAILED, Status.INTERRUPTED} and over:
        over[-1]["state"] = "bad"
    return found


def page_context(task: Task) -> dict[str, Any]:
    """Return everything of the page but plan and logs, which are fetched by themselves."""
    status = Status(task.status)
    events = list(task.events.select_related("user")[:_EVENTS_MAX])
    return {
        "task": task,
        "plan": getattr(task, "plan", None),
        "confirmation": getattr(task, "confirmation", None),
        "stations": stations(task),
        "start": rendered_panels(START_PANELS, task) if status == Status.APPLY_PENDING else [],
        "evidence": rendered_panels(EVIDENCE_PANELS, task) if needs_judgement(task) else [],
        "timeline": timeline(task.steps.all()),
        "events": events,
        "diagnostics": diagnostics(task),
        "path": _PATHS.get(task.apply_path),
        "waiting": task.waiting_reason if status in WAITING else "",
        "running": status in RUNNING,
        "log_phase": "apply" if task.confirmed_at else "plan",
        "foreign_state": task.workspace.state_backend == Workspace.StateBackend.CONFIGURATION,
        "options": _options(task),
        "phases": [
            (phase, _PHASE_WORDS[phase])
            for phase in (PHASES if task.type == "plan_and_apply" else PHASES[:1])
        ],
    }


def needs_judgement(task: Task) -> bool:
    """Return whether a person has to say what became of the task's apply."""
    cut_off = task.status == Status.INTERRUPTED and task.acknowledged_at is None
    return task.status == Status.APPLY_UNKNOWN or cut_off


def every_ms(task: Task) -> int:
    """Return how soon the page looks again; never once the task is final."""
    if task.status in FINAL:
        return 0
    busy = task.status in RUNNING or task.status == Status.CONFIRMED
    return REFRESH_BUSY_MS if busy else REFRESH_WAITING_MS


def _options(task: Task) -> list[str]:
    found = []
    if task.destroy:
        found.append("destroy")
    if task.refresh_only:
        found.append("refresh only")
    if task.auto_apply:
        found.append("auto apply")
    found += [f"target {address}" for address in task.targets]
    found += [f"replace {address}" for address in task.replace]
    return found


def diagnostics(task: Task) -> list[dict[str, Any]]:
    """Return Terraform's errors and warnings, errors first."""
    rows = [row for row in task.diagnostics if isinstance(row, dict)]
    return sorted(rows, key=lambda row: row.get("severity") != "error")


def plan_context(task: Task) -> dict[str, Any]:
    """Return the plan's structured changes and its text; both may be purged."""
    try:
        changes = plans.changes(task)
    except NotFound as error:
        changes, missing = None, error.detail
    else:
        missing = ""
    rows: dict[str, list[dict[str, Any]]] = {"resources": [], "drift": [], "outputs": []}
    left_off = 0
    if changes:
        for kind, found in rows.items():
            found += [_shown(row) for row in changes[kind][:RESOURCES_MAX]]
        left_off = max(len(changes["resources"]) - RESOURCES_MAX, 0)
    resources = rows["resources"]
    return {
        "task": task,
        "missing": missing,
        **rows,
        "left_off": left_off,
        "kinds": sorted({(row["kind"], row["word"]) for row in resources}),
        "text": plans.plan_text(task) if getattr(task, "plan", None) else "",
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    kind, sign, word = _ACTIONS.get(tuple(row["actions"]), ("change", "?", "change"))
    attributes = [
        {"name": a["name"], "before": _value(a["before"]), "after": _value(a["after"])}
        for a in row["attributes"]
    ]
    return {**row, "kind": kind, "sign": sign, "word": word, "attributes": attributes}


def _value(value: Any) -> str | None:
    """Return a value as people read it: texts bare, everything else as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, indent=1, ensure_ascii=False)


# --- logs ---------------------------------------------------------------------------------------


def log_part(task: Task, phase: str, offset: int) -> HttpResponse:
    """Answer with the log's bytes from ``offset``; headers say where to go on."""
    part = logs.read_log(task, phase, offset)
    return HttpResponse(
        part.data,
        content_type="text/plain; charset=utf-8",
        headers={
            "X-Next-Offset": str(part.next_offset),
            "X-Complete": "1" if part.complete else "0",
            "X-Truncated": "1" if part.truncated else "0",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


def log_download(request: HttpRequest, task: Task, phase: str) -> StreamingHttpResponse:
    """Answer with the whole log as a file."""
    name = f"{slugify(task.workspace.name)}-{task.number}-{phase}.log"
    parts = _log_parts(task, phase)
    return download(Request(request), parts, "text/plain; charset=utf-8", name)


def _log_parts(task: Task, phase: str) -> Iterator[bytes]:
    offset = 0
    while (part := logs.read_log(task, phase, offset)).data:
        yield part.data
        offset = part.next_offset
