import pytest

from pods_app.models import Lease, PodSlot
from pods_app.services import lose_pod
from tasks_app.models import Event, LogStream, Plan
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.plans import plan_text
from tasks_app.services.tasks import confirm_task
from tasks_app.states import TaskType
from tests.support.agents_api import plan_result
from tests.support.factories import make_task
from tests.support.racing import race


@pytest.fixture
def applying(agent, planning, admin):
    """A task whose apply was permitted to ``agent``."""
    import uuid

    agent.finish_plan()
    confirm_task(actor=admin, task_id=planning.pk, plan_hash="a" * 64)
    agent.work()
    body = {
        "key": str(uuid.uuid4()),
        "plan_hash": "a" * 64,
        "manifest_digest": "b" * 64,
        "path": "kept",
        "environment_digest": agent.lease.environment_digest,
        "incarnation": agent.reply["incarnation"],
        "newest_lease": None,
    }
    assert agent.call("POST", "permit", body=body).status == 200
    return planning


def status_of(task):
    task.refresh_from_db()
    return task.status


def test_a_plan_with_changes_waits_with_its_slot_reserved(agent, planning):
    agent.put_log("plan", 0, b"log")
    reply = agent.finish_plan(log_bytes=3, exit_code=0)
    assert (reply.status, reply.json) == (200, {"directive": "hold"})
    assert status_of(planning) == "apply_pending"
    plan = Plan.objects.get()
    assert (plan.plan_hash, plan.to_add) == ("a" * 64, 1)
    assert plan.bundle and plan.json and plan_text(planning) == "{}plan_text"
    assert PodSlot.objects.get(task=planning).status == "reserved"
    assert LogStream.objects.get().complete


@pytest.mark.parametrize(
    ("type", "outcome", "status"),
    [
        (TaskType.PLAN, "planned", "success"),
        (TaskType.PLAN, "no_changes", "success"),
        (TaskType.DRIFT_CHECK, "planned", "success"),
        (TaskType.PLAN_AND_APPLY, "no_changes", "planned_and_finished"),
        (TaskType.PLAN_AND_APPLY, "failed", "failed"),
        (TaskType.PLAN_AND_APPLY, "cancelled", "cancelled"),
        (TaskType.PLAN_AND_APPLY, "interrupted", "planning"),  # again, placed at once
        (TaskType.PLAN_AND_APPLY, "not_started", "planning"),
    ],
)
def test_every_outcome_of_a_plan(agent, type, outcome, status):
    task = make_task(type=type)
    lease = agent.lease
    result = plan_result(to_add=int(outcome == "planned"))
    for kind in ("plan_bundle", "plan_json", "plan_text"):
        agent.put_artifact(kind, b"x")
    reply = agent.finish(
        "plan",
        outcome,
        plan=result if outcome in {"planned", "no_changes"} else None,
        error="It broke." if outcome == "failed" else "",
    )
    assert (reply.status, reply.json) == (200, {"directive": "end"})
    assert status_of(task) == status
    lease.refresh_from_db()
    assert lease.state == "ended"


def test_a_failed_plan_shows_its_diagnostics(agent, planning):
    diagnostic = {"severity": "error", "summary": "Invalid\u0000 reference", "line": 3}
    agent.finish("plan", "failed", error="Terraform failed.", diagnostics=[diagnostic])
    planning.refresh_from_db()
    assert planning.error == "Terraform failed."
    assert planning.diagnostics[0]["line"] == 3
    assert "Invalid" in planning.diagnostics[0]["summary"]


def test_reporting_the_end_again_is_harmless(agent, planning):
    first, second = agent.finish_plan(), agent.finish_plan()
    assert first.json == second.json == {"directive": "hold"}
    assert Event.objects.filter(kind="task.apply_pending").count() == 1
    assert Plan.objects.count() == 1


def test_reporting_a_failure_again_is_harmless(agent, planning):
    lease = agent.lease
    replies = [agent.finish("plan", "failed", lease, error="no") for _ in range(2)]
    assert [reply.json for reply in replies] == [{"directive": "end"}] * 2
    assert Event.objects.filter(kind="task.failed").count() == 1


def test_two_reports_at_once_give_one_result(agent, planning):
    lease = agent.lease
    replies = race([lambda: agent.finish("plan", "failed", lease, error="no")] * 3)
    assert [reply.status for reply in replies] == [200] * 3
    assert Event.objects.filter(kind="task.failed").count() == 1


def test_missing_log_bytes_are_asked_for(agent, planning):
    agent.put_log("plan", 0, b"123")
    reply = agent.finish_plan(log_bytes=5)
    assert (reply.status, reply.problem) == (409, "log-incomplete")
    assert reply.json["next_offset"] == 3
    assert status_of(planning) == "planning"
    agent.put_log("plan", 3, b"45")
    assert agent.finish_plan(log_bytes=5).status == 200


def test_the_log_of_a_former_attempt_does_not_count(agent, planning):
    agent.put_log("plan", 0, b"12345")
    agent.finish("plan", "interrupted", log_bytes=5)
    reply = agent.finish("plan", "failed", log_bytes=5)
    assert (reply.status, reply.json["next_offset"]) == (409, 0)


def test_a_log_that_was_cut_at_its_limit_is_complete(agent, planning, settings):
    from dataclasses import replace

    settings.SLIPWAY = replace(settings.SLIPWAY, log_bytes_max=2)
    agent.put_log("plan", 0, b"12345")
    assert agent.finish_plan(log_bytes=5, log_truncated=True).status == 200
    assert LogStream.objects.get().truncated


def test_a_plan_nobody_could_read_is_not_over(agent, planning):
    agent.put_artifact("plan_json", b"{}")
    reply = agent.finish("plan", "planned", plan=plan_result())
    assert (reply.status, reply.problem) == (409, "artifacts-missing")
    assert reply.json["missing"] == ["plan_bundle", "plan_text"]
    assert status_of(planning) == "planning"


def test_a_bundle_too_large_may_stay_on_the_agent(agent, planning):
    agent.put_artifact("plan_json", b"{}")
    agent.put_artifact("plan_text", b"text")
    result = plan_result(bundle_stored=False, bundle_bytes=10**10)
    assert agent.finish("plan", "planned", plan=result).json == {"directive": "hold"}
    assert Plan.objects.get().bundle is None


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        (None, "plan"),
        (plan_result(plan_hash="short"), "plan.plan_hash"),
        (plan_result(manifest_digest="B" * 64), "plan.manifest_digest"),
        (plan_result(to_add="many"), "plan.to_add"),
    ],
)
def test_a_plan_without_its_facts_is_400(agent, planning, plan, field):
    reply = agent.finish("plan", "planned", plan=plan)
    assert (reply.status, reply.json["field"]) == (400, field)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("applied", "applied"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("interrupted", "interrupted"),
        ("not_started", "failed"),
    ],
)
def test_every_outcome_of_an_apply(agent, applying, outcome, status):
    lease = agent.lease
    agent.put_log("apply", 0, b"log")
    reply = agent.finish("apply", outcome, log_bytes=3, path="kept", path_reason="equal hash")
    assert (reply.status, reply.json) == (200, {"directive": "end"})
    assert status_of(applying) == status
    assert agent.finish("apply", outcome, lease, log_bytes=3).json == {"directive": "end"}
    assert Event.objects.filter(kind=f"task.{status}").count() == 1


def test_a_late_result_resolves_an_unknown_apply(agent, applying, admin):
    lose_pod(agent.pod.pk, actor=admin, cause="test")
    assert status_of(applying) == "apply_unknown"
    assert agent.finish("apply", "applied").status == 200
    assert status_of(applying) == "applied"


def test_an_apply_that_has_not_begun_has_no_end(agent, planning):
    reply = agent.finish("apply", "applied")
    assert (reply.status, reply.problem) == (409, "conflict")
    assert status_of(planning) == "planning"


def test_a_lease_that_was_taken_away_is_stale(agent, planning, new_agent, admin):
    lease = agent.lease
    new_agent("b")
    lose_pod(agent.pod.pk, actor=admin, cause="test")
    reply = agent.finish("plan", "failed", lease, error="late")
    assert (reply.status, reply.problem) == (409, "stale-lease")
    assert status_of(planning) in {"pending", "planning"}
    event = Event.objects.get(kind="agent.stale_write", lease_id=lease.pk)
    assert (event.data["outcome"], event.data["error"]) == ("failed", "late")
    agent.finish("plan", "failed", lease, epoch=lease.epoch + 1)
    assert status_of(planning) in {"pending", "planning"}


def test_another_agents_lease_is_404(agent, planning, new_agent):
    reply = new_agent("b").finish("plan", "failed", agent.lease)
    assert reply.status == 404
    assert status_of(planning) == "planning"


def test_steps_are_counted_from_when_the_phase_was_asked_for(agent, planning):
    agent.work()
    lease = agent.lease
    Lease.objects.update(delivered_at=ClockTimestamp())
    steps = [
        {"name": "unpack", "started_ms": 0, "duration_ms": 5},
        {"name": "init", "started_ms": 5, "duration_ms": 100, "detail": "from the mirror"},
    ]
    body = {"phase": "plan", "steps": steps}
    assert agent.call("POST", "progress", body=body).json == {}
    assert agent.call("POST", "progress", body=body).json == {}
    agent.finish_plan(steps=[{**steps[1], "duration_ms": 120}])
    rows = {step.name: step for step in planning.steps.all()}
    assert sorted(rows) == ["init", "placement", "queue", "unpack"]
    before = rows["queue"].duration_ms + rows["placement"].duration_ms
    assert rows["queue"].started_ms == 0
    assert rows["placement"].duration_ms > 0
    assert rows["unpack"].started_ms == pytest.approx(before)
    assert rows["init"].started_ms == pytest.approx(before + 5)
    assert (rows["init"].duration_ms, rows["init"].detail) == (120, "from the mirror")
    assert {step.lease_id for step in rows.values()} == {lease.pk}


def test_progress_of_a_stale_lease_has_no_effect(agent, planning):
    body = {"phase": "plan", "steps": [{"name": "x", "started_ms": 0, "duration_ms": 1}]}
    assert agent.call("POST", "progress", body=body, epoch=9).status == 409
    assert not planning.steps.exists()


def test_letting_go_frees_the_slot_and_may_be_repeated(agent, planning, admin):
    from tasks_app.services.tasks import discard_task

    agent.finish_plan()
    discard_task(actor=admin, task_id=planning.pk)
    (wish,) = agent.work().json["assignments"]
    assert wish["directive"] == "end"
    lease = agent.lease
    for _ in range(2):
        reply = agent.call("POST", "ended", lease, body={"directory_kept": False})
        assert (reply.status, reply.json) == (200, {})
    assert not PodSlot.objects.exclude(status="idle").exists()
    assert agent.work().json["assignments"] == []


def test_a_stale_letting_go_frees_nothing(agent, planning):
    reply = agent.call("POST", "ended", body={"directory_kept": False}, epoch=5)
    assert reply.status == 409
    assert PodSlot.objects.get(task=planning).status == "running"


def test_a_state_that_could_not_be_uploaded_becomes_current_with_the_end(agent, applying):
    from pods_app.state_access import run_token
    from tasks_app.models import StateLock, StateVersion
    from tests.support.state import StateClient, document

    lease = agent.lease
    terraform = StateClient(applying.workspace_id, run_token(lease, lease.environment_digest))
    assert terraform.lock().status_code == 200
    end = {"error": "the state could not be uploaded", "state_recovered": True}
    reply = agent.finish("apply", "failed", lease, **end)
    assert reply.problem == "artifacts-missing"
    assert status_of(applying) == "applying"
    assert agent.put_artifact("recovered_state", document(1), lease=lease).status == 200
    for _ in range(2):
        assert agent.finish("apply", "failed", lease, **end).status == 200
    assert status_of(applying) == "failed"
    version = StateVersion.objects.get()
    assert (version.serial, version.task) == (1, applying)
    assert not StateLock.objects.filter(released_at=None).exists()


def test_a_plan_that_changes_the_state_alone_waits_for_a_person(agent, planning):
    for kind in ("plan_bundle", "plan_json", "plan_text"):
        assert agent.put_artifact(kind, b"{}").status == 200
    assert agent.finish("plan", "planned", plan=plan_result(to_add=0)).status == 200
    assert status_of(planning) == "apply_pending"


def test_an_apply_that_was_cut_off_without_a_permit_applied_nothing(agent, planning, admin):
    """Its agent cannot know that; the permits can."""
    agent.finish_plan()
    confirm_task(actor=admin, task_id=planning.pk, plan_hash="a" * 64)
    agent.work()
    reply = agent.finish(
        phase="apply", outcome="interrupted", error="How the apply ended is not known."
    )
    assert reply.json == {"directive": "end"}
    assert status_of(planning) == "failed"
    assert planning.error.startswith("The agent was cut off before it had a permit: nothing was ")
