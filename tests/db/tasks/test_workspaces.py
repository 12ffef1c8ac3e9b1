import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput, NotFound, NotPermitted
from tasks_app.models import Event, Project, Task, Workspace
from tasks_app.services import tasks, workspaces
from tests.support.factories import make_admin, make_task, make_user, make_workspace
from tests.support.racing import race

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin():
    return Actor.person(make_admin())


@pytest.fixture
def workspace():
    return make_workspace(working_directory="envs/prod", engine_version="1.11.4")


def change(admin, workspace, **fields):
    return workspaces.update_workspace(actor=admin, workspace=workspace, **fields)


def test_a_task_keeps_what_the_workspace_had(admin, workspace):
    task = make_task(workspace)
    tasks.cancel_task(actor=admin, task_id=task.pk)
    change(
        admin,
        workspace,
        working_directory="envs/test",
        engine="tofu",
        engine_version="1.12.6",
        state_backend="configuration",
    )
    task.refresh_from_db()
    assert (task.working_directory, task.engine, task.engine_version, task.state_backend) == (
        "envs/prod",
        "terraform",
        "1.11.4",
        "slipway",
    )
    assert task.has_own_state
    new = make_task(workspace)
    assert (new.working_directory, new.engine, new.has_own_state) == ("envs/test", "tofu", False)


def test_an_old_copy_of_a_workspace_changes_only_what_it_is_told(admin, workspace):
    old = Workspace.objects.get(pk=workspace.pk)
    make_task(workspace)
    workspaces.lock_workspace(actor=admin, workspace=workspace, reason="maintenance")
    change(admin, old, description="new")
    workspace.refresh_from_db()
    assert workspace.description == "new"
    assert workspace.locked_at is not None
    assert workspace.last_task_number == 1
    workspaces.unlock_workspace(actor=admin, workspace=old)
    assert make_task(workspace).number == 2


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "two words"}, "name"),
        ({"name": "x" * 91}, "name"),
        ({"name": ""}, "name"),
        ({"engine": "pulumi"}, "engine"),
        ({"engine_version": "latest"}, "engine_version"),
        ({"engine_version": "1.11"}, "engine_version"),
        ({"engine_version": "1.11.4\n"}, "engine_version"),
        ({"working_directory": "/etc"}, "working_directory"),
        ({"working_directory": "a/../b"}, "working_directory"),
        ({"working_directory": "a\\b"}, "working_directory"),
        ({"working_directory": "a\nb"}, "working_directory"),
        ({"working_directory": "x" * 251}, "working_directory"),
        ({"state_backend": "s3"}, "state_backend"),
        ({"last_task_number": 0}, "last_task_number"),
        ({"locked_at": None}, "locked_at"),
        ({"id": "x"}, "id"),
    ],
)
def test_bad_settings_name_their_field_and_change_nothing(admin, workspace, fields, field):
    before = Workspace.objects.values().get()
    with pytest.raises(InvalidInput) as refusal:
        change(admin, workspace, **fields)
    assert refusal.value.field == field
    assert Workspace.objects.values().get() == before
    assert not Event.objects.filter(kind="workspace.changed").exists()


def test_names_are_unique_in_a_project(admin, workspace):
    with pytest.raises(Conflict, match="taken"):
        workspaces.create_workspace(actor=admin, project=workspace.project, name=workspace.name)
    other = workspaces.create_project(actor=admin, name="other")
    made = workspaces.create_workspace(actor=admin, project=other, name=workspace.name)
    assert made.project == other
    with pytest.raises(Conflict):
        workspaces.create_project(actor=admin, name="other")
    with pytest.raises(Conflict):
        workspaces.update_project(actor=admin, project=other, name=workspace.project.name)
    with pytest.raises(InvalidInput):
        workspaces.update_project(actor=admin, project=other, id="x")


def test_the_backend_stays_while_a_task_has_not_ended(admin, workspace):
    task = make_task(workspace)
    with pytest.raises(Conflict, match="ended"):
        change(admin, workspace, state_backend="configuration")
    change(admin, workspace, state_backend="slipway", description="x")
    tasks.cancel_task(actor=admin, task_id=task.pk)
    assert change(admin, workspace, state_backend="configuration").state_backend == "configuration"


@pytest.mark.django_db(transaction=True)
def test_a_backend_changes_before_or_after_a_new_task_never_under_it():
    admin = Actor.person(make_admin())
    for _ in range(8):
        workspace = make_workspace()
        copies = [Workspace.objects.get(pk=workspace.pk) for _ in range(2)]
        made, changed = race(
            [
                lambda w=copies[0]: make_task(w, actor=admin),
                lambda w=copies[1]: change(admin, w, state_backend="configuration"),
            ]
        )
        workspace.refresh_from_db()
        assert isinstance(made, Task)
        if isinstance(changed, Conflict):
            assert workspace.state_backend == "slipway"
        assert made.state_backend == workspace.state_backend


def test_locking_needs_a_reason_and_is_audited(admin, workspace):
    for reason in ("", "  ", "x" * 251):
        with pytest.raises(InvalidInput) as refusal:
            workspaces.lock_workspace(actor=admin, workspace=workspace, reason=reason)
        assert refusal.value.field == "reason"
    workspaces.lock_workspace(actor=admin, workspace=workspace, reason="maintenance")
    assert workspace.locked_by == admin.user
    with pytest.raises(Conflict):
        workspaces.lock_workspace(actor=admin, workspace=workspace, reason="again")
    workspaces.unlock_workspace(actor=admin, workspace=workspace)
    with pytest.raises(Conflict):
        workspaces.unlock_workspace(actor=admin, workspace=workspace)
    kinds = Event.objects.filter(workspace=workspace).order_by("id").values_list("kind", "cause")
    assert list(kinds) == [("workspace.locked", "maintenance"), ("workspace.unlocked", "")]


def test_who_may_change_a_workspace(workspace):
    for role in ("viewer", "planner", "approver"):
        actor = Actor.person(make_user(role))
        with pytest.raises(NotPermitted):
            change(actor, workspace, description="x")
        with pytest.raises(NotPermitted):
            workspaces.create_workspace(actor=actor, project=workspace.project, name="new")
        with pytest.raises(NotPermitted):
            workspaces.create_project(actor=actor, name="new")
    stranger = Actor.person(make_user("manager", Project.objects.create(name="elsewhere")))
    with pytest.raises(NotFound):
        change(stranger, workspace, description="x")
    manager = Actor.person(make_user("manager", workspace.project))
    assert change(manager, workspace, description="x").description == "x"
    with pytest.raises(NotPermitted):
        workspaces.create_project(actor=manager, name="new")
