"""The forms of freezes. A window is saved only after its preview was seen."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, date, datetime
from typing import Any

from django import forms
from django.template.loader import render_to_string

from pods_app.freeze.by_hand import OVERRIDE_MINUTES_MAX
from pods_app.freeze.checks import (
    DAYS,
    DAYS_LATER_MAX,
    GRACE_SECONDS_MAX,
    LEAD_MINUTES_MAX,
    TICKET_MAX,
    Days,
    check_not_over,
)
from pods_app.freeze.services import begins_soon, database_now, drafted, exceptions_of
from pods_app.freeze.state import span_words
from pods_app.freeze.status import impact, pools_hit
from pods_app.freeze.windows import Interval, upcoming, zones
from pods_app.freeze.words import never_words
from pods_app.models import FreezeWindow, Pool
from tasks_app.admin.operations import OperationForm
from tasks_app.exceptions import InvalidInput

_RANGE = re.compile(r"^(\d{4}-\d\d-\d\d)(?:\s*(?:to|–|\.\.)\s*(\d{4}-\d\d-\d\d))?$")
_LATER = ["the same day", "the next day"] + [f"{n} days later" for n in range(2, 7)]
_WEEKLY, _ONCE = "weekly", "once"
#: What both kinds of window have, as it stands in the row.
_PLAIN = (
    "name",
    "reason",
    "ticket",
    "all_pools",
    "enabled",
    "time_zone",
    "start_time",
    "end_time",
    "lead_minutes",
    "grace_seconds",
)


def ticket_field() -> forms.CharField:
    """Return the field of a window's ticket."""
    return forms.CharField(
        max_length=TICKET_MAX, required=False, help_text="Where it was agreed upon: CHG-4711."
    )


class WindowForm(OperationForm):
    name = forms.CharField(max_length=100)
    reason = forms.CharField(max_length=500, help_text="For the others.")
    ticket = ticket_field()
    all_pools = forms.BooleanField(required=False, help_text="Those to come as well.")
    pools = forms.ModelMultipleChoiceField(
        queryset=Pool.objects.all(), required=False, widget=forms.CheckboxSelectMultiple
    )
    time_zone = forms.ChoiceField(choices=[])
    repeats = forms.ChoiceField(
        choices=[(_WEEKLY, "Every week"), (_ONCE, "Once")],
        widget=forms.RadioSelect,
        initial=_WEEKLY,
    )
    weekdays = forms.TypedMultipleChoiceField(
        label="Starts on",
        coerce=int,
        choices=list(enumerate(DAYS)),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    first_day = forms.DateField(
        label="First day", required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    start_time = forms.TimeField(widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))
    end_time = forms.TimeField(
        required=False,
        widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        help_text="Of one that does not repeat: empty if somebody shall end it.",
    )
    days_later = forms.TypedChoiceField(
        label="Ends on",
        coerce=int,
        choices=list(enumerate(_LATER[: DAYS_LATER_MAX + 1])),
        initial=1,
    )
    last_day = forms.DateField(
        label="Last day", required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="The last day on which it starts. Empty: it goes on.",
    )
    exceptions = forms.CharField(
        label="Not on",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false"}),
        help_text="A day or a range in each line: 2026-12-24 or 2026-12-24 to 2027-01-02.",
    )
    lead_minutes = forms.IntegerField(
        label="Lead time in minutes",
        min_value=0,
        max_value=LEAD_MINUTES_MAX,
        initial=15,
        help_text="So long before it, no apply and no warm-up starts. Plans may.",
    )
    grace_seconds = forms.IntegerField(
        label="Grace in seconds",
        min_value=0,
        max_value=GRACE_SECONDS_MAX,
        initial=120,
        help_text="So long before it, running applies are asked to stop and save their state.",
    )
    enabled = forms.BooleanField(label="In use", required=False, initial=True)
    confirm = forms.CharField(
        label="Type the window's name",
        required=False,
        help_text="It begins within its lead time and ends what runs then.",
    )
    previewed = forms.CharField(required=False, widget=forms.HiddenInput)

    def prepare(self) -> None:
        """Fill the zones; the name is typed only when it must be."""
        field: Any = self.fields["time_zone"]
        field.choices = [(name, name) for name in sorted(zones())]
        field.initial = "UTC"
        if not self.is_bound:
            del self.fields["confirm"]

    def is_valid(self) -> bool:
        """Whether it may be saved: sound, and seen as it is."""
        return super().is_valid() and not self.preview

    def clean(self) -> dict[str, Any]:
        """Check the window as a whole and show what it means before it is saved."""
        data: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return data
        try:
            row, rule = drafted(self.values(data), self.chosen_pools(data))
            now = database_now()
            check_not_over(rule, now)
            soon = row.enabled and begins_soon(rule, now)
            coming = upcoming(rule, now, 5)
        except InvalidInput as refusal:
            self.add_error(refusal.field if refusal.field in self.fields else None, refusal.detail)
            return data
        seen = self._digest(data)
        if soon:
            self.fields["confirm"].required = True  # as the label says
        else:
            self.fields.pop("confirm", None)
        if data["previewed"] == seen:
            return data
        self.preview = render_to_string(
            "admin/slipway/pods/freeze_preview.html",
            {
                "rows": occurrence_rows(coming),
                "never": never_words(row),
                "impact": impact(pools_hit(row, self.chosen_pools(data))),
                "soon": soon,
                "now": now,
            },
        )
        posted: Any = self.data
        answers = posted.copy()
        answers[self.add_prefix("previewed")] = seen
        self.data = answers
        return data

    def chosen_pools(self, data: dict[str, Any]) -> list[Pool]:
        """Return the pools of the window; with all of them none is named."""
        return [] if data["all_pools"] else list(data["pools"])

    def _digest(self, data: dict[str, Any]) -> str:
        """Return what identifies everything but the typed name."""
        shown = {
            name: sorted(str(one.pk) for one in value) if name == "pools" else str(value)
            for name, value in data.items()
            if name not in {"confirm", "previewed"}
        }
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()

    def values(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the window's columns; those of the other kind are left out.

        Raises:
            InvalidInput: a line of the exceptions is none.
        """
        found = {name: data[name] for name in _PLAIN}
        if data["repeats"] == _WEEKLY:
            if not data["weekdays"]:
                raise InvalidInput("Choose the days on which it starts.", field="weekdays")
            return {
                **found,
                "weekdays": data["weekdays"],
                "days_later": data["days_later"],
                "until": data["until"],
                "exceptions": _ranges(data["exceptions"]),
                "first_day": None,
                "last_day": None,
            }
        return {
            **found,
            "weekdays": [],
            "days_later": 0,
            "until": None,
            "exceptions": [],
            "first_day": data["first_day"],
            "last_day": data["last_day"],
        }


def _ranges(text: str) -> list[Days]:
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        match = _RANGE.match(line)
        try:
            assert match is not None
            first = date.fromisoformat(match[1])
            found.append(Days(first, date.fromisoformat(match[2]) if match[2] else first))
        except (AssertionError, ValueError):
            raise InvalidInput(
                f"“{line}” is neither a day such as 2026-12-24 nor a range such as "
                "2026-12-24 to 2027-01-02.",
                field="exceptions",
            ) from None
    return found


def initial_of(row: FreezeWindow) -> dict[str, Any]:
    """Return a stored window as the form shows it."""
    days = ("weekdays", "days_later", "first_day", "last_day", "until")
    return {
        **{name: getattr(row, name) for name in (*_PLAIN, *days)},
        "pools": list(row.pools.all()),
        "repeats": _WEEKLY if row.weekdays else _ONCE,
        "exceptions": "\n".join(map(str, exceptions_of(row))),
    }


def occurrence_rows(intervals: list[Interval]) -> list[dict[str, Any]]:
    """Return occurrences in the window's zone and in UTC."""
    return [
        {
            "start": one.start,
            "end": one.end,
            "there": span_words(one, one.window.zone),
            "utc": span_words(one, "UTC"),
        }
        for one in intervals
    ]


class ReasonForm(OperationForm):
    reason = forms.CharField(max_length=500, help_text="For the others.")


class ExtendForm(ReasonForm):
    until = forms.DateTimeField(
        label="Until (UTC)",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )
    field_order = ["until", "reason"]

    def clean_until(self) -> datetime:
        """Return the time in UTC, as the label says."""
        moment: datetime = self.cleaned_data["until"]
        return moment.replace(tzinfo=UTC)


class OverrideForm(ReasonForm):
    minutes = forms.TypedChoiceField(
        label="For",
        coerce=int,
        choices=[
            (15, "15 minutes"),
            (30, "30 minutes"),
            (60, "1 hour"),
            (120, "2 hours"),
            (OVERRIDE_MINUTES_MAX, f"{OVERRIDE_MINUTES_MAX // 60} hours"),
        ],
        initial=30,
    )
    field_order = ["minutes", "reason"]


class FreezeNowForm(ReasonForm):
    ticket = ticket_field()
    confirm = forms.CharField(label="Type the pool's name")

    def clean_confirm(self) -> str:
        """Return the name that was typed."""
        typed: str = self.cleaned_data["confirm"]
        if typed != getattr(self.obj, "name", ""):
            raise forms.ValidationError("This is not the pool's name.")
        return typed
