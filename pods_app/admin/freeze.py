"""Freeze windows and what people do with them; the agenda of what comes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from pods_app.admin.freeze_forms import (
    ExtendForm,
    ReasonForm,
    WindowForm,
    initial_of,
    occurrence_rows,
)
from pods_app.admin.pool import Operates
from pods_app.api.visibility import visible_pools, visible_windows
from pods_app.freeze import services
from pods_app.freeze.state import moment_words, with_ticket
from pods_app.freeze.status import impact, pools_hit, standings
from pods_app.freeze.stored import window_of
from pods_app.freeze.windows import Interval, UnreadableWindow, occurrences, upcoming
from pods_app.freeze.words import days_words, looks, never_words, pool_words, time_words
from pods_app.models import FreezeOverride, FreezeTransition, FreezeWindow
from tasks_app.actors import Actor
from tasks_app.admin.base import PARTS_HEADER, SlipwayAdmin, list_url, may_cached, object_url
from tasks_app.admin.operations import Availability, Done
from tasks_app.formats import DASH, ago, badge
from tasks_app.permissions import Action, may

AGENDA_DAYS = 30
_ROWS_MAX, _HISTORY_MAX = 200, 15


class CreateWindow(Operates):
    name, label, icon, tone = "create", "Add window", "event_busy", "primary"
    title, submit = "Add a freeze window", "Save window"
    text = "While it is in force its pools start nothing and have no pods."
    form_class = WindowForm
    wide = True

    def run(self, actor: Actor, obj: Any, data: dict[str, Any]) -> Done:
        row = services.create_window(actor=actor, **_arguments(data))
        return Done(f"“{row.name}” is saved.", object_url(row))


def _arguments(data: dict[str, Any]) -> dict[str, Any]:
    form = WindowForm()
    return {
        **form.values(data),
        "pools": form.chosen_pools(data),
        "confirm": data.get("confirm", ""),
    }


class WindowOperation(Operates):
    """What can be done only while a window is, or is not, in force."""

    in_force_only = False

    def availability(self, actor: Actor, obj: FreezeWindow) -> Availability:
        present = services.in_force(obj, services.database_now()) is not None
        reason = ""
        if self.in_force_only and not present:
            reason = "It is not in force now."
        elif present and not self.in_force_only:
            reason = "It is in force: end it early or extend it."
        return Availability(may(actor, Action.OPERATE), reason)


class ChangeWindow(WindowOperation):
    name, label, icon = "settings", "Change", "edit_calendar"
    title, submit, wide = "Change the window", "Save window", True
    form_class = WindowForm

    def initial(self, obj: FreezeWindow) -> dict[str, Any]:
        return initial_of(obj)

    def run(self, actor: Actor, obj: FreezeWindow, data: dict[str, Any]) -> Done:
        services.change_window(actor=actor, window=obj, **_arguments(data))
        return Done("The window is saved.")


class EndEarly(WindowOperation):
    name, label, icon, tone = "end", "End early", "event_available", "primary"
    title, submit = "End this freeze now?", "End it now"
    text = "Pods come back and what waits starts. The next times are as ever."
    form_class = ReasonForm
    in_force_only = True

    def run(self, actor: Actor, obj: FreezeWindow, data: dict[str, Any]) -> Done:
        services.end_early(actor=actor, window=obj, reason=data["reason"])
        return Done(f"“{obj.name}” has ended.")


class Extend(WindowOperation):
    name, label, icon = "extend", "Extend", "more_time"
    title, submit = "Let this freeze last longer", "Extend"
    form_class = ExtendForm
    in_force_only = True

    def run(self, actor: Actor, obj: FreezeWindow, data: dict[str, Any]) -> Done:
        row = services.extend(actor=actor, window=obj, **data)
        return Done(f"It lasts until {moment_words(row.adjusted_end, row.time_zone)}.")


class DeleteWindow(WindowOperation):
    name, label, icon, tone = "delete", "Delete", "delete", "danger"
    title, submit = "Delete this window?", "Delete"
    text = "It does not come again. The history of its freezes stays."

    def run(self, actor: Actor, obj: FreezeWindow, data: dict[str, Any]) -> Done:
        services.delete_window(actor=actor, window=obj)
        return Done(f"“{obj.name}” is deleted.", list_url(FreezeWindow))


@admin.register(FreezeWindow)
class FreezeWindowAdmin(SlipwayAdmin):
    """The windows of pools a person sees."""

    page_template = "admin/slipway/pods/freeze.html"
    create = CreateWindow()
    operations = (EndEarly(), Extend(), ChangeWindow(), DeleteWindow())
    empty_text = "No freeze is planned. “Add” makes a window in which pools start nothing."
    list_display = ("name", "state_badge", "pools_word", "when", "zone", "next_time")
    search_fields = ("name", "reason", "ticket")
    sortable_by = ("name",)
    ordering = ("name", "id")
    refresh_ms = 5000

    def get_queryset(self, request: HttpRequest) -> QuerySet[FreezeWindow]:
        seen = visible_windows(request.user).values("pk")
        return super().get_queryset(request).filter(pk__in=seen).prefetch_related("pools")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Ask once per list for the time and for what may be named."""
        changelist = super().get_changelist_instance(request)
        now = services.database_now()
        visible = set(visible_pools(request.user).values_list("pk", flat=True))
        for row in changelist.result_list:
            row.coming, row.now, row.visible = _coming(row, now, 1), now, visible
        return changelist

    @admin.display(description="State")
    def state_badge(self, obj: Any) -> Any:
        word, tone, symbol = looks(obj, obj.coming, obj.now)
        return badge(word, tone, symbol)

    @admin.display(description="Pools")
    def pools_word(self, obj: Any) -> str:
        return pool_words(obj, obj.visible)

    @admin.display(description="When")
    def when(self, obj: FreezeWindow) -> str:
        return f"{days_words(obj)}, {time_words(obj)}"

    @admin.display(description="Time zone")
    def zone(self, obj: FreezeWindow) -> str:
        return obj.time_zone

    @admin.display(description="Next")
    def next_time(self, obj: Any) -> Any:
        return ago(obj.coming[0].start) if obj.coming else DASH

    def subtitle(self, obj: FreezeWindow) -> str:
        return with_ticket(obj.reason, obj.ticket)

    def page_context(self, request: HttpRequest, obj: FreezeWindow) -> dict[str, Any]:
        now = services.database_now()
        coming = _coming(obj, now, 5)
        visible = set(visible_pools(request.user).values_list("pk", flat=True))
        word, tone, symbol = looks(obj, coming, now)
        return {
            "window": obj,
            "why": self.subtitle(obj),
            "state": {"word": word, "tone": tone, "symbol": symbol},
            "when": f"{days_words(obj)}, {time_words(obj)}",
            "pools_word": pool_words(obj, visible),
            "pools": [pool for pool in obj.pools.all() if pool.pk in visible],
            "exceptions": list(map(str, services.exceptions_of(obj))),
            "rows": occurrence_rows(coming),
            "never": never_words(obj),
            "impact": impact(pools_hit(obj, list(obj.pools.all()))),
            "operates": may_cached(request, Action.OPERATE),
            "adjusted": obj.adjusted_end and moment_words(obj.adjusted_end, obj.time_zone),
            "agenda_url": reverse("admin:pods_app_freezewindow_agenda"),
        }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.agenda_view)
        return [path("agenda/", view, name="pods_app_freezewindow_agenda"), *super().get_urls()]

    def agenda_view(self, request: HttpRequest) -> HttpResponse:
        """What freezes in the next weeks, what is frozen now, and what was."""
        if not self.has_view_permission(request):
            raise Http404
        in_parts = PARTS_HEADER in request.headers
        now = services.database_now()
        windows = list(self.get_queryset(request))
        pools = list(visible_pools(request.user).order_by("name"))
        ids = [pool.pk for pool in pools]
        overrides = FreezeOverride.objects.filter(pool__in=ids, expires_at__gt=now)
        history = FreezeTransition.objects.filter(pool__in=ids).select_related("pool")
        context = {
            **({} if in_parts else self.admin_site.each_context(request)),
            "layout": "admin/slipway/fragment.html" if in_parts else "admin/base_site.html",
            "opts": self.opts,
            "title": "Agenda of freezes",
            "every_ms": self.refresh_ms,
            "days": AGENDA_DAYS,
            "standings": [(one, object_url(one.pool)) for one in standings(pools)],
            "rows": _agenda(windows, now, set(ids)),
            "overrides": list(overrides.select_related("pool", "created_by")),
            "history": list(history[:_HISTORY_MAX]),
            "windows_url": list_url(FreezeWindow),
        }
        return TemplateResponse(request, "admin/slipway/pods/agenda.html", context)


def _coming(row: FreezeWindow, now: Any, count: int) -> list[Interval]:
    try:
        return upcoming(window_of(row), now, count) if row.enabled else []
    except UnreadableWindow:
        return []


def _agenda(windows: Sequence[FreezeWindow], now: Any, visible: set[Any]) -> list[dict[str, Any]]:
    found: list[tuple[Interval, FreezeWindow]] = []
    for row in windows:
        if row.enabled:
            try:
                coming = list(occurrences(window_of(row), now, now + timedelta(days=AGENDA_DAYS)))
            except UnreadableWindow:
                continue
            found += [(interval, row) for interval in coming]
    found.sort(key=lambda pair: pair[0].start)
    return [
        {
            **occurrence_rows([interval])[0],
            "window": row,
            "why": with_ticket(row.reason, row.ticket),
            "url": object_url(row),
            "pools": pool_words(row, visible),
            "now": now in interval,
        }
        for interval, row in found[:_ROWS_MAX]
    ]
