"""The protocol of Terraform's http backend, with every answer it can get."""

import base64
import hashlib
import json
from dataclasses import replace

import pytest
from django.db import OperationalError

from tasks_app.ids import uuid7
from tasks_app.models import Blob, BlobChunk, Event, StateLock, StateVersion, Workspace
from tasks_app.services.state_position import current_version
from tasks_app.state_backend import views
from tests.support.factories import (
    make_user,
    make_workspace,
)
from tests.support.racing import race
from tests.support.state import LINEAGE, StateClient, document, token_of

pytestmark = pytest.mark.django_db


def stored(client, *serials):
    client.lock()
    for serial in serials:
        assert client.post(document(serial)).status_code == 200
    client.unlock()


# --- who -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "password", ["", "wrong", "é", "slr.a.b.c", "slr.a.b.new1.é", "x" * 5000, "a\tb"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "LOCK", "UNLOCK"])
def test_a_wrong_password_is_401(workspace, password, method):
    answer = StateClient(workspace.pk, password).send(method, "{}")
    assert answer.status_code == 401
    assert answer["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Token x"],
)
def test_a_header_that_is_none_is_401(client, workspace, header):
    address = f"/api/state/v1/{workspace.pk}/"
    assert client.get(address, headers={"Authorization": header}).status_code == 401
    assert client.get(address).status_code == 401


def test_tokens_of_people_who_left_are_401(workspace):
    user = make_user("manager")
    terraform = StateClient(workspace.pk, token_of(user))
    assert terraform.get().status_code == 404
    user.is_active = False
    user.save()
    assert terraform.get().status_code == 401


#: role: answers to GET, LOCK, POST, UNLOCK, once a state exists
ROLES = {
    None: (403, 403, 403, 403),
    "viewer": (403, 403, 403, 403),
    "planner": (403, 403, 403, 403),
    "approver": (200, 403, 403, 403),
    "manager": (200, 200, 200, 200),
}


@pytest.mark.parametrize("role", ROLES)
def test_roles(workspace, ada, role):
    stored(ada, 1)
    terraform = StateClient(workspace.pk, token_of(make_user(role)), "mine")
    answers = (terraform.get(), terraform.lock(), terraform.post(document(2)), terraform.unlock())
    assert tuple(answer.status_code for answer in answers) == ROLES[role]


def test_another_projects_state_is_403_and_so_is_one_that_does_not_exist(workspace, ada):
    other = make_workspace(project=make_other_project())
    manager = make_user("manager", workspace.project)
    for workspace_id in (other.pk, uuid7()):
        terraform = StateClient(workspace_id, token_of(manager))
        for answer in (terraform.get(), terraform.lock(), terraform.post(document(1))):
            assert answer.status_code == 403


def make_other_project():
    from tasks_app.models import Project

    return Project.objects.create(name="elsewhere")


def test_a_workspace_with_its_own_backend_has_no_state_here(workspace, ada):
    Workspace.objects.update(state_backend="configuration")
    for answer in (ada.get(), ada.lock(), ada.post(document(1)), ada.unlock()):
        assert answer.status_code == 403
        assert b"own backend" in answer.content


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_other_methods(ada, method):
    answer = ada.send(method)
    assert answer.status_code == 405
    assert answer["Allow"] == "GET, POST, LOCK, UNLOCK"


# --- GET -------------------------------------------------------------------------------------


def test_404_only_while_there_never_was_a_state(ada):
    assert ada.get().status_code == 404
    stored(ada, 1)
    answer = ada.get()
    assert answer.status_code == 200
    assert answer.content == document(1)
    digest = hashlib.md5(answer.content, usedforsecurity=False).digest()
    assert answer["Content-MD5"] == base64.b64encode(digest).decode()


def purge_contents(settings, monkeypatch):
    Blob.objects.filter(retention=Blob.Retention.STATE).delete()


def lose_a_chunk(settings, monkeypatch):
    BlobChunk.objects.all().delete()


def alter_a_chunk(settings, monkeypatch):
    BlobChunk.objects.update(ciphertext=b"x" * 100)


def cut_a_chunk(settings, monkeypatch):
    BlobChunk.objects.update(ciphertext=b"")


def lose_the_key(settings, monkeypatch):
    settings.SLIPWAY = replace(settings.SLIPWAY, encryption_keys={"other": b"o" * 32})


def lose_the_database(settings, monkeypatch):
    def fail(*args, **kwargs):
        raise OperationalError("gone")

    monkeypatch.setattr(views, "current_version", fail)


@pytest.mark.parametrize(
    "fault",
    [
        purge_contents,
        lose_a_chunk,
        alter_a_chunk,
        cut_a_chunk,
        lose_the_key,
        lose_the_database,
    ],
)
def test_a_fault_of_the_store_is_503_never_absent(ada, settings, monkeypatch, fault):
    stored(ada, 1)
    with monkeypatch.context() as patch:
        fault(settings, patch)
        assert ada.get().status_code == 503


# --- LOCK and UNLOCK -------------------------------------------------------------------------


def test_lock_is_idempotent_by_its_id_and_shows_its_holder_to_others(workspace, ada):
    bob = StateClient(workspace.pk, token_of(make_user("manager")), "lock-2")
    assert ada.lock().status_code == 200
    assert ada.lock().status_code == 200
    for other in (bob.lock(), bob.lock("lock-1"), ada.lock("lock-3")):
        assert other.status_code == 423
        assert other.json()["ID"] == "lock-1"
        assert other.json()["Who"] == "ada@host"
    assert StateLock.objects.filter(released_at=None).count() == 1
    assert Event.objects.filter(kind="state.locked").count() == 1


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{", "null", "{}", '{"ID": ""}', '{"ID": 7}', '{"ID": "a\\u0000"}', "[" * 9999],
)
def test_lock_without_an_id_is_400(ada, body):
    assert ada.send("LOCK", body).status_code == 400


def test_lock_information_is_kept_in_bounds(ada):
    body = json.dumps({"ID": "a", "Info": "x\0" * 2_000, "Secret": "y", "Who": 7})
    assert ada.send("LOCK", body).status_code == 200
    info = StateLock.objects.get().info
    assert len(info["Info"]) <= 500
    assert set(info) == {"ID", "Operation", "Info", "Who", "Version", "Created", "Path"}


def test_a_released_lock_is_never_granted_again(ada):
    ada.lock()
    ada.unlock()
    assert ada.lock().status_code == 403
    assert ada.lock("lock-2").status_code == 200


def test_unlock_is_idempotent_and_only_by_the_holder(workspace, ada):
    bob = StateClient(workspace.pk, token_of(make_user("manager")))
    assert ada.unlock().status_code == 409
    ada.lock()
    assert ada.unlock("another").status_code == 409
    refused = bob.unlock("lock-1")
    assert refused.status_code == 409
    assert refused.json()["ID"] == "lock-1"
    assert StateLock.objects.get().released_at is None
    assert ada.unlock().status_code == 200
    assert ada.unlock().status_code == 200
    assert Event.objects.filter(kind="state.unlocked").count() == 1


@pytest.mark.parametrize("body", ["", " ", "{", "[]"])
def test_unlock_without_id_is_400_and_says_what_to_do(ada, body):
    ada.lock()
    answer = ada.send("UNLOCK", body)
    assert answer.status_code == 400
    assert body.strip() or b"Force unlock" in answer.content
    assert StateLock.objects.get().released_at is None


# --- POST ------------------------------------------------------------------------------------


def test_a_state_is_stored_under_the_lock(workspace, ada):
    ada.lock()
    assert ada.post(document(1)).status_code == 200
    assert ada.post(document(2)).status_code == 200
    version = current_version(workspace)
    assert (version.serial, version.lineage) == (2, LINEAGE)
    assert version.created_by is not None
    assert ada.get().content == document(2)
    assert [v.serial for v in StateVersion.objects.all()] == [2, 1]
    assert not any(LINEAGE.encode() in bytes(chunk.ciphertext) for chunk in BlobChunk.objects.all())


def test_the_same_post_again_is_accepted_once(ada):
    ada.lock()
    for _ in range(3):
        assert ada.post(document(1)).status_code == 200
    assert StateVersion.objects.count() == 1


@pytest.mark.parametrize(
    "content",
    [
        document(2, output="changed"),
        document(1),
        document(3, lineage="another"),
    ],
)
def test_what_does_not_follow_is_409_and_changes_nothing(workspace, ada, content):
    stored(ada, 1, 2)
    ada.lock("again")
    assert ada.post(content, "again").status_code == 409
    assert ada.get().content == document(2)
    assert StateVersion.objects.count() == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", document(1)[:-5]])
def test_a_broken_document_is_400(ada, content):
    ada.lock()
    assert ada.post(content).status_code == 400
    assert not StateVersion.objects.exists()


def test_a_damaged_body_is_400(ada):
    ada.lock()
    assert ada.post(document(1), md5="AAAA").status_code == 400
    assert not StateVersion.objects.exists()


def test_a_state_above_the_limit_is_413(ada, settings):
    settings.SLIPWAY = replace(settings.SLIPWAY, state_bytes_max=300)
    ada.lock()
    assert ada.post(document(1)).status_code == 200
    assert ada.post(document(2, x="y" * 300)).status_code == 413
    assert StateVersion.objects.count() == 1


def test_post_needs_the_lock_and_its_id(workspace, ada):
    assert ada.send("POST", document(1)).status_code == 409
    assert ada.post(document(1)).status_code == 409
    ada.lock()
    assert ada.send("POST", document(1)).status_code == 409
    assert ada.post(document(1), "another").status_code == 409
    bob = StateClient(workspace.pk, token_of(make_user("manager")))
    assert bob.post(document(1), "lock-1").status_code == 409
    assert not StateVersion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_writers_leave_one_history():
    workspace = make_workspace()
    writers = [StateClient(workspace.pk, token_of(make_user("manager")), f"w{n}") for n in range(4)]

    def write(terraform):
        done = []
        for turn in range(5):
            lock = f"{terraform.lock_id}-{turn}"
            if terraform.lock(lock).status_code != 200:
                continue
            found = terraform.get()
            serial = json.loads(found.content)["serial"] + 1 if found.status_code == 200 else 1
            content = document(serial, who=terraform.lock_id)
            assert terraform.post(content, lock).status_code == 200
            assert terraform.unlock(lock).status_code == 200
            done.append(serial)
        return done

    results = race([lambda t=t: write(t) for t in writers])
    serials = sorted(serial for done in results for serial in done)
    assert serials
    assert serials == list(range(1, len(serials) + 1))
    assert StateVersion.objects.count() == len(serials)
    assert not StateLock.objects.filter(released_at=None).exists()
