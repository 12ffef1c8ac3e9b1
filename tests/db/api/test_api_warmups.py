"""Tasks over the API before a confirmation, and when nobody knows what became of an apply."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pods_app import leases
from pods_app.models import Lease
from pods_app.services import lose_pod
from tasks_app.actors import Actor
from tasks_app.models import Event, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import state, tasks
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    make_pod,
    make_pool,
    make_task,
    make_user,
    make_waiting_task,
)
from tests.support.rest import Person, problem
from tests.support.warmups import SYSTEM, report

pytestmark = pytest.mark.django_db


@pytest.fixture
def pod(db):
    return make_pod(make_pool(name="main"))


@pytest.fixture
def waiting(pod):
    return make_waiting_task()


@pytest.fixture
def unknown(waiting, pod, admin):
    """An apply whose agent vanished while it had the lock."""
    actor = Actor.person(admin.user)
    tasks.confirm_task(actor=actor, task_id=waiting.pk, plan_hash=PLAN_HASH)
    lease = leases.lease_of(waiting)
    ask_permit(lease)
    state.lock_state(
        workspace=waiting.workspace,
        info={"ID": str(uuid.uuid4()), "Operation": "OperationTypeApply"},
        actor=Actor.agent(pod.agent_id),
        task_id=waiting.pk,
        lease_id=lease.pk,
    )
    lose_pod(pod.pk, actor=SYSTEM, cause="no heartbeat for 61 s")
    return waiting


def test_the_forecast(admin, waiting, pod):
    report(leases.lease_of(waiting), reason="Not held: no memory.")
    shown = admin.get(f"tasks/{waiting.pk}/").json()
    assert shown["forecast"] == {
        "path": "kept",
        "agent": pod.pod_name,
        "sentence": f"Will start from the kept directory on agent {pod.pod_name}.",
        "why_not": [{"path": "held", "sentence": "Not held: no memory."}],
        "waits": "",
    }
    assert (shown["warmup_status"], shown["warmup_agent_id"]) == ("ready", pod.agent_id)
    assert shown["warmup_expires_at"] > shown["warmup_at"]
    assert (shown["warmup_retry_count"], shown["warmup_error"]) == (0, "")
    answer = admin.post(f"tasks/{waiting.pk}/apply/", {"plan_hash": PLAN_HASH})
    assert answer.json()["forecast"] is None


def test_lists_do_not_ask_for_forecasts(admin, waiting):
    (row,) = admin.get("tasks/").json()["results"]
    assert row["warmup_status"] == "ready"
    assert not {"forecast", "evidence"} & set(row)


def test_the_filter_by_warm_up(admin, waiting):
    other = make_task(type="plan")

    def found(*statuses):
        rows = admin.get("tasks/", warmup_status=list(statuses)).json()["results"]
        return {row["id"] for row in rows}

    assert found("ready") == {str(waiting.pk)}
    assert found("failed", "warming") == set()
    assert found("ready", "none") == {str(waiting.pk), str(other.pk)}
    problem(admin.get("tasks/", warmup_status="hot"), 400)


def test_warming_again_needs_the_right_to_confirm(admin, waiting):
    address = f"tasks/{waiting.pk}/warm-again/"
    assert "failed warm-up" in problem(admin.post(address), 409)["detail"]
    report(leases.lease_of(waiting), ready=False, permanent=True, reason="The bundle is gone.")
    shown = admin.get(f"tasks/{waiting.pk}/").json()
    assert (shown["warmup_status"], shown["warmup_retry_at"]) == ("failed", None)
    actions = {action["name"]: action["allowed"] for action in shown["actions"]}
    assert actions["warm_again"]
    problem(Person(make_user("planner")).post(address), 403)
    problem(Person(make_user()).post(address), 404)
    answer = Person(make_user("approver")).post(address)
    assert (answer.status_code, answer.json()["warmup_status"]) == (202, "none")


def test_the_evidence_of_an_unknown_apply(admin, unknown, pod):
    Lease.objects.filter(task=unknown).update(reported_at=ClockTimestamp() - timedelta(minutes=2))
    shown = admin.get(f"tasks/{unknown.pk}/").json()
    evidence = shown["evidence"]
    assert shown["status"] == "apply_unknown"
    assert evidence["permit"]["path"] == "kept" and not evidence["permit"]["expired"]
    assert (evidence["lease"]["pod"], evidence["lease"]["state"]) == (pod.pod_name, "live")
    assert evidence["lease"]["reported_at"] and evidence["agent_health"] == "lost"
    (lock,) = evidence["locks"]
    assert (lock["operation"], lock["who"], lock["released_at"]) == ("OperationTypeApply", "", None)
    assert (evidence["states_stored"], evidence["still_running"]) == ([], [])
    assert "still locked by this apply" in evidence["meaning"]


@pytest.mark.parametrize("verdict", ["applied", "failed", "interrupted"])
def test_a_verdict(admin, unknown, verdict):
    body = {"verdict": verdict, "comment": "looked at the cloud"}
    answer = admin.post(f"tasks/{unknown.pk}/resolve/", body)
    assert (answer.status_code, answer.json()["status"]) == (202, verdict)
    assert (answer.json()["evidence"] is None) == (verdict != "interrupted")


def test_still_running_is_a_note_and_no_verdict(admin, unknown):
    address = f"tasks/{unknown.pk}/resolve/"
    body = {"verdict": "still_running", "comment": "its process lives on host 7"}
    problem(Person(make_user("planner")).post(address, body), 403)
    problem(admin.post(address, {**body, "comment": " "}), 400)
    answer = admin.post(address, body)
    assert (answer.status_code, answer.json()["status"]) == (202, "apply_unknown")
    (note,) = answer.json()["evidence"]["still_running"]
    assert note["comment"] == body["comment"]
    assert note["actor"] == Event.objects.get(kind="task.still_running").actor
    Task.objects.filter(pk=unknown.pk).update(status="failed")
    problem(admin.post(address, body), 409)


def test_a_document_costs_as_many_queries_however_much_there_is(admin, waiting):
    def cost():
        with CaptureQueriesContext(connection) as captured:
            assert admin.get(f"tasks/{waiting.pk}/").status_code == 200
        return len(captured)

    before = cost()
    for _ in range(3):
        make_waiting_task()
        make_pod(waiting.placement.pool)
    assert cost() == before
