"""After a key rotation every row is encrypted anew, beside readers and writers."""

import itertools
import json
import threading
from dataclasses import replace

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, models, transaction

from pods_app.services import pool_credentials
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.exceptions import DecryptionFailed
from tasks_app.models import Blob, Event, IdempotencyKey, VariableVersion, Workspace
from tasks_app.models.base import EncryptedRow
from tasks_app.services import credentials, logs, plans, reencryption, state, variables
from tasks_app.services.reencryption import encrypted_models, reencrypt
from tests.support.factories import make_admin, make_pool
from tests.support.racing import race
from tests.support.rest import Person
from tests.support.seeds import PLAN, seed
from tests.support.seeds import state as state_document

KEYS = {"old": b"o" * 32, "new": b"n" * 32}


def ring(settings, *names):
    settings.SLIPWAY = replace(
        settings.SLIPWAY, encryption_keys={name: KEYS[name] for name in names}
    )


@pytest.fixture
def rotated(settings):
    """One of everything under the old key, then the new key in front."""
    ring(settings, "old")
    world = seed()
    person = Person(make_admin())
    key = {"Idempotency-Key": "one"}
    token = person.post("tokens/", {"hours": 1}, headers=key).json()["token"]
    ring(settings, "new", "old")
    return world, person, token


def counted(name="old"):
    return sum(model.objects.filter(key_id=name).count() for model in encrypted_models())


def run(*arguments, capsys):
    """Return the exit code and the JSON document."""
    try:
        call_command("reencrypt", "--json", *arguments)
        code = 0
    except SystemExit as exit_:
        code = exit_.code
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.django_db
def test_every_ciphertext_of_every_app_is_known_and_was_tried(rotated):

    holders = {
        model
        for model in apps.get_models()
        if any(
            isinstance(column, models.BinaryField) or column.name == "key_id"
            for column in model._meta.fields
        )
        and model.__module__.startswith(("tasks_app", "pods_app", "agents_app"))
    }
    assert holders == set(encrypted_models())
    assert all(issubclass(model, EncryptedRow) for model in holders)
    assert all(model.objects.filter(key_id="old").exists() for model in holders)


@pytest.mark.django_db
def test_afterwards_everything_is_read_without_the_old_key(rotated, settings, capsys):
    world, person, token = rotated
    before = counted()
    code, document = run("--dry-run", capsys=capsys)
    assert (code, document["left"], document["removable"]) == (3, before, [])
    assert counted() == before

    code, document = run(capsys=capsys)
    assert (code, document["left"], document["removable"]) == (0, 0, ["old"])
    assert document["keys"] == {"new": before, "old": 0}
    assert document["runs"] == 1  # the task that waits for a confirmation
    assert sum(table["reencrypted"] for table in document["tables"]) == before
    assert Event.objects.filter(kind="keys.reencrypted").count() == 1

    ring(settings, "new")
    workspace = Workspace.objects.get(pk=world.ids["workspaces"])
    task = workspace.tasks.get()
    assert state.read_state(workspace.state_versions.get()) == state_document()
    assert blobs.read_all(task.configuration.blob) == b"not a real archive"
    assert json.loads(blobs.read_all(task.plan.json)) == PLAN
    assert plans.plan_text(task) == "Plan: 0 to add"
    assert logs.read_log(task, "plan").data == "größer ✔\n".encode()
    assert "a secret" in variables.sensitive_values(task)
    assert credentials.project_credentials(workspace.project)[0][1] == "very secret"
    again = person.post("tokens/", {"hours": 1}, headers={"Idempotency-Key": "one"})
    assert again.json()["token"] == token

    code, document = run(capsys=capsys)
    assert (code, document["left"]) == (0, 0)
    assert Event.objects.filter(kind="keys.reencrypted").count() == 1


@pytest.mark.django_db
def test_the_text_says_which_keys_may_go(rotated, capsys):
    call_command("reencrypt")
    told = capsys.readouterr().out
    assert "No row names “old” any more." in told
    assert "1 tasks are under way" in told


@pytest.mark.django_db
def test_what_cannot_be_read_stays_and_keeps_its_key(rotated, capsys):
    damaged = VariableVersion.objects.first()
    VariableVersion.objects.filter(pk=damaged.pk).update(value_ciphertext=b"x" * 40)
    code, document = run(capsys=capsys)
    assert (code, document["left"], document["removable"]) == (1, 1, [])
    (table,) = [table for table in document["tables"] if table["unreadable"]]
    assert table["examples"] == [str(damaged.pk)]
    damaged.refresh_from_db()
    assert (damaged.key_id, bytes(damaged.value_ciphertext)) == ("old", b"x" * 40)


@pytest.mark.django_db
def test_a_key_that_is_gone_from_the_ring_is_named(rotated, settings, capsys):
    ring(settings, "new")
    code, document = run(capsys=capsys)
    assert code == 1
    assert document["keys"]["old"] == document["left"] > 0


@pytest.mark.django_db(transaction=True)
def test_killed_it_goes_on_where_it_stopped(rotated, monkeypatch):
    monkeypatch.setattr(reencryption, "_BATCH", 2)
    before, ticks = counted(), itertools.count()

    def kill(table, rows):
        if next(ticks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reencrypt(progress=kill)
    rest = counted()
    assert 0 < rest < before
    report = reencrypt()
    assert (report.left, sum(table.reencrypted for table in report.tables)) == (0, rest)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_not_waited_for(rotated):
    held, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            VariableVersion.objects.select_for_update().first()
            held.set()
            release.wait(20)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(20)
    report = reencrypt()
    release.set()
    holder.join()
    assert report.left == 1
    assert reencrypt().left == 0


@pytest.mark.django_db
def test_a_reader_in_the_middle_of_a_blob_reads_on(settings):
    ring(settings, "old")
    content = b"x" * (2 * blobs.CHUNK_BYTES) + b"end"
    blob = blobs.store([content], Blob.Retention.STATE)
    ring(settings, "new", "old")
    reading = blobs.read(blob)
    first = next(reading)
    assert reencrypt().left == 0
    assert first + b"".join(reading) == content


@pytest.mark.django_db(transaction=True)
def test_it_races_writers_and_a_second_one(rotated, monkeypatch):
    """Processes that still have the old ring in front go on writing while it works."""
    monkeypatch.setattr(reencryption, "_BATCH", 1)
    world, person, _ = rotated
    actor = Actor.person(person.user)
    workspace = Workspace.objects.get(pk=world.ids["workspaces"])
    task = workspace.tasks.get()
    size = logs.log_size(task, "plan")

    def set_values():
        for number in range(10):
            variables.set_variable(
                actor=actor, workspace=workspace, key="hidden", value=f"secret {number}",
                sensitive=True,
            )  # fmt: skip
            credentials.set_credential(
                actor=actor, project=workspace.project, kind="https_token",
                host="git.example.com", secret=f"very secret {number}",
            )  # fmt: skip

    def mask():
        for offset in range(size):
            logs.mask_log(task=task, phase="plan", offset=offset, length=1)

    assert not any(
        isinstance(result, Exception) for result in race([reencrypt, set_values, mask, reencrypt])
    )
    assert reencrypt().left == 0
    assert logs.read_log(task, "plan").data == b"*" * size
    assert credentials.project_credentials(workspace.project)[0][1] == "very secret 9"
    assert not IdempotencyKey.objects.filter(key_id="old").exists()


@pytest.mark.django_db
def test_a_credential_moved_to_another_pool_is_not_opened(rotated):

    other = make_pool()
    row = other.credentials.model.objects.get()
    pool_credentials(row.pool)
    other.credentials.model.objects.update(pool=other)
    with pytest.raises(DecryptionFailed):
        pool_credentials(other)
