"""What operators were told of freezes, and whether it arrived."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from pods_app.freeze.notices.channels import EMAIL
from pods_app.freeze.notices.passes import ATTEMPTS_MAX
from pods_app.models import FreezeNotice, NoticeDelivery
from tasks_app.admin.base import SlipwayAdmin
from tasks_app.formats import DASH, ago, badge, lines
from tasks_app.permissions import Action

_SENT = badge("Sent", "good", "mark_email_read")
_WAITING = badge("On its way", "busy", "outgoing_mail")
_TRYING = badge("Tries again", "ask", "schedule_send")
_GIVEN_UP = badge("Given up", "bad", "unsubscribe")
_WITHDRAWN = badge("Withdrawn", "quiet", "cancel_schedule_send")
#: What of many deliveries is shown for all: the worst.
_WORST = (_GIVEN_UP, _TRYING, _WAITING, _SENT, _WITHDRAWN)


def _state(row: NoticeDelivery) -> Any:
    if row.sent_at:
        return _SENT
    if row.next_at:
        return _TRYING if row.attempts else _WAITING
    return _GIVEN_UP if row.attempts >= ATTEMPTS_MAX else _WITHDRAWN


def _way(row: NoticeDelivery) -> str:
    return "E-mail" if row.channel == EMAIL else "Webhook"


def _delivery(row: NoticeDelivery) -> tuple[str, Any]:
    """Say of one channel how far it is; addresses are known to the settings only."""
    when = row.sent_at or row.next_at
    error = row.error and f"{row.error} ({row.attempts} attempt{'s' * (row.attempts != 1)})"
    told = format_html("{} {}", _state(row), ago(when) if when else "")
    return _way(row), lines(filter(None, [told, error]))


@admin.register(FreezeNotice)
class FreezeNoticeAdmin(SlipwayAdmin):
    """Notices, for those who operate pools: they name pools and tasks of every project."""

    view_action = Action.OPERATE
    empty_text = (
        "Nobody was told of a freeze yet. NOTICE_EMAILS and NOTICE_WEBHOOK_URLS say who is told."
    )
    list_display = ("subject", "kind", "about_time", "ways", "state", "error")
    list_filter: ClassVar[Any] = (("kind", ChoicesDropdownFilter),)
    search_fields = ("subject",)
    ordering = ("-id",)
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[FreezeNotice]:
        return super().get_queryset(request).prefetch_related("deliveries")

    @admin.display(description="About")
    def about_time(self, obj: FreezeNotice) -> Any:
        return ago(obj.about)

    @admin.display(description="To")
    def ways(self, obj: FreezeNotice) -> str:
        return ", ".join(dict.fromkeys(map(_way, obj.deliveries.all())))

    @admin.display(description="State")
    def state(self, obj: FreezeNotice) -> Any:
        return min(map(_state, obj.deliveries.all()), key=_WORST.index, default=DASH)

    @admin.display(description="Last error")
    def error(self, obj: FreezeNotice) -> Any:
        return (
            "; ".join(dict.fromkeys(row.error for row in obj.deliveries.all() if row.error)) or DASH
        )

    def facts(self, request: HttpRequest, obj: FreezeNotice) -> list[tuple[str, Any]]:
        return [
            ("Kind", obj.get_kind_display()),
            ("About", ago(obj.about)),
            ("Made", ago(obj.created_at)),
            *map(_delivery, obj.deliveries.all()),
            ("Text", lines(filter(None, obj.text.split("\n")))),
        ]
