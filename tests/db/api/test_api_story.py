"""The main job through the API, as scripts/demo does it, with a stand-in for the agent."""

import json

import pytest

from tasks_app.models import Task, TaskStep
from tasks_app.services.logs import append_log
from tests.support.factories import PLAN_HASH, finish_planning, make_pod, make_pool
from tests.support.rest import packed

pytestmark = pytest.mark.django_db


def test_workspace_configuration_variables_plan_confirm(admin):
    make_pod(make_pool())
    workspace = admin.post("workspaces/", {"name": "hello"})
    assert workspace.status_code == 201
    assert admin.get(workspace["Location"]).json() == workspace.json()
    address = f"workspaces/{workspace.json()['id']}"

    stored = admin.upload(f"{address}/configurations/", packed({"main.tf": "# nothing"}))
    assert stored.status_code == 201
    assert stored.json()["number"] == 1
    variable = admin.post(
        f"{address}/variables/", {"key": "path", "value": "/tmp/x", "category": "terraform"}
    )
    assert variable.status_code == 201
    assert variable.json()["value"] == "/tmp/x"

    made = admin.post(f"{address}/plan/", {"type": "plan_and_apply"})
    assert made.status_code == 201
    task = made.json()
    assert task["status"] == "planning"
    address = f"tasks/{task['id']}"
    assert made["Location"] == f"/api/v1/{address}/"

    finish_planning(Task.objects.get(pk=task["id"]))
    planned = admin.get(f"{address}/").json()
    assert planned["status"] == "apply_pending"
    assert planned["summary"]["to_add"] == 1
    assert planned["summary"]["has_changes"] is True

    confirmed = admin.post(
        f"{address}/apply/", {"plan_hash": planned["plan_hash"], "comment": "by a test"}
    )
    assert confirmed.status_code == 202
    assert confirmed.json()["status"] == "confirmed"
    assert confirmed.json()["confirmation"]["comment"] == "by a test"
    assert confirmed.json()["confirm_to_first_action_ms"] is None
    assert confirmed.json()["apply_path"] == ""

    lease = Task.objects.get(pk=task["id"]).leases.first()
    TaskStep.objects.create(
        task_id=task["id"],
        phase="apply",
        lease_id=lease.pk,
        name="first_action",
        started_ms=30,
        duration_ms=12.5,
    )
    applied = admin.get(f"{address}/").json()
    assert applied["confirm_to_first_action_ms"] == 42.5
    assert applied["phases"][-1]["steps"][-1]["name"] == "first_action"


def test_state_versions_say_how_many_resources_they_hold(admin):
    workspace = admin.post("workspaces/", {"name": "hello"}).json()["id"]
    address = f"workspaces/{workspace}/state-versions/"
    state = {
        "version": 4,
        "serial": 1,
        "lineage": "a",
        "terraform_version": "1.11.4",
        "resources": [
            {"mode": "managed", "instances": [{}, {}]},
            {"mode": "data", "instances": [{}]},
        ],
    }
    assert admin.post(address, state).status_code == 201
    (version,) = admin.get(address).json()["results"]
    assert version["resource_count"] == 2
    assert (version["serial"], version["lineage"]) == (1, "a")
    content = admin.get(f"{address}{version['id']}/download/")
    assert json.loads(b"".join(content.streaming_content)) == state

    state["serial"] = 7
    state["resources"] = []
    assert admin.post(address, state).status_code == 201
    back = admin.post(f"{address}{version['id']}/rollback/")
    assert back.status_code == 201
    assert (back.json()["serial"], back.json()["resource_count"]) == (8, 2)


def test_a_log_in_pieces_never_splits_a_character(admin):
    make_pod(make_pool())
    workspace = admin.post("workspaces/", {"name": "hello"}).json()["id"]
    admin.upload(f"workspaces/{workspace}/configurations/", packed({"main.tf": "# nothing"}))
    task = Task.objects.get(pk=admin.post(f"workspaces/{workspace}/plan/").json()["id"])
    address = f"tasks/{task.pk}/log/"
    assert admin.get(address, phase="plan").json() == {
        "text": "",
        "next_offset": 0,
        "complete": False,
        "truncated": False,
    }
    text = "größer ✔\n".encode()
    lease = task.leases.get().pk
    append_log(task=task, phase="plan", lease_id=lease, offset=0, data=text[:3])
    part = admin.get(address, phase="plan").json()
    assert (part["text"], part["next_offset"]) == ("gr", 2)
    append_log(task=task, phase="plan", lease_id=lease, offset=3, data=text[3:])
    part = admin.get(address, phase="plan", offset=2).json()
    assert (part["text"], part["next_offset"]) == ("ößer ✔\n", len(text))
    answer = admin.get(f"{address}download/", phase="plan")
    assert b"".join(answer.streaming_content) == text


def test_a_confirmation_of_another_plan_is_refused(admin):
    make_pod(make_pool())
    workspace = admin.post("workspaces/", {"name": "hello"}).json()["id"]
    admin.upload(f"workspaces/{workspace}/configurations/", packed({"main.tf": "# nothing"}))
    task = Task.objects.get(pk=admin.post(f"workspaces/{workspace}/plan/").json()["id"])
    finish_planning(task)
    refused = admin.post(f"tasks/{task.pk}/apply/", {"plan_hash": "c" * 64})
    assert refused.status_code == 409
    assert refused.json()["type"] == "urn:slipway:plan-mismatch"
    assert admin.post(f"tasks/{task.pk}/apply/", {"plan_hash": PLAN_HASH}).status_code == 202
    again = admin.post(f"tasks/{task.pk}/apply/", {"plan_hash": PLAN_HASH})
    assert again.status_code == 409
    assert again.json()["current"] == "confirmed"
    assert again.json()["allowed"] == ["applying", "cancelled", "failed"]
