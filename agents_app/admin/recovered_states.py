"""States saved of applies that could not upload them, on the page of their task."""

from __future__ import annotations

from typing import Any

from django import forms
from django.urls import reverse

from agents_app.models import LeaseArtifact
from agents_app.services.recovered_states import make_current, recovered_states
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.admin.hooks import add_operation
from tasks_app.admin.operations import Availability, Done, Operation, OperationForm
from tasks_app.exceptions import Conflict, SlipwayError
from tasks_app.models import Task
from tasks_app.permissions import Action, may
from tasks_app.registry import Panel, add_panel
from tasks_app.services.state_documents import parse_state
from tasks_app.services.state_position import current_version, state_position


def _newest(task: Task) -> LeaseArtifact | None:
    if not task.confirmed_at:
        return None
    return recovered_states(task).first()


def _panel(task: Task) -> dict[str, Any]:
    return {
        "states": [
            {
                "row": row,
                "url": reverse("recovered-state-download", args=[task.pk, row.pk]),
            }
            for row in recovered_states(task)
        ]
    }


def _shown(user: Any, task: Task) -> bool:
    return _newest(task) is not None and may(user, Action.READ_STATE, task)


class MakeCurrentForm(OperationForm):
    """Carries the serial that was current when its reader decided."""

    seen = forms.IntegerField(widget=forms.HiddenInput, required=False)
    comment = forms.CharField(
        label="Comment",
        max_length=250,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="How you know that this state is the right one. Kept with the version.",
    )


class MakeCurrent(Operation):
    name, label, icon, tone = "make_current", "Use the recovered state", "restore_page", "danger"
    title, submit = "Make the recovered state current?", "Make current"
    text = (
        "It becomes a new version, with a higher serial if the current one is as high; nothing is "
        "deleted. Plans that wait become void. The real resources do not change by this."
    )
    template = "admin/slipway/task/recovered.html"
    form_class = MakeCurrentForm

    def availability(self, actor: Actor, obj: Task) -> Availability:
        row = _newest(obj)
        if row is None or not may(actor, Action.WRITE_STATE, obj):
            return Availability(False)
        serial: int | None = getattr(row, "serial", None)
        return Availability(True, "" if serial is None else f"It is version {serial} already.")

    def initial(self, obj: Task) -> dict[str, Any]:
        return {"seen": state_position(obj.workspace)[1]}

    def context(self, actor: Actor, obj: Task) -> dict[str, Any]:
        row = _newest(obj)
        assert row is not None  # as `availability` said
        try:
            facts, wrong = parse_state(blobs.read_all(row.blob)), ""
        except SlipwayError as error:
            facts, wrong = None, error.detail
        return {
            "row": row,
            "state": facts,
            "wrong": wrong,
            "current": current_version(obj.workspace),
        }

    def run(self, actor: Actor, obj: Task, data: dict[str, Any]) -> Done:
        now = state_position(obj.workspace)[1]
        if data["seen"] != now:
            raise Conflict(f"The state changed meanwhile: serial {now} is current. Look again.")
        row = _newest(obj)
        assert row is not None  # as `availability` said
        version = make_current(actor=actor, artifact=row, comment=data["comment"])
        return Done(f"The recovered state is current, as serial {version.serial}.")


add_panel(
    "task", Panel("Recovered state", "admin/slipway/task/recovered_panel.html", _panel, _shown)
)
add_operation("task", MakeCurrent())
