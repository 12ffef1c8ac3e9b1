"""The task page before a confirmation, and when nobody knows what became of an apply."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse

from pods_app.models import ApplyPermit, Lease
from pods_app.states import LeaseState
from tasks_app.models import Event, StateLock, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import Status, WarmupStatus
from tests.support.showcase import Showcase, lease_of

DIALOG = {"X-Slipway-Dialog": "1"}


def page(client: Any, task: Task) -> str:
    path = reverse("admin:tasks_app_task_change", args=[task.pk])
    return str(client.get(path).content.decode())


def url(task: Task, name: str) -> str:
    return reverse("admin:tasks_app_task_operate", args=[task.pk, name])


@pytest.fixture
def failed() -> Task:
    """A plan whose warm-up failed."""
    return Task.objects.get(warmup_status=WarmupStatus.FAILED)


@pytest.fixture
def unknown() -> Task:
    return Task.objects.get(status=Status.APPLY_UNKNOWN)


# --- before the confirmation ----------------------------------------------------------------


def test_page_and_dialog_say_how_it_will_start(showcase: Showcase, browse: Any) -> None:
    client, task = browse(showcase.approver), showcase.waiting
    agent = lease_of(task).slot.pod.pod_name
    dialog = client.get(url(task, "confirm"), headers=DIALOG).content.decode()
    for html in (page(client, task), dialog):
        assert f"Will start from the held Terraform on agent {agent}." in html
        assert "Warm-up ready" in html and "expires" in html
    html = page(client, task)
    assert html.index("Will start from") < html.index('id="do-confirm"')
    assert dialog.index("Will start from") < dialog.index('type="submit"')


def test_why_not_faster(showcase: Showcase, browse: Any) -> None:
    Lease.objects.filter(task=showcase.waiting).update(held=False, hold_reason="Not held: full.")
    html = page(browse(showcase.viewer), showcase.waiting)
    assert "Will start from the kept directory" in html and "Not held: full." in html


def test_a_failed_warm_up_says_what_comes_next(
    showcase: Showcase, browse: Any, failed: Task
) -> None:
    client = browse(showcase.admin)
    html = page(client, failed)
    assert "Warm-up failed" in html and "attempt 1 of 3 failed" in html and "tried again" in html
    assert (
        "Not warmed: the warm-up failed (The work directory was changed: main.tf differs)" in html
    )
    Task.objects.filter(pk=failed.pk).update(warmup_retry_at=None)
    assert "is not tried again by itself" in page(client, failed)


def test_after_the_confirmation_nothing_is_forecast(showcase: Showcase, browse: Any) -> None:
    html = page(browse(showcase.admin), showcase.applying)
    assert "Will start" not in html and "Warm-up ready" not in html


def test_steps_and_log_of_the_warm_up(showcase: Showcase, browse: Any) -> None:
    client, task = browse(showcase.viewer), showcase.waiting
    html = page(client, task)
    assert "<strong>Warm-up</strong>" in html and "690 ms" in html
    assert 'data-log-tab="warmup"' in html
    log = client.get(reverse("admin:tasks_app_task_log", args=[task.pk, "warmup"]))
    assert b"waits at its gate" in log.content


def test_warming_again(showcase: Showcase, browse: Any, failed: Task) -> None:
    again = url(failed, "warm_again")
    assert browse(showcase.viewer).post(again, {"seen": failed.status}).status_code == 404
    client = browse(showcase.admin)
    answer = client.post(again, {"seen": failed.status}, headers=DIALOG)
    assert answer.status_code == 200 and "made ready again" in answer.json()["message"]
    failed.refresh_from_db()
    assert (failed.warmup_status, failed.warmup_retry_count) == (WarmupStatus.NONE, 0)
    refused = client.post(again, {"seen": failed.status})
    assert refused.status_code == 409
    assert "No warm-up of it failed." in page(client, failed)


def test_the_list_shows_and_filters_warm_ups(showcase: Showcase, browse: Any, failed: Task) -> None:
    path = reverse("admin:tasks_app_task_changelist")
    client = browse(showcase.admin)
    html = client.get(path).content.decode()
    assert "Warm-up ready" in html and "Warm-up failed" in html
    shown = client.get(f"{path}?warmup_status__exact=failed").context["cl"].result_list
    assert [task.pk for task in shown] == [failed.pk]


# --- an apply whose agent vanished ----------------------------------------------------------


def test_all_that_is_known_is_shown(showcase: Showcase, browse: Any, unknown: Task) -> None:
    lock = StateLock.objects.get(task=unknown)
    Lease.objects.filter(task=unknown).update(reported_at=ClockTimestamp() - timedelta(minutes=7))
    client = browse(showcase.admin)
    pod = lease_of(unknown).slot.pod
    for html in (page(client, unknown), client.get(url(unknown, "resolve")).content.decode()):
        assert lock.lock_id in html and "still held" in html and "by edge-1" in html
        assert "The state is still locked by this apply" in html
        assert "path kept" in html and "lets take the lock of the state" in html
        assert "7 min ago" in html and pod.pod_name in html and "Lost" in html
    ApplyPermit.objects.filter(task=unknown).update(
        expires_at=ClockTimestamp() - timedelta(minutes=3)
    )
    StateLock.objects.filter(pk=lock.pk).update(released_at=ClockTimestamp())
    html = page(client, unknown)
    assert "expired" in html and "Terraform released the lock" in html


def test_still_running_is_a_note(showcase: Showcase, browse: Any, unknown: Task) -> None:
    client = browse(showcase.admin)
    data = {"seen": unknown.status, "verdict": "still_running", "comment": ""}
    assert client.post(url(unknown, "resolve"), data).status_code == 422
    data["comment"] = "its process lives on edge-1"
    answer = client.post(url(unknown, "resolve"), data, headers=DIALOG)
    assert "still runs" in answer.json()["message"]
    unknown.refresh_from_db()
    assert unknown.status == Status.APPLY_UNKNOWN
    assert lease_of(unknown).state == LeaseState.LIVE, "not fenced"
    event = Event.objects.get(task=unknown, kind="task.still_running")
    assert (event.user, event.cause) == (showcase.admin, "its process lives on edge-1")
    assert "noted by ada" in page(client, unknown)


def test_an_interrupted_apply_shows_it_until_it_is_acknowledged(
    showcase: Showcase, browse: Any
) -> None:
    client = browse(showcase.admin)
    cut = Task.objects.get(status=Status.INTERRUPTED)
    assert "The state was never locked" in page(client, cut)
    assert client.post(url(cut, "acknowledge"), {"seen": cut.status}).status_code == 303
    assert "The state was never locked" not in page(client, cut)
