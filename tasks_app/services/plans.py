"""Plans: what is stored of them, what a person sees, and what a finished plan means."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings

from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.exceptions import NotFound, SlipwayError
from tasks_app.models import Blob, Plan, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.redaction import Redactor
from tasks_app.services.state_position import locked_state_position
from tasks_app.services.variables import sensitive_values
from tasks_app.services.void_plans import void_if_moved
from tasks_app.states import Status, TaskType
from tasks_app.transitions import record, transition

#: What a masked value looks like; the same word Terraform prints.
MASK = "(sensitive value)"
UNKNOWN = "(known after apply)"


@dataclass(frozen=True)
class PlanFacts:
    """What an agent found out about the plan it made; contents are stored blobs."""

    plan_hash: str
    manifest_digest: str
    terraform_version: str
    providers: list[str]
    to_add: int
    to_change: int
    to_destroy: int
    to_import: int
    output_changes: int
    state_lineage: str
    state_serial: int | None
    bundle_bytes: int
    bundle: Blob | None
    json: Blob | None
    text: Blob | None


def task_planned(
    task: Task,
    facts: PlanFacts,
    *,
    has_changes: bool,
    lease: Any,
    actor: Actor,
    diagnostics: list[dict[str, Any]],
) -> Task:
    """Store a plan and move its task on; the caller holds the task's row.

    With changes a plan_and_apply waits for a person, or is confirmed at once under auto_apply
    if the person who asked for it may still confirm. Everything else is finished. A plan whose
    state moved while it was made is void at once.

    Args:
        has_changes: whether there is anything to apply; more than the counts say, because a
            refresh or a moved block changes the state alone.
    """
    Plan.objects.update_or_create(task=task, defaults={**vars(facts), "has_changes": has_changes})
    common: dict[str, Any] = {
        "plan_hash": facts.plan_hash,
        "diagnostics": diagnostics,
        "actor": actor,
    }
    summary = f"+{facts.to_add} ~{facts.to_change} -{facts.to_destroy}"
    if task.type != TaskType.PLAN_AND_APPLY:
        return transition(task, Status.SUCCESS, cause=f"planned {summary}", lease=lease, **common)
    if not has_changes:
        return transition(
            task, Status.PLANNED_AND_FINISHED, cause="no changes", lease=lease, **common
        )
    transition(
        task,
        Status.APPLY_PENDING,
        cause=f"planned {summary}",
        lease=lease,
        keep_warm_until=ClockTimestamp() + timedelta(seconds=settings.SLIPWAY.keep_warm_seconds),
        **common,
    )
    if task.has_own_state and void_if_moved(task, locked_state_position(task.workspace)):
        return task
    if task.auto_apply:
        _confirm_automatically(task)
    return task


def _confirm_automatically(task: Task) -> None:
    from tasks_app.services.tasks import confirm_automatically

    try:
        confirm_automatically(task)
    except SlipwayError as refusal:
        record(
            "task.auto_apply_refused",
            actor=Actor.system("auto_apply"),
            task=task,
            cause=refusal.detail,
        )


def plan_of(task: Task) -> Plan:
    """Return the task's plan.

    Raises:
        NotFound: it has none yet.
    """
    plan = Plan.objects.select_related("bundle", "json", "text").filter(task=task).first()
    if plan is None:
        raise NotFound(f"Task #{task.number} has no plan yet.")
    return plan


def plan_text(task: Task) -> str:
    """Return the plan as Terraform shows it, redacted; "" when its text was purged."""
    plan = plan_of(task)
    return blobs.read_all(plan.text).decode(errors="replace") if plan.text else ""


def changes(task: Task) -> dict[str, Any]:
    """Return the plan as data, with what Terraform calls sensitive and what the task's sensitive
    variables hold masked.

    Returns:
        ``resources`` and ``outputs``, each a list of {address, actions, reason, attributes},
        an attribute being {name, before, after} of what differs; ``drift`` likewise.
    """
    plan = plan_of(task)
    if plan.json is None:
        raise NotFound("The contents of this plan were purged by the retention rules.")
    document = json.loads(blobs.read_all(plan.json))
    shown = {
        "terraform_version": document.get("terraform_version", ""),
        "resources": list(_resource_changes(document.get("resource_changes", []))),
        "drift": list(_resource_changes(document.get("resource_drift", []))),
        "outputs": [
            {
                "address": name,
                "actions": change["actions"],
                "reason": "",
                "attributes": _attributes(change),
            }
            for name, change in sorted(document.get("output_changes", {}).items())
            if change["actions"] != ["no-op"]
        ],
    }
    redacted: dict[str, Any] = _redacted(shown, Redactor(sensitive_values(task)))
    return redacted


def _redacted(value: Any, redactor: Redactor) -> Any:
    if isinstance(value, str):
        return redactor.redact(value)
    if isinstance(value, dict):
        return {redactor.redact(key): _redacted(item, redactor) for key, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item, redactor) for item in value]
    return value


def _resource_changes(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        change = row["change"]
        if change["actions"] in (["no-op"], ["read"]) and not change.get("importing"):
            continue
        yield {
            "address": row["address"],
            "actions": change["actions"],
            "reason": row.get("action_reason", ""),
            "attributes": _attributes(change),
        }


def _attributes(change: dict[str, Any]) -> list[dict[str, Any]]:
    before = _masked(change.get("before"), change.get("before_sensitive"))
    after = _masked(change.get("after"), change.get("after_sensitive"))
    after = _with_unknown(after, change.get("after_unknown"))
    if not isinstance(before, dict) and not isinstance(after, dict):
        same = before == after and change.get("before") == change.get("after")
        return [] if same else [{"name": "value", "before": before, "after": after}]
    old = before if isinstance(before, dict) else {}
    new = after if isinstance(after, dict) else {}
    secret = _sensitive_names(change)
    return [
        {"name": name, "before": old.get(name), "after": new.get(name)}
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) or (name in secret and _differs(change, name))
    ]


def _sensitive_names(change: dict[str, Any]) -> set[str]:
    marks = (change.get("before_sensitive"), change.get("after_sensitive"))
    return {name for mark in marks if isinstance(mark, dict) for name in mark}


def _differs(change: dict[str, Any], name: str) -> bool:
    before, after = change.get("before") or {}, change.get("after") or {}
    return before.get(name) != after.get(name)


def _masked(value: Any, mark: Any) -> Any:
    """Replace what ``mark`` (Terraform's tree of booleans) calls sensitive."""
    if mark is True:
        return MASK
    if isinstance(mark, dict) and isinstance(value, dict):
        return {key: _masked(item, mark.get(key)) for key, item in value.items()}
    if isinstance(mark, list) and isinstance(value, list):
        marks = [*mark, *[None] * len(value)]
        return [_masked(item, marks[index]) for index, item in enumerate(value)]
    return value


def _with_unknown(value: Any, unknown: Any) -> Any:
    """Put the words for "known after apply" where Terraform does not know a value yet."""
    if unknown is True:
        return UNKNOWN
    if isinstance(unknown, dict):
        known = value if isinstance(value, dict) else {}
        extra = {key: _with_unknown(known.get(key), mark) for key, mark in unknown.items() if mark}
        return {**known, **extra} if extra or isinstance(value, dict) else value
    if isinstance(unknown, list) and any(unknown):
        items = value if isinstance(value, list) else []
        items = [*items, *[None] * (len(unknown) - len(items))]
        marks = [*unknown, *[False] * (len(items) - len(unknown))]
        return [_with_unknown(item, mark) for item, mark in zip(items, marks, strict=True)]
    return value
