"""Personal tokens: made by their owner, shown once, with an end; the state backend takes them."""

import base64
from datetime import timedelta

import pytest
from django.utils import timezone
from knox.models import AuthToken

from tests.support.factories import make_admin, make_workspace
from tests.support.rest import Person, problem
from tests.support.seeds import state

pytestmark = pytest.mark.django_db


def test_a_token_is_shown_once_and_works_until_its_end(admin):
    made = admin.post("tokens/", {"hours": 2})
    assert made.status_code == 201
    token = made.json()["token"]
    assert token not in admin.get("tokens/").content.decode()
    other = Person(None)
    other.token = token
    assert other.get("projects/").status_code == 200
    row = AuthToken.objects.get(token_key=made.json()["id"])
    assert timedelta(hours=1) < row.expiry - timezone.now() <= timedelta(hours=2)
    AuthToken.objects.filter(pk=row.pk).update(expiry=timezone.now() - timedelta(seconds=1))
    problem(other.get("projects/"), 401)


def test_everybody_sees_and_ends_only_their_own(admin):
    own = admin.post("tokens/", {}).json()["id"]
    other = Person(make_admin())
    assert own not in {row["id"] for row in other.get("tokens/").json()}
    problem(other.delete(f"tokens/{own}/"), 404)
    assert admin.delete(f"tokens/{own}/").status_code == 204
    assert own not in {row["id"] for row in admin.get("tokens/").json()}


@pytest.mark.parametrize("hours", [0, -1, 10**9, 10**30, "12", 1.5, True])
def test_lives_that_make_no_sense(admin, hours):
    assert problem(admin.post("tokens/", {"hours": hours}), 400)["field"] == "hours"


def test_the_state_backend_takes_a_token_as_its_password(admin, client):
    workspace = make_workspace()
    admin.send("POST", f"workspaces/{workspace.pk}/state-versions/", state())
    token = admin.post("tokens/", {"hours": 1}).json()["token"]
    basic = base64.b64encode(f"ada:{token}".encode()).decode()
    answer = client.get(
        f"/api/state/v1/{workspace.pk}/", headers={"Authorization": f"Basic {basic}"}
    )
    assert answer.status_code == 200
    assert answer.json()["serial"] == 1


def test_sensitive_variables_never_come_back(admin):
    workspace = make_workspace()
    path = f"workspaces/{workspace.pk}/variables/"
    secret = "correct horse battery"
    made = admin.post(path, {"key": "password", "value": secret, "sensitive": True})
    assert made.status_code == 201
    address = f"{path}{made.json()['id']}/"
    changed = admin.patch(address, {"description": "of the database"})
    assert changed.json()["version"] == 2
    refused = problem(admin.patch(address, {"sensitive": False}), 400)
    assert refused["field"] == "value"
    events = admin.get(f"workspaces/{workspace.pk}/")
    for answer in (made, changed, admin.get(path), admin.get(address), events):
        assert secret not in answer.content.decode()
    shown = admin.patch(address, {"sensitive": False, "value": "plain now"}).json()
    assert (shown["value"], shown["version"]) == ("plain now", 3)


@pytest.mark.parametrize("owners", ["pools", "projects"])
def test_credentials_are_write_only_and_replaced(admin, owners):
    owner = admin.post(f"{owners}/", {"name": "main"}).json()["id"]
    path = f"{owners}/{owner}/credentials/"
    body = {"kind": "https_token", "host": "git.example.com", "secret": "correct horse"}
    made = admin.post(path, body)
    assert made.status_code == 201
    for answer in (made, admin.get(path)):
        assert "horse" not in answer.content.decode()
    again = admin.post(path, body | {"secret": "battery staple"})
    assert again.json()["id"] == made.json()["id"]
    for field, value in [("host", "a/b"), ("secret", "x"), ("username", "a:b")]:
        assert problem(admin.post(path, body | {field: value}), 400)["field"] == field
    ssh = problem(admin.post(path, body | {"kind": "ssh_key"}), 400)
    assert ssh["field"] == "known_hosts"
    assert admin.delete(f"{path}{made.json()['id']}/").status_code == 204
    assert admin.get(path).json()["results"] == []


def test_users_and_passwords_of_proxies_are_not_shown(admin):
    made = admin.post(
        "pools/", {"name": "main", "proxy": {"HTTPS_PROXY": "http://ada:geheim@proxy:3128"}}
    )
    assert made.json()["proxy"] == {"HTTPS_PROXY": "http://***@proxy:3128"}
    address = f"pools/{made.json()['id']}/"
    assert problem(admin.patch(address, {"proxy": {"PATH": "x"}}), 400)["field"] == "proxy"


def test_there_is_one_default_pool(admin):
    one = admin.post("pools/", {"name": "one", "is_default": True}).json()["id"]
    two = admin.post("pools/", {"name": "two", "is_default": True}).json()["id"]
    assert admin.get(f"pools/{one}/").json()["is_default"] is False
    assert problem(admin.patch(f"pools/{two}/", {"is_default": False}), 400)


def test_the_state_lock_is_shown_and_forced_open(admin):
    from tasks_app.actors import Actor
    from tasks_app.services.state import lock_state

    workspace = make_workspace()
    path = f"workspaces/{workspace.pk}/state-lock/"
    problem(admin.get(path), 404)
    problem(admin.delete(path), 409)
    lock_state(
        workspace=workspace,
        info={"ID": "l1", "Operation": "OperationTypeApply"},
        actor=Actor.person(admin.user),
    )
    assert admin.get(path).json()["operation"] == "OperationTypeApply"
    upload = problem(admin.send("POST", f"workspaces/{workspace.pk}/state-versions/", state()), 423)
    assert upload["holder"]["ID"] == "l1"
    assert admin.delete(path).json()["id"] == "l1"
    problem(admin.get(path), 404)


def test_a_workspace_is_locked_with_a_reason_and_unlocked(admin):
    workspace = make_workspace()
    path = f"workspaces/{workspace.pk}/"
    locked = admin.post(f"{path}lock/", {"reason": "moving house"}).json()
    assert (locked["lock_reason"], locked["locked_by"]) == ("moving house", str(admin.user))
    assert problem(admin.post(f"{path}plan/"), 409)["type"] == "urn:slipway:workspace-locked"
    assert [row["name"] for row in admin.get("workspaces/", locked="true").json()["results"]]
    problem(admin.post(f"{path}lock/", {"reason": "again"}), 409)
    assert admin.post(f"{path}unlock/").json()["locked_at"] is None
    problem(admin.post(f"{path}unlock/"), 409)
