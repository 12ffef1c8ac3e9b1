"""Notices of freezes, looked at: the list and one notice, light and dark, narrow and wide."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from pods_app.freeze.notices.passes import ATTEMPTS_MAX
from pods_app.models import FreezeNotice, NoticeDelivery
from tests.browser.test_accessibility import LOOKS, check
from tests.support.freezes import now

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit

SUBJECT = "Freeze from 22:00 CET on Mon 3 Mar 2025 (21:00 UTC): quay, harbour, pier"
TEXT = "“quarter end” begins at 22:00.\n\nReason: the books are closed\n\nhttps://slipway.example/a"


@pytest.fixture
def notice(server: Server) -> FreezeNotice:
    """One that a mail server took, one webhook not yet, and another never."""

    def make() -> FreezeNotice:
        FreezeNotice.objects.all().delete()
        row = FreezeNotice.objects.create(
            kind="freeze.in_1_hour", about=now() + timedelta(hours=1), subject=SUBJECT, text=TEXT
        )
        soon, error = now() + timedelta(minutes=4), "It answered 503"
        NoticeDelivery.objects.bulk_create(
            NoticeDelivery(notice=row, **fields)
            for fields in (
                {"channel": "email", "attempts": 1, "sent_at": now()},
                {"channel": "webhook-1", "attempts": 3, "next_at": soon, "error": error},
                {"channel": "webhook-2", "attempts": ATTEMPTS_MAX, "error": error},
            )
        )
        return row

    return server.run(make)


@LOOKS
def test_the_list_and_a_notice(
    visit: Callable[..., Visit], notice: FreezeNotice, dark: bool, width: int
) -> None:
    visited = visit(dark=dark, width=width)
    page = visited.open("/admin/pods_app/freezenotice/")
    expect(page.get_by_text("Given up")).to_be_visible()
    check(page)
    page.get_by_role("link", name=SUBJECT).click()
    expect(page.get_by_text("Tries again")).to_be_visible()
    expect(page.get_by_text("the books are closed")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    check(page)
