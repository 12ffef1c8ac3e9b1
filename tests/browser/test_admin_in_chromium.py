"""The admin as people use it: keyboard, dialogs, live log, narrow and dark pages."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.states import Status
from tests.support.factories import finish_planning, make_pod, make_task
from tests.support.showcase import fail_plan, make_configured, start_apply
from tests.support.showcase_contents import plan_contents, write_log

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit

Visiting = Callable[..., "Visit"]

PAGES = [
    "/admin/",
    "/admin/tasks_app/task/",
    "/admin/tasks_app/workspace/",
    "/admin/tasks_app/workspace/add/",
    "/admin/tasks_app/project/",
    "/admin/tasks_app/variable/",
    "/admin/tasks_app/event/",
    "/admin/tasks_app/statelock/",
    "/admin/pods_app/pool/",
    "/admin/pods_app/managedpod/",
    "/admin/pods_app/podslot/",
    "/admin/pods_app/workdirectory/",
    "/admin/agents_app/agent/",
    "/admin/knox/authtoken/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/django_q/schedule/",
]


def _waiting(server: Server, name: str) -> Task:
    """A plan that waits, in a workspace of its own."""

    def make() -> Task:
        make_pod(server.showcase.pool)  # reserved slots stay taken
        workspace = make_configured(name, server.showcase.workspace.project)
        actor = Actor.person(server.showcase.admin)
        task = make_task(actor=actor, workspace=workspace)
        return finish_planning(task, **plan_contents())

    return server.run(make)


def _status(server: Server, task: Task) -> str:
    return str(server.run(lambda: Task.objects.values_list("status", flat=True).get(pk=task.pk)))


def test_confirming_by_keyboard_alone(server: Server, visit: Visiting) -> None:
    task = _waiting(server, "by-keyboard")
    page = visit(server.showcase.approver).task(task)
    page.locator("#do-confirm").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Confirm and apply this plan?")
    expect(dialog.locator(".sw-confirm-counts")).to_contain_text("−2")
    expect(dialog.get_by_label("Comment")).to_be_focused()
    page.keyboard.type("read every line")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(dialog.get_by_role("button", name="Confirm and apply")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".sw-toast")).to_contain_text("the apply starts now")
    expect(page.locator("[data-part=head] .sw-badge").first).to_contain_text("Confirmed")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert _status(server, task) == Status.CONFIRMED


def test_the_dialog_keeps_the_focus_and_gives_it_back(server: Server, visit: Visiting) -> None:
    page = visit().task(server.showcase.waiting)
    page.locator("#do-discard").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert dialog.get_attribute("aria-modal") == "true"
    expect(page.get_by_role("dialog", name="Discard this plan?")).to_be_visible()
    for key in ["Tab"] * 7 + ["Shift+Tab"] * 7:
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.closest('dialog') !== null"), key
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#do-discard")).to_be_focused()
    assert _status(server, server.showcase.waiting) == Status.APPLY_PENDING


def test_a_stale_dialog_says_so(server: Server, visit: Visiting) -> None:
    from tasks_app.services import tasks

    task = _waiting(server, "stale")
    found = visit(server.showcase.approver)
    page = found.task(task)
    page.locator("#do-confirm").click()
    button = page.get_by_role("button", name="Confirm and apply")
    expect(button).to_be_visible()
    actor = Actor.person(server.showcase.admin)
    server.run(lambda: tasks.discard_task(actor=actor, task_id=task.pk))
    button.click()
    expect(page.get_by_role("alert")).to_contain_text("changed meanwhile")
    assert _status(server, task) == Status.DISCARDED
    found.errors.clear()  # Chromium notes the 409 itself


def test_the_log_follows_and_leaves_a_reader_alone(server: Server, visit: Visiting) -> None:
    task = _waiting(server, "log")
    actor = Actor.person(server.showcase.admin)
    server.run(lambda: start_apply(Task.objects.get(pk=task.pk), actor))
    server.run(lambda: write_log(task, "apply", [f"line {n}" for n in range(1, 201)]))
    page = visit().task(task)
    pane = page.locator("[data-log-pane=apply]")
    expect(pane.locator(".sw-line")).to_have_count(200)
    at_end = "p => p.scrollHeight - p.scrollTop - p.clientHeight < 30"
    assert pane.evaluate(at_end)
    server.run(lambda: write_log(task, "apply", ["one more"]))
    expect(pane.locator(".sw-line")).to_have_count(201)
    assert pane.evaluate(at_end)

    pane.evaluate("p => { p.scrollTop = 300 }")
    follow = page.locator("[data-log-follow]")
    expect(follow).to_have_attribute("aria-pressed", "false")
    server.run(lambda: write_log(task, "apply", [f"later {n}" for n in range(145)]))
    expect(pane.locator(".sw-line")).to_have_count(346)
    assert pane.evaluate("p => p.scrollTop") == 300
    follow.click()
    assert pane.evaluate(at_end)


def test_markup_in_a_log_stays_text_and_colours_are_kept(server: Server, visit: Visiting) -> None:
    page = visit().task(server.showcase.waiting)
    title = page.title()
    line = page.locator(".sw-line", has_text="document.title")
    expect(line).to_contain_text(
        "<script>document.title = 'broken'</script> <b>markup stays text</b>"
    )
    assert page.locator(".sw-log-pane script, .sw-log-pane b").count() == 0
    expect(page.locator(".sw-line .sgr-32").first).to_contain_text("successfully initialized")
    page.get_by_role("tab", name="Full text").click()
    expect(page.locator(".sw-plan-text")).to_contain_text("<script>document.title")
    assert page.locator(".sw-plan-text script").count() == 0
    assert page.title() == title


def test_searching_the_log_and_filtering_the_plan(server: Server, visit: Visiting) -> None:
    page = visit().task(server.showcase.waiting)
    expect(page.locator(".sw-line").nth(30)).to_be_attached()
    page.get_by_label("Search the log").fill("subnet-0000")
    expect(page.locator("[data-log-hits]")).to_have_text("16 lines")
    page.get_by_label("Filter by address").fill("ssh")
    expect(page.locator("[data-change]:visible")).to_have_count(1)
    page.locator("[data-change]:visible summary").click()
    expect(page.locator("[data-change]:visible .sw-attributes")).to_contain_text("from_port")


def test_the_page_changes_in_place(server: Server, visit: Visiting) -> None:
    def make() -> Task:
        make_pod(server.showcase.pool)
        workspace = make_configured("in-place", server.showcase.workspace.project)
        return make_task(actor=Actor.person(server.showcase.admin), workspace=workspace)

    task = server.run(make)
    page = visit().task(task)
    badge = page.locator("[data-part=head] .sw-badge").first
    expect(badge).to_contain_text("Planning")
    page.evaluate("window.scrollTo(0, 120); window.sameDocument = true")
    page.get_by_label("Search the log").focus()
    server.run(lambda: fail_plan(task))
    expect(badge).to_contain_text("Failed")
    expect(page.locator("[data-part=diagnostics]")).to_contain_text("network/main.tf:14")
    assert page.evaluate("window.sameDocument && window.scrollY") == 120
    expect(page.get_by_label("Search the log")).to_be_focused()


def test_a_page_that_cannot_refresh_says_that_it_is_stale(server: Server, visit: Visiting) -> None:
    found = visit()
    page = found.open("/admin/")
    expect(page.locator("[data-freshness]")).to_contain_text("Updated")
    page.context.set_offline(True)
    expect(page.locator("[data-freshness]")).to_contain_text("Stale: the server cannot be reached")
    page.context.set_offline(False)
    expect(page.locator("[data-freshness]")).to_contain_text("Updated")
    found.errors.clear()  # Chromium notes the lost connection itself


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1440, False)])
def test_no_page_scrolls_sideways_or_calls_another_host(
    server: Server, visit: Visiting, width: int, dark: bool
) -> None:
    show = server.showcase
    paths = [
        *PAGES,
        f"/admin/tasks_app/task/{show.waiting.pk}/change/",
        f"/admin/tasks_app/task/{show.failed.pk}/change/",
        f"/admin/tasks_app/workspace/{show.workspace.pk}/change/",
        f"/admin/pods_app/pool/{show.pool.pk}/change/",
    ]
    found = visit(width=width, dark=dark)
    for path in paths:
        page = found.open(path)
        assert page.locator("main").count() == 1, path
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("document.documentElement.classList.contains('dark')") is dark, path


_CONTRAST = """(selectors) => {
  const channel = (value) => {
    const v = value / 255;
    return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  };
  const parse = (text) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (c) => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const color = parse(getComputedStyle(node).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll(selectors)) {
    if (!node.offsetParent || !node.textContent.trim()) continue;
    const a = light(parse(getComputedStyle(node).color)), b = light(ground(node));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([node.className, node.textContent.trim().slice(0, 40), ratio]);
  }
  return poor;
}"""


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_enough_contrast(server: Server, visit: Visiting, dark: bool) -> None:
    found = visit(dark=dark)
    texts = (
        ".sw-badge, .sw-subtle, .sw-notice, .sw-button, .sw-link, .sw-count, .sw-line span, "
        "dt, dd, th, td, time"
    )
    show = server.showcase
    for task in (show.waiting, show.failed, show.applying):
        page = found.task(task)
        expect(page.locator(".sw-line").first).to_be_attached()
        assert page.evaluate(_CONTRAST, texts) == []
    for path in (
        "/admin/",
        "/admin/tasks_app/task/",
        f"/admin/pods_app/pool/{show.pool.pk}/change/",
    ):
        assert found.open(path).evaluate(_CONTRAST, texts) == [], path


def test_a_workspace_from_nothing_to_its_first_plan(server: Server, visit: Visiting) -> None:
    from tests.support.configurations import archive

    page = visit().open("/admin/tasks_app/workspace/add/")
    page.get_by_label("Name").fill("made-by-hand")
    page.get_by_role("button", name="Create workspace").click()
    expect(page.locator("[data-part=head]")).to_contain_text("Next step: upload a configuration")
    page.locator("#do-upload").click()
    dialog = page.get_by_role("dialog")
    content = archive({"main.tf": 'resource "terraform_data" "a" {}'})
    dialog.get_by_label("Archive (tar.gz)").set_input_files(
        {"name": "c.tar.gz", "mimeType": "application/gzip", "buffer": content}
    )
    dialog.get_by_role("button", name="Upload").click()
    expect(page.locator("[data-part=configurations]")).to_contain_text("Version 1")
    page.locator("#do-plan").click()
    page.get_by_role("button", name="Start planning").click()
    expect(page.locator(".sw-toast")).to_contain_text("Queued #1")
    expect(page.locator("h2.sw-title").first).to_contain_text("made-by-hand #1")


def test_a_token_is_shown_once(server: Server, visit: Visiting) -> None:
    page = visit().open(f"/admin/pods_app/pool/{server.showcase.pool.pk}/change/")
    page.locator("#do-create_token").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("laptop")
    dialog.get_by_role("button", name="Make token").click()
    secret: Any = dialog.get_by_label("Copy it now")
    expect(secret).to_have_value(re.compile("^slp_"))
    token = secret.input_value()
    dialog.get_by_role("link", name="Done").click()
    expect(page.locator("[data-part=tokens]")).to_contain_text("laptop")
    assert token not in page.content()
