import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from agents_app.models import LeaseArtifact
from tasks_app import blobs, jobs
from tasks_app.exceptions import DecryptionFailed, NotFound
from tasks_app.ids import uuid7
from tasks_app.models import (
    Blob,
    BlobChunk,
    Event,
    IdempotencyKey,
    LogChunk,
    LogStream,
    Plan,
    StateVersion,
    Task,
)
from tasks_app.services import state
from tasks_app.services.logs import append_log
from tasks_app.services.retention import purge
from tasks_app.single_flight import acquire
from tasks_app.states import FINAL, Status
from tests.support.factories import make_task, make_user, make_waiting_task, make_workspace
from tests.support.state import document

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(days=4000)


@pytest.fixture
def keep(settings):
    """Set retention by name."""

    def change(**fields):
        settings.SLIPWAY = replace(settings.SLIPWAY, **fields)

    return change


def versions(workspace, *serials, task=None):
    for serial in serials:
        blob = blobs.store([document(serial)], Blob.Retention.STATE)
        StateVersion.objects.create(
            workspace=workspace, serial=serial, lineage="l", digest="", size=0, blob=blob, task=task
        )


def readable(workspace):
    rows = StateVersion.objects.filter(workspace=workspace).exclude(blob=None)
    return sorted(json.loads(state.read_state(row))["serial"] for row in rows)


def test_the_newest_versions_of_every_workspace_stay(keep):
    keep(retention_state_versions=2)
    one, two = make_workspace(), make_workspace()
    versions(one, 1, 2, 3, 9)
    versions(two, 7)
    assert purge()["state_versions"] == 2
    assert (readable(one), readable(two)) == ([3, 9], [7])
    assert StateVersion.objects.count() == 5
    with pytest.raises(NotFound, match="purged"):
        state.read_state(StateVersion.objects.get(workspace=one, serial=1))
    assert purge()["state_versions"] == 0


def test_the_current_version_stays_whatever_the_setting_says(keep):
    keep(retention_state_versions=0)
    workspace = make_workspace()
    versions(workspace, 1, 2)
    purge()
    assert readable(workspace) == [2]


def test_what_an_unfinished_task_wrote_or_was_planned_on_stays(keep):
    keep(retention_state_versions=1)
    workspace = make_workspace()
    task = make_waiting_task(workspace)
    Plan.objects.update(state_serial=1)
    versions(workspace, 1, 2)
    versions(workspace, 3, task=task)
    versions(workspace, 4, 5)
    purge()
    assert readable(workspace) == [1, 3, 5]
    Task.objects.update(status=Status.FAILED)
    purge()
    assert readable(workspace) == [5]


def planned(status):
    task = make_waiting_task()
    former = Plan.objects.values_list("bundle", flat=True).get(task=task)
    stored = {
        name: blobs.store([name.encode()], Blob.Retention.PLAN) for name in ("bundle", "json")
    }
    Plan.objects.filter(task=task).update(**stored, created_at=LONG_AGO)
    Blob.objects.filter(pk=former).delete()
    LeaseArtifact.objects.create(lease=task.leases.get(), kind="plan_json", blob=stored["json"])
    Task.objects.filter(pk=task.pk).update(status=status, finished_at=LONG_AGO)
    return task


@pytest.mark.parametrize("status", Status)
def test_only_plans_of_finished_tasks_go(status):
    task = planned(status)
    gone = purge()["plans"]
    plan = Plan.objects.get(task=task)
    assert gone == (status in FINAL)
    assert (plan.bundle is None) == (status in FINAL)
    assert plan.plan_hash
    assert Blob.objects.filter(retention="plan").exists() != (status in FINAL)
    assert LeaseArtifact.objects.exists() != (status in FINAL)
    assert purge()["plans"] == 0


def test_what_a_plan_that_never_ended_left_behind_goes_and_nothing_else_does():
    task = planned(Status.APPLY_PENDING)
    lost = blobs.store([b"lost"], Blob.Retention.PLAN)
    recovered = blobs.store([b"the only copy"], Blob.Retention.STATE)
    young = blobs.store([b"young"], Blob.Retention.PLAN)
    LeaseArtifact.objects.create(lease=task.leases.get(), kind="plan_text", blob=lost)
    Blob.objects.exclude(pk=young.pk).update(created_at=LONG_AGO)
    kept = set(Blob.objects.exclude(pk=lost.pk).values_list("pk", flat=True))
    assert purge()["plan_leftovers"] == 1
    assert set(Blob.objects.values_list("pk", flat=True)) == kept
    assert recovered.pk in kept
    assert LeaseArtifact.objects.count() == 1


def test_young_plans_stay():
    task = planned(Status.APPLIED)
    Plan.objects.update(created_at=timezone.now())
    purge()
    assert Plan.objects.get(task=task).bundle is not None


def test_logs_of_tasks_that_ended_long_ago_go():
    old, young, live = make_task(), make_task(), make_task()
    for task in (old, young, live):
        append_log(task=task, phase="plan", lease_id=uuid7(), offset=0, data=b"log")
    Task.objects.filter(pk=old.pk).update(finished_at=LONG_AGO)
    Task.objects.filter(pk=young.pk).update(finished_at=timezone.now())
    assert purge(dry_run=True)["logs"] == 1
    assert LogStream.objects.count() == 3
    assert purge()["logs"] == 1
    assert set(LogStream.objects.values_list("task", flat=True)) == {young.pk, live.pk}
    assert LogChunk.objects.count() == 2


def test_old_answers_and_queue_rows_go():
    from django_q.models import Success

    user = make_user()
    for key, at in (("old", LONG_AGO), ("new", timezone.now())):
        IdempotencyKey.objects.create(
            user=user, key=key, fingerprint="", status=201, body_ciphertext=b"", created_at=at
        )
        Success.objects.create(id=key, name=key, func="f", started=at, stopped=at, success=True)
    counts = purge()
    assert (counts["idempotency_keys"], counts["queue_rows"]) == (1, 1)
    assert IdempotencyKey.objects.get().key == "new"
    assert Success.objects.get().name == "new"


def test_nothing_else_is_ever_touched(keep):
    keep(retention_state_versions=1)
    task = planned(Status.APPLIED)
    versions(task.workspace, 1)
    configuration = task.configuration.blob
    events = Event.objects.filter(task=task).count()
    purge()
    assert blobs.read_all(configuration)
    assert Event.objects.filter(task=task).count() == events
    assert Task.objects.filter(pk=task.pk).exists()
    assert BlobChunk.objects.count() == 2  # the configuration and the current state


def test_the_command_counts_or_purges_and_says_so(capsys):
    planned(Status.APPLIED)
    with pytest.raises(SystemExit) as would:
        call_command("purge", "--dry-run", "--json")
    assert would.value.code == 3
    assert json.loads(capsys.readouterr().out)["plans"] == 1
    assert Plan.objects.exclude(bundle=None).count() == 1
    call_command("purge")
    assert "1  plans" in capsys.readouterr().out
    call_command("purge", "--dry-run")
    event = Event.objects.get(kind="retention.purged")
    assert (event.actor, event.data["plans"]) == ("system:purge", 1)


def test_the_job_runs_once_at_a_time():
    assert acquire("job: purge", "somebody else", 60)
    assert jobs.purge() == {}
    planned(Status.APPLIED)
    from tasks_app.single_flight import release

    release("job: purge", "somebody else")
    assert jobs.purge()["plans"] == 1


def test_a_state_that_is_read_while_it_is_purged_is_a_failure_not_another_state(keep):
    keep(retention_state_versions=1)
    workspace = make_workspace()
    versions(workspace, 1, 2)
    found = StateVersion.objects.select_related("blob").get(serial=1)
    purge()
    with pytest.raises(DecryptionFailed):
        state.read_state(found)
