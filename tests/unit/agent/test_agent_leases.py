"""Wishes of the server become actions on a lease, whatever order and however often they come."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest

from agents_app.agent import phase as phase_module
from agents_app.agent import warming as warming_module
from agents_app.agent.journal import journals, new_journal
from agents_app.runner.warmup import Warm
from agents_app.schema import Artifact, Directive
from tests.support.agent_fakes import (
    FakeAgent,
    make_job,
    problem,
    wait_for,
)


def no_leases(agent: FakeAgent) -> Callable[[], bool]:
    return lambda: not agent.loop.workers() and not list(journals(agent.options.directory))


def directory_of(agent, lease):
    return agent.machine.directory(lease.job.workspace_id, lease.job.task_id)


def held(agent, fake, runner):
    lease = fake.add()
    wait_for(lambda: lease.directive == Directive.HOLD, "the plan is reported")
    return lease


def test_a_lease_is_planned_held_applied_and_over(agent, fake, runner):
    lease = held(agent, fake, runner)
    assert lease.log["plan"] == b"planning\n"
    assert directory_of(agent, lease).exists
    lease.wants_apply()
    wait_for(lambda: lease.ended, "the lease is over")
    wait_for(no_leases(agent), "it is forgotten")
    assert [end["outcome"] for end in lease.finished] == ["planned", "applied"]
    assert lease.log["apply"] == b"applying\n"
    assert len(lease.permits) == 1
    assert not directory_of(agent, lease).exists, "an apply's end removes the directory"
    assert agent.identity.newest_lease == lease.lease_id


def test_a_held_directory_is_given_back_and_kept_or_not_as_asked(agent, fake, runner):
    for keep in (True, False):
        lease = held(agent, fake, runner)
        lease.keep_directory, lease.directive = keep, Directive.END
        wait_for(lambda lease=lease: lease.ended, "it is let go")
        wait_for(no_leases(agent), "it is forgotten")
        assert directory_of(agent, lease).exists is keep
        directory_of(agent, lease).acquire()


@pytest.mark.parametrize("how", ["end", "unlisted"])
def test_a_plan_that_is_not_wanted_any_more_stops_without_a_report(agent, fake, runner, how):
    runner.go.clear()
    lease = fake.add()
    wait_for(lambda: runner.planned, "it plans")
    if how == "end":
        lease.directive = Directive.END
    else:
        lease.listed = False
    wait_for(lambda: lease.ended, "it is let go")
    assert lease.finished == []


def test_a_cancelled_plan_is_reported(agent, fake, runner):
    runner.go.clear()
    lease = fake.add(next=Directive.END)
    wait_for(lambda: runner.planned, "it plans")
    lease.directive = Directive.CANCEL
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.finished[0]["outcome"] == "cancelled"


def test_a_cancellation_before_the_first_wish_runs_into_a_cancelled_end(agent, fake, runner):
    runner.go.clear()
    lease = fake.add(directive=Directive.CANCEL, next=Directive.END)
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.finished[0]["outcome"] == "cancelled"


@pytest.mark.parametrize("how", ["unlisted", "end", "incarnation"])
def test_a_permitted_apply_is_never_stopped(agent, fake, runner, how):
    lease = held(agent, fake, runner)
    runner.go.clear()
    lease.wants_apply()
    wait_for(lambda: runner.applied, "it applies")
    if how == "unlisted":
        lease.listed = False
    elif how == "end":
        lease.directive = Directive.END
    else:
        fake.incarnation = uuid4()
    polls = len(fake.calls)
    wait_for(lambda: len(fake.calls) > polls + 3, "the agent has heard of it")
    assert not runner.applied[0].control.interrupted
    runner.go.set()
    wait_for(lambda: len(lease.finished) == 2, "the result is reported")
    assert lease.finished[1]["outcome"] == "applied"


def test_a_cancelled_apply_is_interrupted(agent, fake, runner):
    lease = held(agent, fake, runner)
    runner.go.clear()
    lease.wants_apply()
    wait_for(lambda: runner.applied, "it applies")
    lease.directive = Directive.CANCEL
    wait_for(lambda: len(lease.finished) == 2, "it is reported")
    assert lease.finished[1]["outcome"] == "cancelled"


def test_a_new_incarnation_ends_what_has_no_permit(agent, fake, runner):
    lease = held(agent, fake, runner)
    fake.incarnation = uuid4()
    wait_for(lambda: lease.ended, "the hold is let go")
    wait_for(lambda: agent.identity.incarnation == fake.incarnation, "it is the agent's, too")
    assert agent.identity.newest_lease is None


def test_a_refused_permit_applies_nothing(agent, fake, runner):
    lease = held(agent, fake, runner)
    fake.refuse = lambda call: problem(409, "permit-refused") if call.endswith("permit") else None
    lease.wants_apply()
    wait_for(lambda: len(lease.finished) == 2, "it is reported")
    assert lease.finished[1]["outcome"] == "not_started"
    assert runner.applied == []
    wait_for(no_leases(agent), "it is forgotten")
    assert directory_of(agent, lease).exists, "for the next attempt"


def test_a_lost_permit_is_asked_for_again_with_the_same_key(agent, fake, runner):
    lease = held(agent, fake, runner)
    lost = [1, 2, 3]
    genuine = fake.handle

    def lose_reply(request):
        reply = genuine(request)
        if request.url.path.endswith("/permit") and lost:
            lost.pop()
            raise httpx.ReadError("cut")
        return reply

    agent.server._http = httpx.Client(
        transport=httpx.MockTransport(lose_reply), base_url=agent.server._http.base_url
    )
    lease.wants_apply()
    wait_for(lambda: len(lease.finished) == 2, "it is reported")
    assert len(runner.applied) == 1
    assert len(lease.permits) == 4 and len(set(lease.permits)) == 1


def test_no_permit_within_patience_means_that_nothing_will_ever_start(agent, fake, runner):
    lease = held(agent, fake, runner)
    fake.refuse = lambda call: httpx.Response(503) if call.endswith("permit") else None
    for worker in agent.loop.workers():
        worker._permit._patience.seconds = 0.05
    lease.wants_apply()
    wait_for(lambda: len(lease.finished) == 2, "it is reported")
    assert lease.finished[1]["outcome"] == "not_started"
    assert "did not answer" in lease.finished[1]["error"]
    assert runner.applied == []


def test_an_outage_delays_the_report_and_loses_nothing(agent, fake, runner):
    runner.go.clear()
    lease = fake.add()
    wait_for(lambda: runner.planned, "it plans")
    fake.refuse = lambda call: httpx.Response(503)
    runner.go.set()
    wait_for(lambda: fake.calls.count(f"PUT leases/{lease.lease_id}/log") > 3, "it tries")
    assert lease.finished == []
    fake.refuse = lambda call: None
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.log["plan"] == b"planning\n"


def test_a_log_that_the_server_lost_is_sent_again(agent, fake, runner):
    lost = []

    def refuse(call):
        if call.endswith("/finish") and not lost:
            lost.append(True)
            lease.log["plan"] = b""

    runner.go.clear()
    lease = fake.add()
    fake.refuse = refuse
    runner.go.set()
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.log["plan"] == b"planning\n"


def test_a_report_that_nobody_wants_keeps_the_recovered_state(agent, fake, runner, caplog):
    lease = held(agent, fake, runner)
    runner.leaves_state = True
    fake.refuse = lambda call: (
        problem(409, "stale-lease")
        if call.endswith((f"/artifacts/{Artifact.RECOVERED_STATE}", "/finish"))
        else None
    )
    lease.wants_apply()
    wait_for(no_leases(agent), "it is forgotten")
    (kept,) = (agent.options.directory / "recovered").iterdir()
    assert kept.read_text() == "{}"
    assert kept.stat().st_mode & 0o077 == 0 or kept.parent.stat().st_mode & 0o077 == 0
    assert str(kept) in caplog.text


def test_a_recovered_state_that_is_refused_asks_for_a_person(agent, fake, runner):
    lease = held(agent, fake, runner)
    runner.leaves_state = True
    fake.refuse = lambda call: (
        problem(413, "too-large") if call.endswith(f"/{Artifact.RECOVERED_STATE}") else None
    )
    lease.wants_apply()
    wait_for(no_leases(agent), "it is forgotten")
    (kept,) = (agent.options.directory / "recovered").iterdir()
    assert lease.finished[1]["outcome"] == "interrupted"
    assert str(kept) in lease.finished[1]["error"]
    assert lease.finished[1]["state_recovered"] is False


def test_a_recovered_state_is_stored_and_then_leaves_the_disk(agent, fake, runner):
    lease = held(agent, fake, runner)
    runner.leaves_state = True
    lease.wants_apply()
    wait_for(no_leases(agent), "it is forgotten")
    assert f"PUT leases/{lease.lease_id}/artifacts/recovered_state" in fake.calls
    assert lease.finished[1]["state_recovered"] is True
    assert not list(agent.options.directory.rglob("*.tfstate"))


def test_draining_lets_go_what_waits_and_refuses_what_is_new(agent, fake, runner):
    waiting = held(agent, fake, runner)
    runner.go.clear()
    running = fake.add()
    wait_for(lambda: len(runner.planned) == 2, "it plans")
    agent.loop.drain()
    wait_for(lambda: waiting.ended, "the waiting one is let go")
    late = fake.add()
    wait_for(lambda: late.ended, "the late one is refused")
    assert late.finished == [] and len(runner.planned) == 2
    assert not running.ended
    runner.go.set()
    wait_for(lambda: running.finished, "the running one ends by itself")


def test_a_runner_that_fails_leaves_no_lease_behind(agent, fake, runner, monkeypatch):
    def fail(run):
        raise RuntimeError("a defect")

    monkeypatch.setattr(phase_module, "run_plan", fail)
    lease = fake.add(next=Directive.END)
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.finished[0]["outcome"] == "failed"
    wait_for(no_leases(agent), "it is forgotten")


def test_an_agent_without_the_engine_does_not_start(agent, fake, runner):
    lease = fake.add(job=make_job().model_copy(update={"engine_version": "9.9.9"}))
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.finished[0]["outcome"] == "not_started"
    assert runner.planned == []


# --- after a restart -------------------------------------------------------------------------


@pytest.fixture
def restarted(fake, new_agent):
    """Return a function that leaves a journal of a former process and starts the agent on it."""

    def start(lease, *events: tuple[str, dict[str, object]]) -> FakeAgent:
        agent = new_agent()
        journal = new_journal(agent.options.directory, lease.lease_id)
        journal.record(
            "lease",
            epoch=1,
            task=str(lease.job.task_id),
            workspace=str(lease.job.workspace_id),
            incarnation=str(fake.incarnation),
        )
        for event, facts in events:
            journal.record(event, **facts)
        return agent.start()

    return start


PLAN_BEGUN = ("begun", {"phase": "plan"})
APPLY_BEGUN = ("begun", {"phase": "apply"})
GRANTED = ("permit_granted", {"seconds": 60})


def test_a_lease_that_had_not_begun_is_planned(fake, restarted, runner):
    lease = fake.add()
    restarted(lease)
    wait_for(lambda: lease.finished, "it is reported")
    assert len(runner.planned) == 1 and runner.resumed == []


def test_a_plan_that_had_begun_is_taken_up_and_not_run_again(fake, restarted, runner):
    lease = fake.add()
    restarted(lease, PLAN_BEGUN, ("spawning", {"what": "plan", "folder": "plan"}))
    wait_for(lambda: lease.finished, "it is reported")
    assert runner.resumed == [["begun", "spawning"]] and runner.planned == []


def test_an_apply_that_had_begun_is_taken_up_even_without_the_server(fake, restarted, runner):
    lease = fake.add()
    lease.wants_apply()
    lease.listed = False
    agent = restarted(lease, PLAN_BEGUN, APPLY_BEGUN, GRANTED)
    lease.listed = True
    wait_for(lambda: lease.finished or not agent.loop.workers(), "it is reported or over")
    assert runner.applied == []


@pytest.mark.parametrize("asked", [False, True])
def test_an_apply_that_is_taken_up_knows_whether_its_permit_was_asked_for(
    fake, restarted, runner, asked
):
    lease = fake.add()
    lease.wants_apply()
    restarted(lease, APPLY_BEGUN, *[("permit_asked", {"key": str(uuid4())})] * asked)
    wait_for(lambda: lease.finished, "it is reported")
    assert runner.asked == [asked]


def test_a_result_that_was_not_delivered_is_delivered(fake, restarted, runner):
    lease = fake.add()
    request = {
        "phase": "plan",
        "outcome": "planned",
        "log_bytes": 0,
        "directory_kept": True,
    }
    agent = restarted(lease, PLAN_BEGUN, ("over", {"request": request, "files": {}}))
    wait_for(lambda: lease.finished, "it is reported")
    assert runner.planned == [] and runner.resumed == []
    lease.wants_apply()
    wait_for(no_leases(agent), "and applied")
    assert len(runner.applied) == 1


def test_a_plan_nobody_wants_any_more_is_let_go(fake, restarted, runner):
    lease = fake.add(directive=Directive.END)
    agent = restarted(lease, PLAN_BEGUN)
    wait_for(no_leases(agent), "it is forgotten")
    assert lease.ended and lease.finished == [] and runner.resumed == []


def test_a_permitted_apply_that_the_server_forgot_leaves_evidence(fake, restarted, runner, caplog):
    lease = fake.add(listed=False)
    agent = restarted(lease, PLAN_BEGUN, APPLY_BEGUN, GRANTED)
    wait_for(no_leases(agent), "it is forgotten")
    assert "nobody takes the result of its apply" in caplog.text


def test_a_lease_on_a_lost_disk_is_held_without_its_directory_and_applied(agent, fake, runner):
    lease = fake.add(directive=Directive.HOLD)
    wait_for(lambda: agent.loop.workers(), "it is here")
    lease.wants_apply()
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.finished[0]["outcome"] == "applied"


def test_a_confirmation_alone_begins_the_apply_and_the_wish_for_it_no_other(
    agent, fake, runner, monkeypatch
):
    monkeypatch.setattr(warming_module, "warm_up", lambda run, may_hold: Warm(restored=False))
    runner.go.clear()
    lease = fake.add(job=make_job(apply=True), directive=Directive.HOLD)
    wait_for(lambda: "POST leases/" in str(fake.calls), "it tells what lies ready")
    fake.confirmed = [lease.lease_id]
    wait_for(lambda: runner.applied, "it applies, although the server wishes for its hold")
    lease.directive = Directive.APPLY
    polls = fake.calls.count("POST work")
    wait_for(lambda: fake.calls.count("POST work") > polls + 1, "it has heard of the wish")
    runner.go.set()
    wait_for(lambda: lease.ended, "it is over")
    assert [end["outcome"] for end in lease.finished] == ["applied"]
    assert len(lease.permits) == len(runner.applied) == 1
