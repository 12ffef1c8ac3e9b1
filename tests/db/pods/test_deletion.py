"""Deleting a pod: refused or confirmed under its lock, carried out by the reconciliation."""

import os
import signal
import subprocess
from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from pods_app import leases, reconcile
from pods_app.deletion import delete_pod
from pods_app.hosting.local import LocalHosting, start_time
from pods_app.models import ApplyPermit, ManagedPod
from pods_app.reconcile import reconcile_pods
from pods_app.services import drain_pod, lose_pod, undrain_pod
from pods_app.stakes import stakes_of
from pods_app.states import PodPhase, PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import Conflict, InvalidInput, NotPermitted, PermitRefused
from tasks_app.models import Event, Task
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    finish_planning,
    make_pod,
    make_pool,
    make_task,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def pod(settings, tmp_path, monkeypatch):
    """A local pod whose agent is a process that only sleeps, with three tasks to come."""
    settings.SLIPWAY = replace(settings.SLIPWAY, agents_directory=tmp_path / "agents")
    hosting = LocalHosting()
    monkeypatch.setitem(reconcile._HOSTINGS, PoolKind.LOCAL, hosting)
    made = make_pod(make_pool(kind=PoolKind.LOCAL, min_pods=0, max_pods=0))
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    hosting._children[process.pid] = process
    ManagedPod.objects.filter(pk=made.pk).update(
        kind=PoolKind.LOCAL,
        host=hosting.here(),
        process_id=process.pid,
        process_started=start_time(process.pid),
    )
    made.refresh_from_db()
    yield made
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def applying(admin):
    task = finish_planning(make_task())
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    ask_permit(leases.lease_of(task))
    return task


def test_what_runs_is_dealt_with_as_the_dialog_said(admin, pod, django_capture_on_commit_callbacks):
    planning, waiting = make_task(), finish_planning(make_task())
    cut = applying(admin)
    assert [(one.now, one.cut) for one in stakes_of(pod)] == [
        ("planning", False),
        ("kept directory", False),
        ("applying", True),
    ]
    for wrong in ("", "another"):
        with pytest.raises(InvalidInput, match="cut off an apply") as refused:
            delete_pod(actor=admin, pod_id=pod.pk, reason="disk", confirm=wrong)
        assert refused.value.field == "confirm"
    assert not Event.objects.filter(kind="pod.deleted").exists()
    delete_pod(actor=admin, pod_id=pod.pk, reason="disk", confirm=pod.pod_name)
    assert start_time(pod.process_id), "only the reconciliation ends it"
    assert "delete" in [c.action for c in reconcile_pods(pod.pool, dry_run=True)]
    assert start_time(pod.process_id)
    with django_capture_on_commit_callbacks(execute=True):
        assert "delete" in [c.action for c in reconcile_pods(pod.pool)]
    assert not start_time(pod.process_id)
    pod.refresh_from_db()
    assert pod.phase == PodPhase.GONE and "disk" in pod.phase_reason
    for task, status in (
        (planning, Status.PENDING),
        (waiting, Status.APPLY_PENDING),
        (cut, Status.APPLY_UNKNOWN),
    ):
        task.refresh_from_db()
        assert task.status == status
    event = Event.objects.get(kind="pod.deleted")
    assert event.actor == admin.name and event.cause == "disk"
    assert [row["was"] for row in event.data["hit"]] == ["planning", "kept directory", "applying"]


def test_no_permit_once_it_is_deleted(admin, pod):
    task = finish_planning(make_task())
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    delete_pod(actor=admin, pod_id=pod.pk, reason="disk")
    with pytest.raises(PermitRefused, match="being deleted"):
        ask_permit(leases.lease_of(task))
    assert not ApplyPermit.objects.exists()
    assert Task.objects.get(pk=task.pk).status == Status.CONFIRMED


def test_nothing_undoes_or_repeats_it(admin, pod):
    delete_pod(actor=admin, pod_id=pod.pk, reason="disk")
    for again in (
        lambda: delete_pod(actor=admin, pod_id=pod.pk, reason="disk"),
        lambda: drain_pod(actor=admin, pod_id=pod.pk, reason="disk"),
        lambda: undrain_pod(actor=admin, pod_id=pod.pk),
    ):
        with pytest.raises(Conflict):
            again()
    with pytest.raises(IntegrityError), transaction.atomic():
        ManagedPod.objects.filter(pk=pod.pk).update(draining=False)


def test_it_needs_its_right_and_a_reason(admin, pod):
    with pytest.raises(NotPermitted, match="delete_pod"):
        delete_pod(actor=Actor.person(make_user("approver")), pod_id=pod.pk, reason="disk")
    with pytest.raises(InvalidInput, match="Say why"):
        delete_pod(actor=admin, pod_id=pod.pk, reason="  ")


def test_a_static_pod_is_forgotten_once_it_is_lost(admin):
    pod = make_pod(make_pool())
    with pytest.raises(Conflict, match="started by hand"):
        delete_pod(actor=admin, pod_id=pod.pk, reason="old")
    lose_pod(pod.pk, actor=Actor.system("health"), cause="silent")
    assert delete_pod(actor=admin, pod_id=pod.pk, reason="old").phase == PodPhase.GONE
