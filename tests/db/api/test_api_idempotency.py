"""The same request under the same key has one effect and one answer."""

import pytest
from django.db import connection

from tasks_app.models import Event, IdempotencyKey, Project
from tests.support.factories import make_admin, make_pool, make_workspace
from tests.support.racing import race
from tests.support.rest import Person, packed, problem

KEY = {"Idempotency-Key": "one"}


def create(person, name="a", headers=KEY):
    return person.post("projects/", {"name": name}, headers=headers)


@pytest.mark.django_db
def test_the_answer_is_repeated(admin):
    first = create(admin)
    again = create(admin)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert first["Location"] == again["Location"]
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert Event.objects.filter(kind="project.created").count() == 1


@pytest.mark.django_db
def test_another_request_under_the_key_is_refused(admin):
    create(admin)
    refused = problem(create(admin, "b"), 422)
    assert refused["type"] == "urn:slipway:idempotency-key-reused"
    assert not Project.objects.filter(name="b").exists()
    problem(admin.post("workspaces/", {"name": "a"}, headers=KEY), 422)


@pytest.mark.django_db
def test_keys_are_each_persons_own(admin):
    assert create(admin).status_code == 201
    assert create(Person(make_admin()), "b").status_code == 201


@pytest.mark.django_db
def test_a_refused_request_may_be_sent_again_once_it_can_be(admin):
    Project.objects.create(name="a")
    problem(create(admin), 409)
    Project.objects.all().delete()
    assert create(admin).status_code == 201


@pytest.mark.django_db
def test_a_crash_before_the_answer_is_stored_undoes_the_action(admin, monkeypatch):
    def fail(*args):
        raise KeyError("crash")

    with monkeypatch.context() as patch:
        patch.setattr("tasks_app.api.idempotency._store", fail)
        problem(create(admin), 500)
    assert not Project.objects.exists()
    assert create(admin).status_code == 201


@pytest.mark.django_db
def test_answers_with_secrets_are_encrypted(admin):
    token = admin.post("tokens/", {"hours": 1}, headers=KEY).json()["token"]
    row = IdempotencyKey.objects.get()
    assert token.encode() not in bytes(row.body_ciphertext)
    assert admin.post("tokens/", {"hours": 1}, headers=KEY).json()["token"] == token


@pytest.mark.django_db
def test_uploads_are_told_apart_by_their_content(admin):
    workspace = make_workspace(configured=False)
    address = f"workspaces/{workspace.pk}/configurations/"
    archive = packed({"main.tf": "# one"})
    first = admin.upload(address, archive, headers=KEY)
    again = admin.upload(address, archive, headers=KEY)
    assert first.json() == again.json()
    assert workspace.configurations.count() == 1
    problem(admin.upload(address, packed({"main.tf": "# two"}), headers=KEY), 422)


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["", "x" * 256, "\u00fc"])
def test_keys_that_cannot_be_used(admin, key):
    assert problem(create(admin, headers={"Idempotency-Key": key}), 400)["field"] == (
        "Idempotency-Key"
    )


@pytest.mark.django_db(transaction=True)
def test_at_once_one_acts_and_the_others_are_told_to_wait():
    make_pool()
    person = Person(make_admin())

    def send():
        answer = create(person)
        return answer.status_code, answer.json().get("type")

    results = race([send] * 4)
    statuses = {status for status, _ in results}
    assert statuses <= {201, 409}
    assert 201 in statuses
    assert {kind for status, kind in results if status == 409} <= {
        "urn:slipway:idempotency-key-in-flight"
    }
    assert Project.objects.filter(name="a").count() == 1
    connection.close()
