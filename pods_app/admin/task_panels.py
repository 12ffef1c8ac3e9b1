"""What pods add to the page of a task: how its apply will start, and what is known of one."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from pods_app.admin.health import health_badge, heard
from pods_app.evidence import evidence_of
from pods_app.forecast import forecast_of
from pods_app.models import ManagedPod
from pods_app.states import ApplyPath
from tasks_app.admin.base import object_url
from tasks_app.admin.task_operations import EVIDENCE_PANELS, START_PANELS
from tasks_app.models import Task
from tasks_app.registry import Panel, add_panel
from tasks_app.states import WARMUP_ATTEMPTS

#: Icon and tone of a path; None: the plan cannot be applied.
_LOOKS = {
    ApplyPath.HELD: ("flash_on", "good"),
    ApplyPath.KEPT: ("bolt", "good"),
    ApplyPath.WARMED: ("local_fire_department", "good"),
    ApplyPath.NORMAL: ("route", "quiet"),
    None: ("block", "bad"),
}


def _start(task: Task) -> dict[str, Any]:
    forecast = forecast_of(task)
    if forecast is None:
        return {"forecast": None}
    icon, tone = _LOOKS[forecast.path]
    agent, retry_at = None, task.warmup_retry_at
    if task.warmup_agent_id:
        agent = ManagedPod.objects.filter(agent_id=task.warmup_agent_id).first()
    return {
        "task": task,
        "forecast": forecast,
        "icon": icon,
        "tone": tone,
        "agent": agent,
        "agent_url": object_url(agent) if agent else "",
        "attempts": WARMUP_ATTEMPTS,
        "pause": retry_at if retry_at and retry_at > timezone.now() else None,
    }


def _evidence(task: Task) -> dict[str, Any]:
    evidence = evidence_of(task)
    lease: Any = evidence and evidence.lease
    if lease is None:
        return {"task": task, "evidence": evidence}
    pod = lease.slot.pod
    return {
        "task": task,
        "evidence": evidence,
        "lease": lease,
        "badge": health_badge(pod, lease.silence),
        "heard": heard(pod, lease.silence),
        "pod_url": object_url(pod),
    }


add_panel(START_PANELS, Panel("How the apply will start", "admin/slipway/pods/start.html", _start))
add_panel(
    EVIDENCE_PANELS,
    Panel("What is known of this apply", "admin/slipway/pods/evidence.html", _evidence),
)
