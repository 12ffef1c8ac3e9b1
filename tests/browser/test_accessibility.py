"""The main pages under axe: nothing serious or critical, light and dark, narrow and wide.

All of axe's rules, and no exception: what Unfold brings passes as well.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit

Visiting = Callable[..., "Visit"]

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text()
GRAVE = {"serious", "critical"}


def check(page: Page) -> None:
    """Let axe look at a page, and name every element with something grave."""
    page.evaluate(AXE)
    # Until its font is there, an icon is the text of its name.
    page.evaluate("async () => { await document.fonts.ready }")
    found: Any = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    grave = [
        f"{rule['impact']} {rule['id']}: {node['html'][:300]} ({node['failureSummary']})"
        for rule in found["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]
    assert not grave, "\n".join(grave)


LOOKS = pytest.mark.parametrize(
    ("dark", "width"),
    [(False, 1440), (True, 400)],
    ids=["light-wide", "dark-narrow"],
)


def path_of(server: Server, page: str) -> str:
    made = server.showcase
    return {
        "dashboard": "/admin/",
        "tasks": "/admin/tasks_app/task/",
        "task that waits": f"/admin/tasks_app/task/{made.waiting.pk}/change/",
        "task that failed": f"/admin/tasks_app/task/{made.failed.pk}/change/",
        "task that applies": f"/admin/tasks_app/task/{made.applying.pk}/change/",
        "workspaces": "/admin/tasks_app/workspace/",
        "workspace": f"/admin/tasks_app/workspace/{made.workspace.pk}/change/",
        "pool": f"/admin/pods_app/pool/{made.pool.pk}/change/",
        "slot grid": "/admin/pods_app/managedpod/grid/",
        "state versions": "/admin/tasks_app/stateversion/",
        "bulk": f"/admin/tasks_app/task/bulk/confirm/?task={made.waiting.pk}&task={made.failed.pk}",
    }[page]


PAGES = [
    "dashboard",
    "tasks",
    "task that waits",
    "task that failed",
    "task that applies",
    "workspaces",
    "workspace",
    "pool",
    "slot grid",
    "state versions",
    "bulk",
]


@LOOKS
@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_grave_barrier(
    server: Server, visit: Visiting, name: str, dark: bool, width: int
) -> None:
    page = visit(dark=dark, width=width).open(path_of(server, name))
    expect(page.get_by_text("Loading …")).to_have_count(0)
    check(page)


@LOOKS
def test_signing_in_has_no_grave_barrier(
    server: Server, visit: Visiting, dark: bool, width: int
) -> None:
    visited = visit(dark=dark, width=width)
    visited.page.context.clear_cookies()
    page = visited.open("/admin/login/")
    expect(page.locator("[name=username]")).to_be_visible()
    check(page)


@LOOKS
def test_a_dialog_has_no_grave_barrier(
    server: Server, visit: Visiting, dark: bool, width: int
) -> None:
    page = visit(dark=dark, width=width).task(server.showcase.waiting)
    page.locator("#do-confirm").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    check(page)
