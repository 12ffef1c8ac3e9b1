"""Deleting a pod over the REST API."""

import pytest

from pods_app import leases
from pods_app.models import ManagedPod
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.models import Event
from tasks_app.services.tasks import confirm_task
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    make_admin,
    make_pod,
    make_pool,
    make_waiting_task,
)
from tests.support.rest import problem

pytestmark = pytest.mark.django_db


@pytest.fixture
def pod(db):
    made = make_pod(make_pool(name="main"))
    ManagedPod.objects.update(kind=PoolKind.LOCAL)
    return made


def test_an_idle_pod(admin, pod):
    path = f"pods/{pod.pk}/delete/"
    assert problem(admin.post(path, {}), 400)
    answer = admin.post(path, {"reason": "disk"})
    assert answer.status_code == 202
    document = answer.json()
    assert document["draining"] and document["deletion_reason"].endswith(": disk")
    assert problem(admin.post(path, {"reason": "disk"}), 409)["type"] == "urn:slipway:conflict"
    problem(admin.post(f"pods/{pod.pk}/undrain/", {}), 409)
    assert Event.objects.filter(kind="pod.deleted").count() == 1


def test_a_started_apply_needs_the_name(admin, pod):
    task = make_waiting_task()
    confirm_task(actor=Actor.person(make_admin()), task_id=task.pk, plan_hash=PLAN_HASH)
    ask_permit(leases.lease_of(task))
    path = f"pods/{pod.pk}/delete/"
    refused = problem(admin.post(path, {"reason": "disk"}), 400)
    assert "cut off an apply" in str(refused)
    pod.refresh_from_db()
    assert not pod.deletion_reason
    answer = admin.post(path, {"reason": "disk", "confirm": pod.pod_name})
    assert answer.status_code == 202


def test_who_only_sees_may_not(viewer, pod):
    problem(viewer.post(f"pods/{pod.pk}/delete/", {"reason": "disk"}), 403)


def test_a_static_pod_that_is_heard_stays(admin, pod):
    ManagedPod.objects.update(kind=PoolKind.STATIC)
    answer = problem(admin.post(f"pods/{pod.pk}/delete/", {"reason": "disk"}), 409)
    assert "started by hand" in answer["detail"]
