import pytest

from tasks_app.actors import Actor
from tasks_app.exceptions import DecryptionFailed, InvalidInput, NotPermitted
from tasks_app.models import Event, Project, ProjectCredential
from tasks_app.services.credentials import delete_credential, project_credentials, set_credential
from tests.support.factories import make_admin, make_user

pytestmark = pytest.mark.django_db
SECRET = "canary-0815-token"


@pytest.fixture
def admin():
    return Actor.person(make_admin())


@pytest.fixture
def project():
    return Project.objects.create(name="alpha")


def token(admin, project, **fields):
    values = {"kind": "https_token", "host": "git.example.com", "secret": SECRET, **fields}
    return set_credential(actor=admin, project=project, **values)


def test_a_credential_is_stored_encrypted_and_replaced(admin, project):
    row = token(admin, project, username="ada")
    assert SECRET.encode() not in bytes(row.secret_ciphertext)
    assert [(r.username, s) for r, s in project_credentials(project)] == [("ada", SECRET)]
    token(admin, project, secret="another-secret")
    assert [secret for _, secret in project_credentials(project)] == ["another-secret"]
    assert SECRET not in repr(list(Event.objects.values()))
    delete_credential(actor=admin, credential=row)
    assert project_credentials(project) == []
    assert Event.objects.filter(kind="project.credential_deleted").count() == 1


def test_a_ciphertext_does_not_work_in_another_project(admin, project):
    row = token(admin, project)
    other = Project.objects.create(name="beta")
    ProjectCredential.objects.filter(pk=row.pk).update(project=other)
    with pytest.raises(DecryptionFailed):
        project_credentials(other)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"kind": "password"}, "kind"),
        ({"host": ""}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": "git.example.com\n"}, "host"),
        ({"host": "https://git.example.com"}, "host"),
        ({"secret": " ab "}, "secret"),
        ({"secret": "two\nlines"}, "secret"),
        ({"secret": "x" * 20_000}, "secret"),
        ({"kind": "ssh_key", "secret": "a\0bcd", "known_hosts": "x"}, "secret"),
        ({"kind": "ssh_key"}, "known_hosts"),
        ({"username": "a\nb"}, "username"),
        ({"username": "a:b"}, "username"),
    ],
)
def test_bad_input_names_its_field(admin, project, fields, field):
    with pytest.raises(InvalidInput) as refusal:
        token(admin, project, **fields)
    assert refusal.value.field == field
    assert not ProjectCredential.objects.exists()


@pytest.mark.parametrize("role", ["viewer", "planner", "approver"])
def test_only_managers(admin, project, role):
    row = token(admin, project)
    actor = Actor.person(make_user(role))
    with pytest.raises(NotPermitted):
        token(actor, project)
    with pytest.raises(NotPermitted):
        delete_credential(actor=actor, credential=row)
