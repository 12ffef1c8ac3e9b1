"""What an agent gets with a plan or an apply."""

import pytest

from agents_app import tokens
from agents_app.schema import Job, WorkRequest
from agents_app.services.work import next_work
from pods_app.services import set_pool_credential
from pods_app.state_access import LeaseStateAccess
from tasks_app.services.credentials import set_credential
from tasks_app.services.tasks import cancel_task, confirm_task
from tasks_app.services.variables import set_variable
from tests.support.factories import make_task, make_workspace


@pytest.fixture
def workspace(agent):
    return make_workspace(working_directory="live/eu")


@pytest.fixture
def job_of(agent):
    def job_of() -> Job:
        (assignment,) = agent.work().json["assignments"]
        return Job.model_validate(assignment["job"])

    return job_of


def test_a_job_says_what_to_run(workspace, job_of, settings):
    task = make_task(workspace, targets=["time_static.a"], replace=['x.y["k"]'])
    job = job_of()
    assert (job.task_id, job.workspace_id) == (task.pk, workspace.pk)
    assert (job.workspace_name, job.task_type) == (workspace.name, "plan_and_apply")
    assert (job.engine, job.engine_version) == ("terraform", "1.11.4")
    assert job.working_directory == "live/eu"
    assert job.configuration_digest == task.configuration.digest
    assert (job.destroy, job.refresh_only) == (False, False)
    assert (job.targets, job.replace) == (["time_static.a"], ['x.y["k"]'])
    assert job.lock_timeout_seconds == settings.SLIPWAY.state_lock_timeout_seconds
    assert job.plan is None


def test_a_job_has_the_tasks_variables_and_environment(workspace, job_of, admin):
    set_variable(actor=admin, key="region", value="eu", workspace=workspace)
    set_variable(actor=admin, key="zones", value='["a"]', hcl=True, workspace=workspace)
    set_variable(
        actor=admin,
        key="CLOUD_KEY",
        value="canary-key",
        category="environment",
        sensitive=True,
        workspace=workspace,
    )
    make_task(workspace)
    set_variable(actor=admin, key="region", value="changed later", workspace=workspace)
    job = job_of()
    found = {variable.name: variable for variable in job.variables}
    assert (found["region"].value, found["region"].sensitive) == ("eu", False)
    assert found["zones"].hcl
    (key,) = job.environment
    assert (key.name, key.value, key.sensitive) == ("CLOUD_KEY", "canary-key", True)


def test_credentials_of_project_and_pool_with_the_projects_first(workspace, job_of, admin, pool):
    for host, secret in (("git.example.com", "of-the-pool"), ("registry.example.com", "shared")):
        set_pool_credential(actor=admin, pool=pool, kind="https_token", host=host, secret=secret)
    set_credential(
        actor=admin,
        project=workspace.project,
        kind="https_token",
        host="git.example.com",
        secret="of-the-project",
        username="ada",
    )
    make_task(workspace)
    found = {credential.host: credential for credential in job_of().credentials}
    assert (found["git.example.com"].secret, found["git.example.com"].username) == (
        "of-the-project",
        "ada",
    )
    assert found["registry.example.com"].secret == "shared"
    assert len(found) == 2


def test_proxy_and_ca_bundle_are_the_pools(workspace, job_of, pool):
    pool.proxy, pool.ca_bundle = {"HTTPS_PROXY": "http://proxy:3128"}, "PEM"
    pool.save()
    make_task(workspace)
    job = job_of()
    assert (job.proxy, job.ca_bundle) == ({"HTTPS_PROXY": "http://proxy:3128"}, "PEM")


def test_slipways_state_is_reached_with_the_leases_token(workspace, job_of, agent, settings):
    make_task(workspace)
    backend = job_of().backend
    url = settings.SLIPWAY.url.rstrip("/")
    assert backend.address == f"{url}/api/state/v1/{workspace.pk}/"
    assert backend.username == "slipway"
    grant = LeaseStateAccess().authenticate(backend.password)
    assert (grant.workspace, grant.lease_id) == (workspace, agent.lease.pk)
    assert not grant.may_lock, "a plan never locks"


def test_a_backend_of_the_configurations_own_gets_none(agent, job_of):
    make_task(make_workspace(state_backend="configuration"))
    assert job_of().backend is None


def test_an_apply_names_the_plan_that_was_confirmed(workspace, agent, job_of, admin):
    task = make_task(workspace)
    planned = job_of()
    agent.finish_plan()
    confirm_task(actor=admin, task_id=task.pk, plan_hash="a" * 64)
    job = job_of()
    assert job.plan.model_dump() == {
        "plan_hash": "a" * 64,
        "manifest_digest": "b" * 64,
        "terraform_version": "1.11.4",
        "bundle_stored": True,
    }
    assert job.backend.password != planned.backend.password, "made for this phase only"


def test_holding_comes_with_the_job_of_the_apply(workspace, agent, admin, job_of):
    task = make_task(workspace)
    agent.work()
    agent.finish_plan()
    assert agent.lease.environment_digest == "", "that of the plan is not the apply's"
    held = job_of()
    assert held.plan.plan_hash == "a" * 64
    assert agent.lease.environment_digest == held.environment_digest
    confirm_task(actor=admin, task_id=task.pk, plan_hash="a" * 64)
    assert job_of() == held, "state password and all"


def hold(agent, workspace):
    """The job that a holding agent was given, and how it names what it knows."""
    make_task(workspace)
    agent.finish_plan()
    (assignment,) = agent.work().json["assignments"]
    known = {"lease_id": assignment["lease_id"], "epoch": assignment["epoch"], "directive": "hold"}
    return assignment["job"], known


def test_an_agent_that_has_the_job_of_its_hold_gets_no_other(workspace, agent):
    job, known = hold(agent, workspace)
    known["environment_digest"] = job["environment_digest"]
    message = WorkRequest.model_validate(agent.work_request([known]))
    assert next_work(tokens.authenticate(agent.token), message, last=False) is None
    (assignment,) = agent.work([known]).json["assignments"]
    assert assignment["job"] is None


def test_an_agent_whose_job_is_outdated_gets_the_present_one(workspace, agent, admin, pool):
    job, known = hold(agent, workspace)
    known["environment_digest"] = "e" * 64
    set_pool_credential(
        actor=admin, pool=pool, kind="https_token", host="git.example.com", secret="rotated"
    )
    message = WorkRequest.model_validate(agent.work_request([known]))
    (assignment,) = next_work(tokens.authenticate(agent.token), message, last=False).assignments
    assert assignment.job.environment_digest not in (job["environment_digest"], "e" * 64)
    assert agent.lease.environment_digest == assignment.job.environment_digest


@pytest.mark.parametrize("force", [False, True])
def test_an_agent_that_restarted_gets_the_job_of_what_it_shall_stop(workspace, agent, admin, force):
    task = make_task(workspace)
    agent.work()
    cancel_task(actor=admin, task_id=task.pk)
    if force:
        cancel_task(actor=admin, task_id=task.pk, force=True)
    (assignment,) = agent.work().json["assignments"]
    assert assignment["directive"] == ("kill" if force else "cancel")
    assert assignment["job"]["task_id"] == str(task.pk)


def test_a_whole_job_takes_few_queries(workspace, agent, admin, django_assert_max_num_queries):
    """What lies between a wake and the assignment, of an apply with everything."""
    set_variable(actor=admin, key="region", value="eu", workspace=workspace)
    set_variable(actor=admin, key="K", value="value", category="environment", workspace=workspace)
    task = make_task(workspace)
    agent.finish_plan()
    confirm_task(actor=admin, task_id=task.pk, plan_hash="a" * 64)
    message = WorkRequest.model_validate(agent.work_request())
    with django_assert_max_num_queries(12):
        answer = next_work(tokens.authenticate(agent.token), message, last=False)
    assert answer.assignments[0].job.plan


def test_an_idle_look_takes_two_queries(agent, django_assert_num_queries):
    message = WorkRequest.model_validate(agent.work_request())
    with django_assert_num_queries(2):
        assert next_work(tokens.authenticate(agent.token), message, last=False) is None


def test_an_unreadable_variable_is_503_and_not_half_a_job(workspace, agent, admin):
    from tasks_app.models import VariableVersion

    set_variable(actor=admin, key="region", value="eu", workspace=workspace)
    make_task(workspace)
    VariableVersion.objects.update(key_id="gone")
    reply = agent.work()
    assert (reply.status, reply.problem) == (503, "decryption-failed")
    assert agent.lease.delivered_at is None
