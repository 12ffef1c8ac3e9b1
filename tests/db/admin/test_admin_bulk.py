"""Several plans at once: all are listed, each goes through its own service and has its outcome."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tasks_app.actors import Actor
from tasks_app.admin import task_bulk
from tasks_app.models import Event, Project, RoleAssignment, Task
from tasks_app.services import tasks
from tasks_app.states import Status
from tests.support.factories import finish_planning, make_pod, make_task, make_user
from tests.support.showcase import Showcase, make_configured
from tests.support.showcase_contents import plan_contents

DIALOG = {"X-Slipway-Dialog": "1"}
LIST = reverse("admin:tasks_app_task_changelist")


def url(name: str) -> str:
    return reverse("admin:tasks_app_task_bulk", args=[name])


def waiting(showcase: Showcase, name: str) -> Task:
    make_pod(showcase.pool)
    workspace = make_configured(name, showcase.workspace.project)
    task = make_task(actor=Actor.person(showcase.admin), workspace=workspace)
    return finish_planning(task, **plan_contents())


def seen(task: Task) -> str:
    return task_bulk.Item(task).seen


def refreshed(*rows: Task) -> list[str]:
    for row in rows:
        row.refresh_from_db()
    return [row.status for row in rows]


def test_the_action_leads_to_a_list_of_what_is_hit_and_changes_nothing(
    showcase: Showcase, browse: Any
) -> None:
    client, other = browse(showcase.approver), waiting(showcase, "other")
    gone = waiting(showcase, "gone")
    tasks.discard_task(actor=Actor.person(showcase.admin), task_id=gone.pk)
    refreshed(gone)
    chosen = [showcase.waiting, other, gone]
    data = {"action": "confirm", "_selected_action": [str(task.pk) for task in chosen]}
    events = Event.objects.count()
    answer = client.post(LIST, data)
    assert answer.status_code == 303
    page = client.get(answer["Location"]).content.decode()
    dialog = client.get(answer["Location"], headers=DIALOG).content.decode()
    for html in (page, dialog):
        assert "Confirm and apply: 2 plans" in html
        assert "4 resources will be destroyed" in html
        assert seen(showcase.waiting) in html and seen(other) in html
        assert seen(gone) not in html
        assert "The task is discarded." in html
    assert "<html" in page and "<html" not in dialog
    assert Event.objects.count() == events


@pytest.mark.parametrize(
    ("name", "status"), [("confirm", Status.CONFIRMED), ("discard", Status.DISCARDED)]
)
def test_each_is_done_with_its_own_event(
    showcase: Showcase, browse: Any, name: str, status: Status
) -> None:
    client, other = browse(showcase.approver), waiting(showcase, "other")
    both = [showcase.waiting, other]
    data = {"item": [seen(task) for task in both], "comment": "quarter end"}
    told = client.post(url(name), data, headers=DIALOG).content.decode()
    assert f"2 of 2 {task_bulk.BULKS[name].done}" in told
    assert refreshed(*both) == [status, status]
    events = Event.objects.filter(kind=f"task.{status}", task__in=both)
    assert {(event.user, event.cause) for event in events} == {(showcase.approver, "quarter end")}
    assert events.count() == 2


def test_what_is_refused_is_told_and_the_others_are_done(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.approver)
    good, stale, other = (waiting(showcase, name) for name in ("good", "stale", "changed"))
    items = [seen(task) for task in (stale, other, good, showcase.waiting)]
    tasks.discard_task(actor=Actor.person(showcase.admin), task_id=stale.pk)
    Task.objects.filter(pk=other.pk).update(plan_hash="d" * 64)
    tasks_of_others = showcase.applying  # in a project that this person does not see
    items += [seen(tasks_of_others), "nonsense"]
    told = client.post(url("confirm"), {"item": items}, headers=DIALOG).content.decode()
    assert "2 of 6 confirmed" in told
    assert told.count("Not confirmed.") == 3
    assert "it was apply pending and is discarded now" in told
    assert "not the plan that waits" in told
    assert "2 that do not exist any more, or that you may not see." in told
    assert refreshed(good, showcase.waiting, stale, other) == [
        Status.CONFIRMED,
        Status.CONFIRMED,
        Status.DISCARDED,
        Status.APPLY_PENDING,
    ]


@pytest.mark.parametrize("name", ["confirm", "discard"])
def test_a_failure_in_the_middle_hides_no_outcome(
    showcase: Showcase, browse: Any, monkeypatch: Any, name: str
) -> None:
    client, other = browse(showcase.approver), waiting(showcase, "other")
    service = getattr(tasks, f"{name}_task")

    def fail_once(*, task_id: Any, **fields: Any) -> Any:
        if task_id == showcase.waiting.pk:
            raise RuntimeError("a bug")
        return service(task_id=task_id, **fields)

    monkeypatch.setattr(tasks, f"{name}_task", fail_once)
    items = [seen(showcase.waiting), seen(other)]
    told = client.post(url(name), {"item": items}, headers=DIALOG).content.decode()
    assert f"1 of 2 {task_bulk.BULKS[name].done}" in told
    assert "The server failed; look at the task" in told
    assert refreshed(showcase.waiting, other)[0] == Status.APPLY_PENDING


def test_roles_decide(showcase: Showcase, browse: Any) -> None:
    viewer = browse(showcase.viewer)
    assert "_selected_action" not in viewer.get(LIST).content.decode()
    assert viewer.get(url("confirm")).status_code == 404
    assert viewer.post(url("discard"), {"item": [seen(showcase.waiting)]}).status_code == 404
    assert refreshed(showcase.waiting) == [Status.APPLY_PENDING]
    assert browse(showcase.admin).get(url("cancel")).status_code == 404
    listed = browse(showcase.approver).get(LIST).content.decode()
    assert "_selected_action" in listed and "Confirm the selected plans" in listed


def test_somebody_who_may_only_look_here_hits_nothing(showcase: Showcase, browse: Any) -> None:
    """An approver elsewhere has the action, and is told that it is not for this project."""
    person = make_user("viewer", project=showcase.workspace.project, is_staff=True)
    group = person.groups.get()
    elsewhere = Project.objects.create(name="elsewhere")
    RoleAssignment.objects.create(group=group, project=elsewhere, role="approver")
    client = browse(person)
    shown = client.get(f"{url('confirm')}?task={showcase.waiting.pk}").content.decode()
    assert "Your role does not allow it in this project." in shown
    assert seen(showcase.waiting) not in shown
    told = client.post(url("confirm"), {"item": [seen(showcase.waiting)]}).content.decode()
    assert "0 of 1 confirmed" in told
    assert refreshed(showcase.waiting) == [Status.APPLY_PENDING]


def test_more_than_can_be_read_is_refused(
    showcase: Showcase, browse: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(task_bulk, "ITEMS_MAX", 1)
    client = browse(showcase.approver)
    ids = [str(showcase.waiting.pk), str(waiting(showcase, "other").pk)]
    answer = client.post(LIST, {"action": "confirm", "_selected_action": ids})
    assert answer["Location"] == LIST
    assert "Select 1 tasks at most" in client.get(LIST).content.decode()


def test_the_list_needs_the_same_queries_for_many(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.approver)
    rows = [showcase.waiting]

    def queries() -> int:
        query = "&".join(f"task={task.pk}" for task in rows)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{url('confirm')}?{query}", headers=DIALOG).status_code == 200
        return len(captured)

    before = queries()
    rows += [waiting(showcase, f"more-{number}") for number in range(3)]
    assert queries() == before
