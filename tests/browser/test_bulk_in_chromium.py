"""Several plans at once, from the list of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.services import tasks
from tasks_app.states import Status
from tests.support.factories import finish_planning, make_pod, make_task
from tests.support.showcase import make_configured
from tests.support.showcase_contents import plan_contents

if TYPE_CHECKING:
    from tests.browser.conftest import Server, Visit

Visiting = Callable[..., "Visit"]


def _waiting(server: Server, name: str) -> Task:
    def make() -> Task:
        make_pod(server.showcase.pool)
        workspace = make_configured(name, server.showcase.workspace.project)
        task = make_task(actor=Actor.person(server.showcase.admin), workspace=workspace)
        return finish_planning(task, **plan_contents())

    return server.run(make)


def test_a_dialog_lists_the_selected_plans_and_then_each_outcome(
    server: Server, visit: Visiting
) -> None:
    good, stale = _waiting(server, "bulk-good"), _waiting(server, "bulk-stale")
    page = visit(server.showcase.approver).open("/admin/tasks_app/task/")
    for task in (good, stale):
        page.locator(f"input.action-select[value='{task.pk}']").check()
    page.locator("select[name=action]").select_option("discard")
    page.get_by_role("button", name="Run").click()
    dialog = page.get_by_role("dialog", name="Discard plan: 2 plans")
    expect(dialog).to_contain_text("bulk-good #1")
    expect(dialog.get_by_label("Comment")).to_be_focused()
    actor = Actor.person(server.showcase.admin)
    server.run(lambda: tasks.discard_task(actor=actor, task_id=stale.pk))
    dialog.get_by_role("button", name="Discard 2 plans").click()
    outcome = page.get_by_role("dialog", name="1 of 2 discarded")
    expect(outcome).to_contain_text("Discarded the plan of #1.")
    expect(outcome).to_contain_text("Not discarded. The task changed meanwhile")
    page.keyboard.press("Escape")
    row = page.get_by_role("row").filter(has_text="bulk-good")
    expect(row).to_contain_text("Discarded")  # the list was loaded again
    found = server.run(lambda: Task.objects.values_list("status", flat=True).get(pk=good.pk))
    assert found == Status.DISCARDED
