"""What lies ready before a confirmation, and an apply that nobody knows of, as people see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from agents_app.models import Agent
from tasks_app.models import Event, Task
from tasks_app.states import Status, WarmupStatus
from tests.browser.test_accessibility import check
from tests.browser.test_admin_in_chromium import _CONTRAST, _waiting
from tests.support.showcase import lease_of
from tests.support.warmups import report

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit

Visiting = Callable[..., "Visit"]


def _unknown(server: Server) -> Task:
    found: Task = server.run(lambda: Task.objects.get(status=Status.APPLY_UNKNOWN))
    return found


def test_the_forecast_follows_what_the_agent_tells(server: Server, visit: Visiting) -> None:
    task = _waiting(server, "followed")
    page = visit(server.showcase.approver).task(task)
    start = page.get_by_label("How the apply will start")
    expect(start).to_contain_text("Will start from the kept directory on agent")
    expect(start).to_contain_text("has not told yet that Terraform waits")
    page.evaluate("window.sameDocument = true")
    server.run(lambda: report(lease_of(task), held=True))
    expect(start).to_contain_text("Will start from the held Terraform on agent")
    assert page.evaluate("window.sameDocument")
    page.locator("#do-confirm").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("How the apply will start")).to_contain_text("held Terraform")
    dialog.get_by_role("button", name="Confirm and apply").click()
    expect(page.locator("[data-part=head] .sw-badge").first).to_contain_text("Confirmed")
    expect(start).to_have_count(0)


def test_the_log_of_the_warm_up_has_a_tab(server: Server, visit: Visiting) -> None:
    page = visit().task(server.showcase.waiting)
    page.get_by_role("tab", name="Warm-up").click()
    expect(page.locator("[data-log-pane=warmup]")).to_contain_text("waits at its gate")


def test_saying_that_it_still_runs_changes_nothing_else(server: Server, visit: Visiting) -> None:
    task = _unknown(server)
    page = visit().task(task)
    page.locator("#do-resolve").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("The state is still locked by this apply")
    dialog.get_by_label("Still running").check()
    dialog.get_by_label("Comment").fill("seen on edge-1")
    dialog.get_by_role("button", name="Give this verdict").click()
    expect(page.locator(".sw-toast")).to_contain_text("still runs")
    expect(page.locator("[data-part=evidence]")).to_contain_text("seen on edge-1")
    expect(page.locator("[data-part=head] .sw-badge").first).to_contain_text("Apply unknown")
    server.run(lambda: Event.objects.filter(kind="task.still_running").delete())


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False), (1440, True)])
def test_the_pages_can_be_read_and_do_not_scroll_sideways(
    server: Server, visit: Visiting, width: int, dark: bool
) -> None:
    def rows() -> list[Any]:
        agent = Agent.objects.get(pod__slots__task=server.showcase.waiting)
        failed = Task.objects.get(warmup_status=WarmupStatus.FAILED)
        return [agent, agent.pod, failed]

    found = visit(width=width, dark=dark)
    texts = ".sw-badge, .sw-subtle, .sw-notice, .sw-notice li, .sw-warmup, dt, dd, th, td, time"
    for row in [*server.run(rows), _unknown(server)]:
        page = found.open(f"/admin/{row._meta.app_label}/{row._meta.model_name}/{row.pk}/change/")
        expect(page.locator("[data-part=head]")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, row
        assert page.evaluate(_CONTRAST, texts) == [], row
        check(page)
