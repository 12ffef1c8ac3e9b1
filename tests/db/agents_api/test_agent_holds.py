"""What agents are given for a hold, and that it is what they would be given now."""

import pytest

from agents_app.services import holds
from agents_app.services.holds import refresh_pass
from pods_app.controller import controller_pass
from pods_app.models import Lease
from pods_app.pools import delete_pool_credential, update_pool
from pods_app.services import set_pool_credential
from pods_app.state_access import LeaseStateAccess
from tasks_app.models import Event, TaskStep
from tasks_app.services.credentials import set_credential
from tasks_app.services.logs import read_log
from tasks_app.services.tasks import confirm_task
from tasks_app.services.variables import set_variable
from tests.support.factories import PLAN_HASH, make_task, make_workspace
from tests.support.warmups import let_go, state_of

HOST = "git.example.com"


@pytest.fixture
def workspace(agent):
    return make_workspace()


@pytest.fixture
def task(agent, workspace, admin, pool):
    """A plan that waits, with every kind of thing that a run is given."""
    for category in ("terraform", "environment"):
        for scope in ({}, {"project": workspace.project}, {"workspace": workspace}):
            set_variable(actor=admin, key="region", value="eu", category=category, **scope)
    set_pool_credential(actor=admin, pool=pool, kind="https_token", host=HOST, secret="of-the-pool")
    task = make_task(workspace)
    agent.finish_plan()
    return task


def job(agent):
    (assignment,) = agent.work().json["assignments"]
    return assignment["job"]


def warmup(agent, lease=None, **facts):
    return agent.call("POST", "warmup", lease, body={"ready": True, **facts})


def test_the_bulk_comparison_knows_what_a_job_says(agent, task):
    digest = job(agent)["environment_digest"]
    assert agent.lease.environment_digest == digest
    assert refresh_pass() == 0
    assert agent.lease.environment_digest == digest


def of_the_environment(workspace, admin, pool):
    set_variable(actor=admin, key="region", value="us", category="environment", workspace=workspace)


def a_new_variable(workspace, admin, pool):
    set_variable(actor=admin, key="TOKEN", value="t-123456", category="environment")


def a_rotated_credential(workspace, admin, pool):
    set_pool_credential(actor=admin, pool=pool, kind="https_token", host=HOST, secret="rotated-1")


def a_prevailing_credential(workspace, admin, pool):
    project = workspace.project
    set_credential(actor=admin, project=project, kind="https_token", host=HOST, secret="own-token")


def a_deleted_credential(workspace, admin, pool):
    delete_pool_credential(actor=admin, credential=pool.credentials.get())


def another_proxy(workspace, admin, pool):
    update_pool(actor=admin, pool=pool, proxy={"HTTPS_PROXY": "http://proxy:3128"})


@pytest.mark.parametrize(
    "change",
    [
        of_the_environment,
        a_new_variable,
        a_rotated_credential,
        a_prevailing_credential,
        a_deleted_credential,
        another_proxy,
    ],
)
def test_what_changes_gives_the_hold_another_job(agent, task, workspace, admin, pool, change):
    before = job(agent)
    change(workspace, admin, pool)
    assert agent.lease.environment_digest not in ("", before["environment_digest"]), "at once"
    after = job(agent)
    assert after["environment_digest"] != before["environment_digest"]
    assert agent.lease.environment_digest == after["environment_digest"]
    assert after["backend"]["password"] != before["backend"]["password"]
    assert refresh_pass() == 0


def of_terraform(workspace, admin, pool):
    set_variable(actor=admin, key="region", value="us", workspace=workspace)


def of_no_concern(workspace, admin, pool):
    set_variable(
        actor=admin, key="region", value="us", category="environment", project=workspace.project
    )


@pytest.mark.parametrize("change", [of_terraform, of_no_concern])
def test_what_its_apply_is_not_given_leaves_the_hold_alone(
    agent, task, workspace, admin, pool, change
):
    before = job(agent)
    change(workspace, admin, pool)
    assert refresh_pass() == 0
    assert job(agent) == before


def test_the_comparison_takes_a_constant_number_of_queries(
    agent, task, admin, django_assert_num_queries
):
    agent.work()
    with django_assert_num_queries(7):
        refresh_pass()
    for _ in range(2):
        make_task(make_workspace())
        agent.finish_plan()
    agent.work()
    with django_assert_num_queries(7):
        refresh_pass()


def test_the_controller_compares(agent, task, admin, monkeypatch):
    before = job(agent)["environment_digest"]
    monkeypatch.setattr(holds, "after_commit", lambda *args: None)  # killed right after
    a_new_variable(None, admin, None)
    assert agent.lease.environment_digest == before
    controller_pass()
    assert agent.lease.environment_digest not in ("", before)


def known(lease, directive, digest):
    return {
        "lease_id": str(lease.pk),
        "epoch": lease.epoch,
        "directive": directive,
        "environment_digest": digest,
    }


def confirmed(agent, task, admin, directive="hold", digest=None):
    """Confirm, and return the assignment that an agent gets which has the hold's job."""
    given = job(agent)["environment_digest"]
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    here = [known(agent.lease, directive, given if digest is None else digest)]
    (assignment,) = agent.work(known=here).json["assignments"]
    assert (assignment["directive"], agent.lease.delivered_at is None) == ("apply", False)
    return assignment


def test_an_apply_comes_without_the_job_that_its_agent_has(agent, task, admin):
    assert confirmed(agent, task, admin)["job"] is None


@pytest.mark.parametrize(
    ("directive", "digest"), [("hold", ""), ("hold", "0" * 64), ("plan", None)]
)
def test_an_apply_comes_with_a_job_its_agent_has_not(agent, task, admin, directive, digest):
    """That of the plan may have the same digest."""
    assert confirmed(agent, task, admin, directive, digest)["job"]["plan"]


def test_an_apply_comes_with_a_job_that_changed_before_the_confirmation(
    agent, task, workspace, admin, pool
):
    given = job(agent)["environment_digest"]
    a_new_variable(workspace, admin, pool)
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    here = [known(agent.lease, "hold", given)]
    (assignment,) = agent.work(known=here).json["assignments"]
    assert "t-123456" in [one["value"] for one in assignment["job"]["environment"]]
    assert agent.lease.environment_digest == assignment["job"]["environment_digest"] != given


# --- what an agent says of it -----------------------------------------------------------------


def test_an_agent_says_what_it_holds(agent, task):
    assert warmup(agent, held=True).json == {}
    lease = agent.lease
    assert (lease.held, lease.restored, lease.hold_reason) == (True, False, "")
    assert warmup(agent, reason="Not held: its process ended").status == 200
    lease = agent.lease
    assert (lease.held, lease.hold_reason) == (False, "Not held: its process ended")
    assert state_of(task)[0] == "ready"


def test_a_restored_directory_is_warmed_elsewhere(agent, task, new_agent):
    let_go(task)
    other = new_agent("b")
    (assignment,) = [found for one in (agent, other) for found in one.work().json["assignments"]]
    assert assignment["directive"] == "warmup"
    assert assignment["job"]["plan"]["plan_hash"] == "a" * 64
    lease = Lease.objects.get(pk=assignment["lease_id"])
    mine = agent if lease.slot.pod == agent.pod else other
    grant = LeaseStateAccess().authenticate(assignment["job"]["backend"]["password"])
    assert (grant.may_read, grant.may_lock) == (True, False)
    assert warmup(mine, lease, held=True, restored=True).status == 200
    (assignment,) = mine.work().json["assignments"]
    assert assignment["directive"] == "hold"
    assert state_of(task) == ("ready", mine.pod.agent_id)


def test_the_steps_and_the_log_of_a_warm_up_are_kept(agent, task):
    steps = [{"name": "restore", "started_ms": 2, "duration_ms": 30}] * 2
    body = {"phase": "warmup", "steps": steps}
    assert agent.call("POST", "progress", body=body).status == 200
    (step,) = TaskStep.objects.filter(task=task, phase="warmup")
    assert (step.name, step.started_ms, step.duration_ms) == ("restore", 2, 30)
    assert agent.put_log("warmup", 0, b"restored\n").json == {"next_offset": 9}
    assert read_log(task, "warmup").data == b"restored\n"


def test_a_plan_has_no_warm_up(agent, planning):
    assert warmup(agent).problem == "conflict"
    assert agent.put_log("warmup", 0, b"x").problem == "conflict"
    assert agent.finish("warmup", "applied").json["field"] == "phase"


def test_an_agent_that_ends_gets_nothing_back_and_another_takes_over(agent, task, new_agent):
    """Its heartbeat, which says that it ends, may come later."""
    body = {"directory_kept": True, "detail": "the agent is ending"}
    assert agent.call("POST", "ended", body=body).status == 200
    assert agent.work().json["assignments"] == []
    assert state_of(task) == ("none", None)
    other = new_agent("b")
    assert state_of(task) == ("warming", other.pod.agent_id)
    assert agent.heartbeat().status == 200
    assert not agent.pod.ending, "it does not end after all"


def test_a_stale_agent_says_nothing(agent, task, new_agent):
    assert agent.call("POST", "warmup", body={"ready": True}, epoch=9).problem == "stale-lease"
    assert Event.objects.filter(task=task, kind="agent.stale_write").exists()
    assert warmup(new_agent("b"), agent.lease).status == 404


def test_a_confirmed_apply_may_say_that_its_hold_died(agent, task, admin):
    confirm_task(actor=admin, task_id=task.pk, plan_hash="a" * 64)
    assert warmup(agent, ready=False, reason="killed").status == 200
    lease = agent.lease
    assert (lease.phase, lease.state, lease.hold_reason) == ("apply", "live", "killed")
