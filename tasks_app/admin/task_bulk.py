"""Confirm or discard several plans: one dialog lists them all, each goes through its own service.

Every item carries what its reader saw, as in the dialog of a single task; whatever is refused is
refused for itself, and the answer tells the outcome of each.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import reverse

from tasks_app.actors import Actor
from tasks_app.admin.base import list_url, may_cached
from tasks_app.admin.filters import uuid_or_none
from tasks_app.admin.operations import DIALOG_HEADER, OperationForm
from tasks_app.admin.task_operations import Confirm, Discard, TaskOperation
from tasks_app.exceptions import SlipwayError
from tasks_app.models import Task
from tasks_app.permissions import Action, may
from tasks_app.states import Status

if TYPE_CHECKING:
    from tasks_app.admin.base import SlipwayAdmin

log = logging.getLogger(__name__)

#: As many as a person reads before they say yes.
ITEMS_MAX = 50


@dataclass(frozen=True)
class Bulk:
    """One thing done to several tasks."""

    operation: TaskOperation
    right: Action
    label: str
    verb: str
    done: str
    text: str

    @property
    def name(self) -> str:
        return self.operation.name


BULKS = {
    bulk.name: bulk
    for bulk in (
        Bulk(
            Confirm(),
            Action.CONFIRM,
            "Confirm the selected plans …",
            "Confirm and apply",
            "confirmed",
            "Each apply starts on its own. Read each plan on its task's page first.",
        ),
        Bulk(
            Discard(),
            Action.DISCARD,
            "Discard the selected plans …",
            "Discard",
            "discarded",
            "Nothing is applied. The next task of each workspace may start.",
        ),
    )
}


class BulkForm(OperationForm):
    comment = forms.CharField(
        label="Comment",
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Kept with the history of each task.",
    )


@dataclass(frozen=True)
class Item:
    """A task in the dialog: why it is left out, if so, or what became of it."""

    task: Task
    reason: str = ""
    outcome: str = ""
    good: bool = False

    @property
    def seen(self) -> str:
        """What the reader saw, as it is sent back."""
        return f"{self.task.pk}:{self.task.status}:{self.task.plan_hash or ''}"


def actions_for(request: HttpRequest) -> dict[str, Any]:
    """Return the list's actions that the person's roles allow somewhere."""
    return {
        name: (_open, name, bulk.label)
        for name, bulk in BULKS.items()
        if may_cached(request, bulk.right)
    }


def _open(admin: SlipwayAdmin, request: HttpRequest, selected: QuerySet[Task]) -> HttpResponse:
    """Go to the dialog's address; the page's script opens it in place instead."""
    name = request.POST["action"]
    ids = list(selected.order_by("pk").values_list("pk", flat=True)[: ITEMS_MAX + 1])
    if len(ids) > ITEMS_MAX:
        messages.error(request, f"Select {ITEMS_MAX} tasks at most, so that each can be read.")
        return HttpResponse(status=303, headers={"Location": request.get_full_path()})
    query = urlencode([("task", task_id) for task_id in ids])
    url = f"{reverse('admin:tasks_app_task_bulk', args=[name])}?{query}"
    return HttpResponse(status=303, headers={"Location": url})


def bulk_response(admin: SlipwayAdmin, request: HttpRequest, bulk: Bulk) -> HttpResponse:
    """Answer GET with what would be hit, and POST with the outcome of each."""
    actor = admin.actor(request)
    context: dict[str, Any] = {}
    if request.method == "POST":
        form = BulkForm(request.POST)
        seen = request.POST.getlist("item")[:ITEMS_MAX]
        if form.is_valid():
            items = [_run(admin, request, bulk, one, form.cleaned_data["comment"]) for one in seen]
            context["results"] = [item for item in items if item is not None]
            context["good"] = sum(item.good for item in context["results"])
            context["unknown"] = len(seen) - len(context["results"])
        else:
            context |= _choice(admin, request, bulk, actor, [one.split(":")[0] for one in seen])
    elif request.method in {"GET", "HEAD"}:
        form = BulkForm()
        context |= _choice(admin, request, bulk, actor, request.GET.getlist("task")[:ITEMS_MAX])
    else:
        return HttpResponseNotAllowed(["GET", "POST"])
    in_dialog = DIALOG_HEADER in request.headers
    return TemplateResponse(
        request,
        "admin/slipway/task/bulk.html",
        {
            **({} if in_dialog else admin.admin_site.each_context(request)),
            "layout": "admin/slipway/fragment.html" if in_dialog else "admin/base_site.html",
            "opts": admin.opts,
            "title": bulk.label.removesuffix(" …"),
            "bulk": bulk,
            "form": form,
            "action": request.path,
            "back": list_url(Task),
            **context,
        },
    )


def _choice(
    admin: SlipwayAdmin, request: HttpRequest, bulk: Bulk, actor: Actor, wanted: Iterable[str]
) -> dict[str, Any]:
    """Return the tasks that would be hit, those left out with the reason, and the sums."""
    ids = {found for one in wanted if (found := uuid_or_none(one)) is not None}
    tasks = list(admin.page_queryset(request).filter(pk__in=ids).order_by("pk"))
    projects = {task.workspace.project for task in tasks}
    permitted = {project.pk: may(actor, bulk.right, project) for project in projects}
    items = [Item(task, _reason(task, permitted[task.workspace.project_id])) for task in tasks]
    hit = [item for item in items if not item.reason]
    counted = ("to_add", "to_change", "to_destroy", "to_import")
    sums = {name: sum(getattr(item.task.plan, name) for item in hit) for name in counted}
    return {
        "hit": hit,
        "left_out": [item for item in items if item.reason],
        "sums": SimpleNamespace(**sums),
        "unknown": len(ids) - len(tasks),
    }


def _reason(task: Task, permitted: bool) -> str:
    if not permitted:
        return "Your role does not allow it in this project."
    if task.status != Status.APPLY_PENDING:
        return f"The task is {Status(task.status).label.lower()}."
    return ""


def _run(
    admin: SlipwayAdmin, request: HttpRequest, bulk: Bulk, seen: str, comment: str
) -> Item | None:
    """Do it to one task, and say what became of it; None if there is no such task."""
    task_id, _, rest = seen.partition(":")
    status, _, plan_hash = rest.partition(":")
    task = _find(admin, request, uuid_or_none(task_id))
    if task is None:
        return None
    actor = admin.actor(request)
    if not status or not may(actor, bulk.right, task):
        return Item(task, outcome="Your role does not allow it in this project.")
    data = {"seen": status, "plan_hash": plan_hash, "comment": comment}
    try:
        done = bulk.operation.run(actor, task, data)
    except SlipwayError as refusal:
        return Item(task, outcome=refusal.detail)
    except Exception:
        # What was done to the tasks before it must be told all the same.
        log.exception("%s of task %s failed", bulk.name, task.pk)
        return Item(task, outcome="The server failed; look at the task before you repeat it.")
    return Item(task, outcome=done.message, good=True)


def _find(admin: SlipwayAdmin, request: HttpRequest, task_id: UUID | None) -> Task | None:
    if task_id is None:
        return None
    found: Task | None = admin.page_queryset(request).filter(pk=task_id).first()
    return found
