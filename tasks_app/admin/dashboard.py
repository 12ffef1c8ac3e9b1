"""The start page: what needs a person first, then capacity, then what happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count, QuerySet
from django.http import HttpRequest

from tasks_app.admin.base import PARTS_HEADER, list_url, may_cached, rendered_panels
from tasks_app.admin.hooks import Attention, add_attention, attentions
from tasks_app.models import Event, Task, Workspace
from tasks_app.permissions import Action, visible_projects
from tasks_app.states import FINAL, RUNNING, Status, WarmupStatus

_EVENTS, _TASKS = 12, 8
REFRESH_MS = 4000


def _tasks(user: Any) -> QuerySet[Task]:
    rows = Task.objects.all()
    if user.is_superuser:
        return rows
    return rows.filter(workspace__project__in=visible_projects(user))


def _task_attentions(user: Any) -> Iterable[Attention]:
    """Plans to confirm or to make ready, and applies whose result nobody knows or took note of."""
    tasks = _tasks(user)
    unknown = tasks.filter(status=Status.APPLY_UNKNOWN).count()
    yield Attention(
        "bad",
        "help",
        unknown,
        "with an unknown result" if unknown != 1 else "apply with an unknown result",
        list_url(Task, f"status={Status.APPLY_UNKNOWN}"),
        "The agent vanished; somebody must look and resolve.",
    )
    yield Attention(
        "bad",
        "power_off",
        tasks.filter(status=Status.INTERRUPTED, acknowledged_at=None).count(),
        "interrupted, not acknowledged",
        list_url(Task, "status=unacknowledged"),
        "Their workspaces wait for it.",
    )
    waiting = tasks.filter(status=Status.APPLY_PENDING).count()
    yield Attention(
        "ask",
        "front_hand",
        waiting,
        "plan to confirm" if waiting == 1 else "plans to confirm",
        list_url(Task, f"status={Status.APPLY_PENDING}"),
        "Read, then confirm or discard.",
    )
    yield Attention(
        "ask",
        "warning",
        tasks.filter(status=Status.APPLY_PENDING, warmup_status=WarmupStatus.FAILED).count(),
        "not made ready by any agent",
        list_url(Task, f"status={Status.APPLY_PENDING}&warmup_status__exact={WarmupStatus.FAILED}"),
        "Their applies take the normal path; each task says why.",
    )


add_attention(_task_attentions)


def _numbers(user: Any) -> list[dict[str, Any]]:
    counts = dict(
        _tasks(user)
        .exclude(status__in=FINAL)
        .order_by()
        .values_list("status")
        .annotate(Count("pk"))
    )
    rows = [
        ("Running", sum(counts.get(status, 0) for status in RUNNING), "status=running"),
        ("Queued", counts.get(Status.PENDING, 0), f"status={Status.PENDING}"),
        ("Confirmed", counts.get(Status.CONFIRMED, 0), f"status={Status.CONFIRMED}"),
    ]
    return [{"name": n, "count": c, "url": list_url(Task, q)} for n, c, q in rows]


def context(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add what the start page shows; Unfold calls it (``DASHBOARD_CALLBACK``)."""
    user: Any = request.user
    in_parts = PARTS_HEADER in request.headers
    context.update(
        layout="admin/slipway/fragment.html" if in_parts else "admin/base_site.html",
        title="Overview",
        every_ms=REFRESH_MS,
        sees=may_cached(request, Action.VIEW),
        is_superuser=user.is_superuser,
    )
    if not context["sees"]:
        return context
    workspaces, events = Workspace.objects.all(), Event.objects.all()
    if not user.is_superuser:
        projects = visible_projects(user)
        workspaces = workspaces.filter(project__in=projects)
        events = events.filter(workspace__project__in=projects)
    context.update(
        attentions=attentions(user),
        numbers=_numbers(user),
        panels=rendered_panels("index", user, user),
        workspaces=workspaces.exists(),
        workspaces_url=list_url(Workspace),
        tasks_url=list_url(Task),
        events_url=list_url(Event),
        tasks=list(
            _tasks(user)
            .select_related("workspace", "created_by", "plan")
            .defer("diagnostics")[:_TASKS]
        ),
        events=list(events.select_related("task__workspace", "workspace")[:_EVENTS]),
    )
    return context
