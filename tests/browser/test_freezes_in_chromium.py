"""The pages of freezes: a window from the form through its preview, and how they look."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import time, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from pods_app.freeze.edges import leave
from pods_app.models import FreezeOverride, FreezeTransition, FreezeWindow, Pool
from tests.browser.test_accessibility import check
from tests.support.freezes import now, overridden, soon, window_row

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit

Visiting = Callable[..., "Visit"]
AGENDA = "/admin/pods_app/freezewindow/agenda/"


@pytest.fixture
def windows(server: Server) -> Iterator[dict[str, Any]]:
    """One in force and overridden, one that comes soon for another pool."""

    def make() -> dict[str, Any]:
        pool = server.showcase.pool
        other = Pool.objects.exclude(pk=pool.pk).first() or pool
        frozen = window_row(pool, time_zone="Asia/Kolkata", ticket="CHG-4711")
        comes = soon(other, name="release night", reason="the shop is busy", ticket="CHG-4712")
        overridden(pool, minutes=30)
        weekly = FreezeWindow.objects.create(
            name="weekends of the sale",
            reason="nobody is there to look",
            ticket="https://tickets.example.com/browse/CHG-4713",
            all_pools=True,
            time_zone="Europe/Berlin",
            weekdays=[4],
            start_time=time(22),
            end_time=time(6),
            days_later=3,
            until=now().date() + timedelta(days=20),
            enabled=False,
        )
        FreezeTransition.objects.create(
            pool=pool, from_state="open", to_state="frozen", reason="Frozen (quarter end)"
        )
        return {"frozen": frozen, "comes": comes, "weekly": weekly, "pool": pool}

    def clean() -> None:
        for model in (FreezeWindow, FreezeOverride, FreezeTransition):
            model.objects.all().delete()
        for pool in Pool.objects.filter(frozen=True):
            leave(pool.pk)

    yield server.run(make)
    server.run(clean)


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (400, True)])
def test_the_pages_fit_and_pass_axe(
    windows: dict[str, Any], visit: Visiting, width: int, dark: bool
) -> None:
    found = visit(width=width, dark=dark)
    for path in (
        AGENDA,
        "/admin/pods_app/freezewindow/",
        f"/admin/pods_app/freezewindow/{windows['frozen'].pk}/change/",
        f"/admin/pods_app/freezewindow/{windows['weekly'].pk}/change/",
        f"/admin/pods_app/pool/{windows['pool'].pk}/change/",
        "/admin/pods_app/freezewindow/add/",
    ):
        page = found.open(path)
        expect(page.locator(".sw-banner")).to_contain_text("Freezes at")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        check(page)


def test_a_window_from_the_form_through_its_preview(
    server: Server, windows: dict[str, Any], visit: Visiting
) -> None:
    page = visit().open("/admin/pods_app/freezewindow/add/")
    far = (server.run(now) + timedelta(days=3)).weekday()
    page.get_by_label("Name", exact=False).first.fill("nightly")
    page.locator("[name=reason]").fill("backups run")
    page.get_by_label("Once").check()
    expect(page.locator("[name=first_day]")).to_be_visible()
    for name in ("weekdays", "until"):
        expect(page.locator(f"[name={name}]").first).to_be_hidden()
    page.get_by_label("Every week").check()
    expect(page.locator("[name=first_day]")).to_be_hidden()
    page.locator("[name=all_pools]").check()
    expect(page.locator("[name=pools]").first).to_be_hidden()
    page.locator("[name=time_zone]").select_option("Europe/Berlin")
    page.locator(f"[name=weekdays][value='{far}']").check()
    page.locator("[name=start_time]").fill("22:00")
    page.locator("[name=end_time]").fill("06:00")
    page.locator("[name=ticket]").fill("CHG-4714")
    page.locator("[name=until]").fill(f"{server.run(now) + timedelta(days=25):%Y-%m-%d}")
    page.get_by_role("button", name="Save window").click()
    preview = page.locator(".sw-preview")
    expect(preview).to_contain_text("Nothing is saved yet")
    expect(preview.locator("tbody tr")).to_have_count(4)
    expect(preview).to_contain_text("If it began now")
    page.get_by_role("button", name="Save window").click()
    expect(page.locator("h2.sw-title")).to_contain_text("nightly")
    expect(page.locator(".sw-message")).to_contain_text("backups run [CHG-4714]")
    assert server.run(lambda: FreezeWindow.objects.filter(name="nightly").exists())
