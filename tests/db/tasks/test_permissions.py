import pytest
from django.contrib.auth.models import AnonymousUser, Group

from tasks_app.actors import Actor
from tasks_app.exceptions import NotFound, NotPermitted
from tasks_app.models import Project, RoleAssignment
from tasks_app.permissions import Action, may, require, visible_projects
from tests.support.factories import make_admin, make_task, make_user, make_workspace

pytestmark = pytest.mark.django_db

VIEW = {"view"}
PLAN = VIEW | {"plan", "upload_configuration"}
APPROVE = PLAN | {"confirm", "discard", "cancel", "acknowledge", "lock_workspace", "read_state"}
MANAGE = APPROVE | {
    "force_cancel",
    "write_state",
    "force_unlock",
    "change_workspace",
    "change_variables",
    "change_project",
}
#: What a manager of every project may in addition.
GLOBAL = {"operate", "drain_pod", "delete_pod", "override_freeze"}
#: Written out on purpose: a change of the rules must be made twice.
MATRIX = {"viewer": VIEW, "planner": PLAN, "approver": APPROVE, "manager": MANAGE}


def test_the_matrix_names_every_role_and_every_action():
    assert set(MATRIX) == set(RoleAssignment.Role.values)
    assert set(Action) == MANAGE | GLOBAL


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", MATRIX)
def test_role_and_action(role, action):
    workspace = make_workspace()
    task = make_task(workspace)
    here, everywhere = make_user(role, workspace.project), make_user(role)
    for thing in (workspace, workspace.project, task):
        assert may(here, action, thing) == (action in MATRIX[role])
        expected = action in MATRIX[role] or (role == "manager" and action in GLOBAL)
        assert may(everywhere, action, thing) == expected
    assert may(Actor.person(here), action, task) == may(here, action, task)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", MATRIX)
def test_a_role_elsewhere_is_none_here(role, action):
    workspace = make_workspace()
    stranger = make_user(role, Project.objects.create(name="elsewhere"))
    assert not may(stranger, action, workspace)
    with pytest.raises(NotFound):
        require(stranger, action, workspace)


@pytest.mark.parametrize("action", Action)
def test_who_is_no_person_may_nothing_and_parts_of_slipway_may_everything(action):
    workspace = make_workspace()
    inactive = make_admin()
    inactive.is_active = False
    for nobody in (
        AnonymousUser(),
        make_user(),
        inactive,
        Actor.agent("a"),
        Actor("task:t"),
        Actor.person(inactive),
        Actor(""),
    ):
        assert not may(nobody, action, workspace)
        with pytest.raises((NotFound, NotPermitted)):
            require(nobody, action, workspace)
    for everybody in (Actor.system("dispatch"), make_admin(), Actor.person(make_admin())):
        require(everybody, action, workspace)
        require(everybody, action, None)


def test_nobody_becomes_a_part_of_slipway_by_their_name():
    user = make_user()
    user.username = "system:dispatch"
    assert not Actor.person(user).is_system
    assert not may(Actor.person(user), Action.OPERATE)


def test_several_roles_add_up():
    workspace = make_workspace()
    user = make_user("viewer")
    group = Group.objects.create(name="approvers")
    user.groups.add(group)
    RoleAssignment.objects.create(group=group, project=workspace.project, role="approver")
    assert may(user, Action.CONFIRM, workspace)
    assert not may(user, Action.CONFIRM, Project.objects.create(name="elsewhere"))


def test_what_belongs_to_no_project_needs_a_role_everywhere():
    from tasks_app.models import Variable

    make_workspace()
    variable = Variable(key="a")
    project = Project.objects.get()
    assert not may(make_user("manager", project), Action.CHANGE_VARIABLES, variable)
    assert may(make_user("manager"), Action.CHANGE_VARIABLES, variable)
    assert not may(make_user("manager", project), Action.OPERATE)


def test_lists_show_what_may_be_seen():
    one, two = (Project.objects.create(name=name) for name in ("one", "two"))
    assert set(visible_projects(make_user("viewer", one))) == {one}
    assert set(visible_projects(make_user("viewer"))) == {one, two}
    assert set(visible_projects(make_admin())) == {one, two}
    gone = make_admin()
    gone.is_active = False
    for nobody in (make_user(), AnonymousUser(), None, gone):
        assert not visible_projects(nobody).exists()


def test_seeing_without_being_allowed_is_not_permitted():
    workspace = make_workspace()
    with pytest.raises(NotPermitted, match="confirm"):
        require(make_user("viewer", workspace.project), Action.CONFIRM, workspace)
    with pytest.raises(NotPermitted):
        require(make_user(), Action.OPERATE, None)
