"""A state that an apply could not upload, on its task's page."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import reverse

from agents_app.models import LeaseArtifact
from tasks_app.models import StateVersion, Task
from tasks_app.states import Status
from tests.support.factories import make_user
from tests.support.showcase import Showcase
from tests.support.state import document, save_state

DIALOG = {"X-Slipway-Dialog": "1"}


@pytest.fixture
def saved(showcase: Showcase) -> LeaseArtifact:
    """The state of an apply that was cut."""
    task = Task.objects.get(status=Status.INTERRUPTED)
    return save_state(task, document(7))


def addresses(saved: LeaseArtifact) -> tuple[str, str, str]:
    """Return those of the page, of the operation and of the download."""
    task_id = saved.lease.task_id
    return (
        reverse("admin:tasks_app_task_change", args=[task_id]),
        reverse("admin:tasks_app_task_operate", args=[task_id, "make_current"]),
        reverse("recovered-state-download", args=[task_id, saved.pk]),
    )


def person(saved: LeaseArtifact, role: str) -> Any:
    project = saved.lease.task.workspace.project
    return make_user(role, project=project, is_staff=True)


def test_readers_of_states_see_it_and_download_it(saved: LeaseArtifact, browse: Any) -> None:
    page, operation, download = addresses(saved)
    client = browse(person(saved, "approver"))
    html = client.get(page).content.decode()
    assert "Never became a version." in html and download in html
    assert operation not in html, "an approver may not write states"
    assert client.post(operation, {"comment": "x"}).status_code == 404
    assert b'"serial": 7' in b"".join(client.get(download).streaming_content)


def test_others_see_nothing_of_it(saved: LeaseArtifact, browse: Any) -> None:
    page, operation, download = addresses(saved)
    client = browse(person(saved, "viewer"))
    html = client.get(page).content.decode()
    assert "Recovered state" not in html and download not in html
    assert client.get(operation).status_code == 404
    assert client.get(download).status_code == 403


def test_a_task_without_one_has_no_panel(showcase: Showcase, browse: Any) -> None:
    page = reverse("admin:tasks_app_task_change", args=[showcase.applying.pk])
    assert "Recovered state" not in browse(showcase.admin).get(page).content.decode()


def test_it_is_made_current_through_a_dialog(
    showcase: Showcase, saved: LeaseArtifact, browse: Any
) -> None:
    page, operation, _ = addresses(saved)
    client = browse(showcase.admin)
    assert operation in client.get(page).content.decode()
    dialog = client.get(operation, headers=DIALOG).content.decode()
    assert "serial 7" in dialog and "none" in dialog
    assert client.post(operation, {"comment": ""}, headers=DIALOG).status_code == 422
    stale = client.post(operation, {"comment": "compared", "seen": "6"}, headers=DIALOG)
    assert stale.status_code == 409 and "changed meanwhile" in stale.content.decode()
    told = client.post(operation, {"comment": "compared"}, headers=DIALOG)
    assert told.json()["message"] == "The recovered state is current, as serial 7."
    version = StateVersion.objects.get(task=saved.lease.task_id)
    assert (version.created_by, version.cause) == (showcase.admin, "compared")
    assert "Became version 7." in client.get(page).content.decode()
