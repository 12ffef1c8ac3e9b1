"""Operations: each asks its own right, runs over POST alone, and shows refusals as errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.urls import reverse

from pods_app.models import ManagedPod, PoolToken
from pods_app.states import TOO_MANY
from tasks_app.actors import Actor
from tasks_app.admin.task_operations import TASK_OPERATIONS
from tasks_app.models import Event, Task, Variable
from tasks_app.services import state, tasks, variables
from tasks_app.services.state_position import current_version
from tasks_app.services.void_plans import void_moved_plans
from tasks_app.states import Status
from tests.support.showcase import Showcase
from tests.support.showcase_contents import PLAN_HASH, SECRET

DIALOG = {"X-Slipway-Dialog": "1"}


def url(obj: Any, name: str) -> str:
    base = f"admin:{obj._meta.app_label}_{obj._meta.model_name}_operate"
    return reverse(base, args=[obj.pk, name])


def confirm(client: Any, task: Task, **changes: str) -> Any:
    data = {"seen": task.status, "plan_hash": PLAN_HASH, "comment": "read it", **changes}
    return client.post(url(task, "confirm"), data, headers=DIALOG)


def test_confirming_through_the_dialog(showcase: Showcase, browse: Any) -> None:
    client, task = browse(showcase.approver), showcase.waiting
    form = client.get(url(task, "confirm"), headers=DIALOG).content.decode()
    assert "2 resources will be destroyed" in form and PLAN_HASH in form
    answer = confirm(client, task)
    assert answer.status_code == 200 and "Confirmed #2" in answer.json()["message"]
    task.refresh_from_db()
    assert task.status == Status.CONFIRMED
    assert (task.confirmation.user, task.confirmation.comment) == (showcase.approver, "read it")


def test_another_plan_than_the_one_that_was_read_is_not_confirmed(
    showcase: Showcase, browse: Any
) -> None:
    answer = confirm(browse(showcase.approver), showcase.waiting, plan_hash="c" * 64)
    assert answer.status_code == 409 and "not the plan that waits" in answer.content.decode()
    showcase.waiting.refresh_from_db()
    assert showcase.waiting.status == Status.APPLY_PENDING


def test_what_changed_meanwhile_is_said(showcase: Showcase, browse: Any) -> None:
    task = showcase.waiting
    tasks.discard_task(actor=Actor.person(showcase.admin), task_id=task.pk)
    answer = confirm(browse(showcase.approver), task)
    assert answer.status_code == 409
    assert "changed meanwhile: it was apply pending and is discarded now" in answer.content.decode()


@pytest.mark.parametrize("operation", TASK_OPERATIONS, ids=lambda operation: operation.name)
def test_a_viewer_may_do_nothing_with_a_task(
    showcase: Showcase, browse: Any, operation: Any
) -> None:
    client, task = browse(showcase.viewer), showcase.waiting
    data = {"seen": task.status, "plan_hash": PLAN_HASH, "comment": "x", "hours": "1", "sure": "on"}
    assert client.get(url(task, operation.name)).status_code == 404
    assert client.post(url(task, operation.name), data).status_code == 404
    assert (
        url(task, operation.name)
        not in client.get(reverse("admin:tasks_app_task_change", args=[task.pk])).content.decode()
    )
    task.refresh_from_db()
    assert task.status == Status.APPLY_PENDING and task.cancel_requested_at is None


def test_buttons_are_disabled_with_the_reason(showcase: Showcase, browse: Any) -> None:
    page = browse(showcase.admin).get(
        reverse("admin:tasks_app_task_change", args=[showcase.applying.pk])
    )
    html = page.content.decode()
    assert 'id="do-confirm" class="sw-button sw-button-off"' in html
    assert "Confirm: not possible. The task is applying." in html
    assert url(showcase.applying, "cancel") in html
    assert "Cancel it normally first." in html


def test_cancelling_twice_needs_force_and_the_tick(showcase: Showcase, browse: Any) -> None:
    client, task = browse(showcase.admin), showcase.applying
    assert client.post(url(task, "cancel"), {"seen": task.status}).status_code == 303
    force = url(task, "force_cancel")
    assert client.post(force, {"seen": task.status}).status_code == 422
    assert client.post(force, {"seen": task.status, "sure": "on"}).status_code == 303
    task.refresh_from_db()
    assert task.cancel_requested_at and task.kill_requested_at


def test_resolving_and_acknowledging(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    unknown = Task.objects.get(status=Status.APPLY_UNKNOWN)
    data = {"seen": unknown.status, "verdict": "interrupted", "comment": ""}
    assert client.post(url(unknown, "resolve"), data).status_code == 422
    answer = client.post(url(unknown, "resolve"), {**data, "comment": "host is gone"})
    assert answer.status_code == 303
    unknown.refresh_from_db()
    assert unknown.status == Status.INTERRUPTED
    assert client.post(url(unknown, "acknowledge"), {"seen": unknown.status}).status_code == 303
    unknown.refresh_from_db()
    assert unknown.acknowledged_by == showcase.admin


def test_a_void_plan_is_made_again(showcase: Showcase, browse: Any) -> None:
    client, void = browse(showcase.approver), showcase.waiting
    document = json.dumps({"version": 4, "serial": 1, "lineage": "x", "resources": []}).encode()
    offer = url(void, "plan_again")
    page = reverse("admin:tasks_app_task_change", args=[void.pk])
    assert client.get(offer).status_code == 404, "it may still be confirmed"
    assert offer not in client.get(page).content.decode()
    state.upload_state(
        actor=Actor.person(showcase.admin), workspace=void.workspace, content=document
    )
    assert void_moved_plans() == 1
    html = client.get(page).content.decode()
    assert "The plan became void: the state moved from " in html and offer in html
    answer = client.post(offer, headers=DIALOG)
    again = Task.objects.get(workspace=void.workspace, status=Status.PENDING, message=void.message)
    assert answer.json()["message"] == f"Queued #{again.number}."
    assert (again.type, again.created_by, again.auto_apply) == (
        void.type,
        showcase.approver,
        False,
    )
    assert browse(showcase.viewer).post(offer).status_code == 404


def test_keeping_warm_longer(showcase: Showcase, browse: Any) -> None:
    before = showcase.waiting.keep_warm_until
    data = {"seen": showcase.waiting.status, "hours": "12"}
    answer = browse(showcase.approver).post(url(showcase.waiting, "keep_warm"), data)
    assert answer.status_code == 303
    showcase.waiting.refresh_from_db()
    assert before is not None and showcase.waiting.keep_warm_until is not None
    assert (showcase.waiting.keep_warm_until - before).total_seconds() == 12 * 3600


def test_a_post_without_the_token_is_refused(showcase: Showcase) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    client.force_login(showcase.admin)
    assert confirm(client, showcase.waiting).status_code == 403


# --- workspaces -----------------------------------------------------------------------------------


def test_a_workspace_is_created_and_changed(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    add = reverse("admin:tasks_app_workspace_add")
    data = {
        "project": str(showcase.workspace.project_id),
        "name": "network-dev",
        "engine": "terraform",
        "engine_version": "latest",
        "state_backend": "slipway",
    }
    refused = client.post(add, data)
    assert refused.status_code == 400 and "exact version" in refused.content.decode()
    made = client.post(add, {**data, "engine_version": "1.11.4"})
    assert made.status_code == 303
    assert "Upload a configuration next" in client.get(made.headers["Location"]).content.decode()
    taken = client.post(add, {**data, "engine_version": ""})
    assert taken.status_code == 409 and "is taken" in taken.content.decode()


def test_planning_with_options(showcase: Showcase, browse: Any) -> None:
    workspace = Task.objects.get(status=Status.APPLYING).workspace
    client = browse(showcase.admin)
    data = {"type": "plan", "targets": "aws_vpc.main\n aws_subnet.a \n", "replace": ""}
    answer = client.post(url(workspace, "plan"), data)
    assert answer.status_code == 303
    task = workspace.tasks.first()
    assert task is not None and task.targets == ["aws_vpc.main", "aws_subnet.a"]
    wrong = client.post(url(workspace, "plan"), {**data, "targets": "-destroy"})
    assert wrong.status_code == 400 and "not a resource address" in wrong.content.decode()


def test_locking_says_why_and_stops_planning(showcase: Showcase, browse: Any) -> None:
    client, workspace = browse(showcase.approver), showcase.workspace
    assert client.post(url(workspace, "lock"), {"reason": ""}).status_code == 422
    assert client.post(url(workspace, "lock"), {"reason": "audit"}).status_code == 303
    form = client.get(url(workspace, "plan")).content.decode()
    assert "The workspace is locked: audit" in form and "Start planning" not in form
    assert client.post(url(workspace, "plan"), {"type": "plan"}).status_code == 409
    assert client.post(url(workspace, "unlock")).status_code == 303
    workspace.refresh_from_db()
    assert workspace.locked_at is None


def test_a_bad_archive_is_refused(showcase: Showcase, browse: Any) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    upload = {"archive": SimpleUploadedFile("a.tar.gz", b"not an archive")}
    answer = browse(showcase.approver).post(url(showcase.workspace, "upload"), upload)
    assert answer.status_code == 400 and 'role="alert"' in answer.content.decode()
    assert showcase.workspace.configurations.count() == 1


def test_the_state_lock_is_taken_only_by_its_typed_name(showcase: Showcase, browse: Any) -> None:
    workspace = Task.objects.get(status=Status.APPLY_UNKNOWN).workspace
    client = browse(showcase.admin)
    wrong = client.post(url(workspace, "force_unlock"), {"typed": "other", "comment": "dead"})
    assert wrong.status_code == 422 and state.open_lock(workspace) is not None
    right = {"typed": workspace.name, "comment": "the host burnt"}
    assert client.post(url(workspace, "force_unlock"), right).status_code == 303
    assert state.open_lock(workspace) is None
    assert Event.objects.filter(kind="state.force_unlocked", cause="the host burnt").exists()


def test_rolling_a_state_back(showcase: Showcase, browse: Any) -> None:
    from tasks_app.models import StateVersion

    first, second = StateVersion.objects.order_by("serial")
    client = browse(showcase.admin)
    assert "This is the current version" in client.get(url(second, "rollback")).content.decode()
    assert client.post(url(first, "rollback")).status_code == 303
    current = current_version(first.workspace)
    assert current is not None and current.serial == 3
    assert browse(showcase.approver).post(url(first, "rollback")).status_code == 404


# --- variables -----------------------------------------------------------------------------------


def test_a_hidden_value_is_kept_and_never_shown(showcase: Showcase, browse: Any) -> None:
    client, variable = browse(showcase.admin), Variable.objects.get(key="api_token")
    assert SECRET not in client.get(url(variable, "value")).content.decode()
    answer = client.post(
        url(variable, "value"), {"value": "", "sensitive": "on", "description": "for the API"}
    )
    assert answer.status_code == 303
    variable.refresh_from_db()
    assert variable.description == "for the API" and variable.sensitive
    resolved = {v.key: v.value for v in variables.task_variables(_new_task(showcase))}
    assert resolved["api_token"] == SECRET
    shown = client.post(url(variable, "value"), {"value": "", "description": ""})
    assert shown.status_code == 400 and "Give the value again" in shown.content.decode()


def _new_task(showcase: Showcase) -> Task:
    actor = Actor.person(showcase.admin)
    return tasks.create_task(actor=actor, workspace=showcase.workspace, type="plan")


def test_only_managers_change_variables(showcase: Showcase, browse: Any) -> None:
    client, variable = browse(showcase.approver), Variable.objects.get(key="region")
    data = {"category": "terraform", "key": "x", "value": "1"}
    assert client.post(url(showcase.workspace, "add_variable"), data).status_code == 404
    assert client.post(url(variable, "value"), {"value": "us"}).status_code == 404
    assert client.post(url(variable, "delete")).status_code == 404
    assert variables.current_value(variable) == "eu-central-1"


# --- pools, pods, tokens --------------------------------------------------------------------------


def test_a_pool_token_is_shown_once(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    answer = client.post(
        url(showcase.pool, "create_token"), {"name": "host 7", "days": "30"}, headers=DIALOG
    )
    assert "no-store" in answer.headers["Cache-Control"]
    (token,) = [word for word in answer.content.decode().split('"') if word.startswith("slp_")]
    page = client.get(reverse("admin:pods_app_pool_change", args=[showcase.pool.pk]))
    assert "host 7" in page.content.decode() and token not in page.content.decode()
    row = PoolToken.objects.get(name="host 7")
    assert client.post(url(row, "revoke")).status_code == 303
    row.refresh_from_db()
    assert row.revoked_at


@pytest.mark.parametrize("name", ["create_token", "set_credential", "settings"])
def test_only_operators_change_pools(showcase: Showcase, browse: Any, name: str) -> None:
    assert browse(showcase.approver).post(url(showcase.pool, name), {}).status_code == 404


def test_draining_shows_what_is_in_the_pod(showcase: Showcase, browse: Any) -> None:
    client = browse(showcase.admin)
    pod = ManagedPod.objects.filter(slots__task=showcase.waiting).get()
    assert "network-prod #2" in client.get(url(pod, "drain")).content.decode()
    assert client.post(url(pod, "drain"), {"reason": "disk"}).status_code == 303
    pod.refresh_from_db()
    assert pod.draining and browse(showcase.approver).get(url(pod, "undrain")).status_code == 404
    assert client.post(url(pod, "undrain"), {"reason": "done"}).status_code == 303
    pod.refresh_from_db()
    assert not pod.draining


def test_a_pod_that_slipway_is_ending_is_not_given_work_again(
    showcase: Showcase, browse: Any
) -> None:
    pod = ManagedPod.objects.filter(slots__task=showcase.waiting).get()
    ManagedPod.objects.filter(pk=pod.pk).update(draining=True, phase_reason=TOO_MANY)
    client = browse(showcase.admin)
    page = client.get(reverse("admin:pods_app_managedpod_change", args=[pod.pk]))
    assert "Slipway is ending it: work would be lost with it." in page.content.decode()
    client.post(url(pod, "undrain"), {"reason": "now"})
    pod.refresh_from_db()
    assert pod.draining


def test_run_time_rows_have_no_forms(showcase: Showcase, browse: Any) -> None:
    client, task = browse(showcase.admin), showcase.waiting
    page = reverse("admin:tasks_app_task_change", args=[task.pk])
    assert client.post(page, {"status": "applied"}).status_code == 405
    delete = reverse("admin:tasks_app_task_delete", args=[task.pk])
    assert client.post(delete, {"post": "yes"}).status_code == 403
    assert client.get(reverse("admin:tasks_app_task_add")).status_code == 404
    assert Task.objects.filter(pk=task.pk, status=Status.APPLY_PENDING).exists()
