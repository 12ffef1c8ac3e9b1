import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput, NotFound, NotPermitted
from tasks_app.models import Event, Project, Variable, VariableVersion
from tasks_app.services import variables as service
from tasks_app.services.variables import VALUE_BYTES_MAX, set_variable, task_variables
from tests.support.factories import make_admin, make_task, make_user, make_workspace
from tests.support.racing import race

pytestmark = pytest.mark.django_db
CANARY = "canary-4711-secret"


@pytest.fixture
def admin():
    return Actor.person(make_admin())


def values(task):
    return {variable.key: variable.value for variable in task_variables(task)}


def test_workspace_beats_project_beats_global(admin, workspace):
    project = workspace.project
    for key, scopes in {
        "a": [{}],
        "b": [{}, {"project": project}],
        "c": [{"workspace": workspace}, {"project": project}, {}],
    }.items():
        for scope in scopes:
            name = next(iter(scope), "global")
            set_variable(actor=admin, key=key, value=name, **scope)
    other = make_workspace(project=Project.objects.create(name="other"))
    assert values(make_task(workspace)) == {"a": "global", "b": "project", "c": "workspace"}
    assert values(make_task(other)) == {"a": "global", "b": "global", "c": "global"}


def test_the_same_name_in_both_categories_is_two_variables(admin, workspace):
    for category in Variable.Category:
        set_variable(actor=admin, key="A", value=category, category=category, workspace=workspace)
    found = {(v.category, v.value) for v in task_variables(make_task(workspace))}
    assert found == {("terraform", "terraform"), ("environment", "environment")}


def test_versions_are_immutable_and_a_task_keeps_its_own(admin, workspace):
    set_variable(actor=admin, key="a", value="one", workspace=workspace)
    before = make_task(workspace)
    variable = set_variable(actor=admin, key="a", value="two", workspace=workspace)
    after = make_task(workspace)
    service.delete_variable(actor=admin, variable=variable)
    last = make_task(workspace)
    set_variable(actor=admin, key="a", value="three", workspace=workspace)
    assert [values(task) for task in (before, after, last)] == [{"a": "one"}, {"a": "two"}, {}]
    assert values(make_task(workspace)) == {"a": "three"}
    assert VariableVersion.objects.count() == 3


def test_credentials_in_the_environment_rotate(admin, workspace):
    def rotate(value):
        set_variable(
            actor=admin,
            key="TOKEN",
            value=value,
            category="environment",
            sensitive=True,
            workspace=workspace,
        )

    rotate("first-secret")
    task = make_task(workspace)
    rotate("second-secret")
    assert values(task) == {"TOKEN": "second-secret"}
    assert set(service.sensitive_values(task)) == {"first-secret", "second-secret"}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": "x" * 129}, "key"),
        ({"key": "1a"}, "key"),
        ({"key": "a b"}, "key"),
        ({"key": "a\n"}, "key"),
        ({"key": "ä"}, "key"),
        ({"category": "other"}, "category"),
        ({"category": "environment", "key": "PATH"}, "key"),
        ({"category": "environment", "key": "TF_CLI_ARGS_apply"}, "key"),
        ({"category": "environment", "key": "LD_PRELOAD"}, "key"),
        ({"category": "environment", "key": "a-b"}, "key"),
        ({"category": "environment", "hcl": True}, "hcl"),
        ({"value": "a\0b"}, "value"),
        ({"value": "\ud800"}, "value"),
        ({"value": "x" * (VALUE_BYTES_MAX + 1)}, "value"),
        ({"value": "ü" * (VALUE_BYTES_MAX // 2 + 1)}, "value"),
        ({"hcl": True, "value": ""}, "value"),
        ({"hcl": True, "value": '["a"'}, "value"),
        ({"hcl": True, "value": "unquoted"}, "value"),
        ({"sensitive": True, "value": "abc"}, "value"),
        ({"sensitive": True, "value": "  abc  "}, "value"),
    ],
)
def test_bad_input_names_its_field_and_stores_nothing(admin, workspace, fields, field):
    with pytest.raises(InvalidInput) as refusal:
        set_variable(actor=admin, workspace=workspace, **{"key": "a", "value": "b", **fields})
    assert refusal.value.field == field
    assert not Variable.objects.exists()


def test_the_largest_value_fits_an_environment_variable(admin, workspace):
    set_variable(actor=admin, key="k" * 128, value="x" * VALUE_BYTES_MAX, workspace=workspace)
    assert len(f"TF_VAR_{'k' * 128}={'x' * VALUE_BYTES_MAX}") + 1 <= 128 * 1024


def test_sensitive_values_are_stored_encrypted_and_never_shown(admin, workspace):
    variable = set_variable(actor=admin, key="a", value=CANARY, sensitive=True, workspace=workspace)
    version = VariableVersion.objects.get()
    assert CANARY.encode() not in bytes(version.value_ciphertext)
    assert service.current_value(variable) is None
    assert service.shown_value(version) is None
    assert CANARY not in repr(list(Event.objects.values()))
    # Making it visible needs the value again.
    with pytest.raises(InvalidInput):
        service.update_variable(actor=admin, variable=variable, sensitive=False)
    service.update_variable(actor=admin, variable=variable, sensitive=False, value="public")
    variable.refresh_from_db()
    assert service.current_value(variable) == "public"
    assert service.shown_value(version) is None


def test_a_ciphertext_belongs_to_its_version(admin, workspace):
    from tasks_app.exceptions import DecryptionFailed

    set_variable(actor=admin, key="a", value=CANARY, workspace=workspace)
    set_variable(actor=admin, key="b", value="other", workspace=workspace)
    one, two = VariableVersion.objects.order_by("id")
    VariableVersion.objects.filter(pk=two.pk).update(value_ciphertext=one.value_ciphertext)
    with pytest.raises(DecryptionFailed):
        task_variables(make_task(workspace))


def test_the_texts_in_a_sensitive_structure_are_secrets(admin, workspace):
    set_variable(
        actor=admin,
        key="users",
        value='[{ name = "ada-l", password = "hunter2!" }]',
        hcl=True,
        sensitive=True,
        workspace=workspace,
    )
    assert {"ada-l", "hunter2!"} < set(service.sensitive_values(make_task(workspace)))


#: role in the workspace's project: may set a variable of the workspace, the project, globally
ROLES = {
    "viewer": (False, False, False),
    "planner": (False, False, False),
    "approver": (False, False, False),
    "manager": (True, True, False),
}


@pytest.mark.parametrize("role", ROLES)
def test_who_may_set_what(workspace, role):
    actor = Actor.person(make_user(role, workspace.project))
    scopes = ({"workspace": workspace}, {"project": workspace.project}, {})
    for scope, allowed in zip(scopes, ROLES[role], strict=True):
        if allowed:
            variable = set_variable(actor=actor, key="a", value="b", **scope)
            service.delete_variable(actor=actor, variable=variable)
        else:
            with pytest.raises(NotPermitted):
                set_variable(actor=actor, key="a", value="b", **scope)
    stranger = Actor.person(make_user("manager", Project.objects.create(name="elsewhere")))
    with pytest.raises(NotFound):
        set_variable(actor=stranger, key="a", value="b", workspace=workspace)


def test_every_change_is_audited_with_its_scope(admin, workspace):
    project = workspace.project
    variable = set_variable(actor=admin, key="a", value="b", project=project)
    service.delete_variable(actor=admin, variable=variable)
    made, gone = Event.objects.order_by("id")
    expected = {"key": "a", "scope": "project", "project": project.name, "category": "terraform"}
    assert (made.kind, made.data) == ("variable.set", {**expected, "version": 1})
    assert (gone.kind, gone.data) == ("variable.deleted", expected)


@pytest.mark.django_db(transaction=True)
def test_two_people_set_one_variable_at_once():
    admin = Actor.person(make_admin())
    workspace = make_workspace()
    results = race(
        [
            lambda n=n: set_variable(actor=admin, key="a", value=f"v{n}", workspace=workspace)
            for n in range(5)
        ]
    )
    assert all(isinstance(result, Variable) for result in results)
    assert Variable.objects.count() == 1
    assert sorted(VariableVersion.objects.values_list("number", flat=True)) == [1, 2, 3, 4, 5]
