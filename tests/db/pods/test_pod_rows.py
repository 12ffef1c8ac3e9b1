"""What the database itself refuses of pools, pods and slots."""

import pytest
from django.db import IntegrityError, transaction

from pods_app.models import ManagedPod, PodSlot, Pool
from tests.support.factories import make_pod, make_task

pytestmark = pytest.mark.django_db
RUNNING = {"status": "running", "task_type": "plan"}


@pytest.mark.parametrize(
    ("model", "fields", "constraint"),
    [
        (Pool, {"slots_per_pod": 0}, "pool_has_slots"),
        (Pool, {"min_pods": 3, "max_pods": 2}, "pool_min_pods_up_to_max_pods"),
        (ManagedPod, {"kind": "cloud"}, "pod_kind_known"),
        (ManagedPod, {"phase": "idle"}, "pod_phase_known"),
        (ManagedPod, {"slot_limit": 0}, "pod_has_slots"),
        (ManagedPod, {"deletion_reason": "disk"}, "pod_deleted_drains"),
        (PodSlot, {"slot_id": 1}, "slot_unique_in_pod"),
        (PodSlot, RUNNING, "slot_occupied_by_a_task_or_idle"),
        (PodSlot, {"task_type": "plan"}, "slot_occupied_by_a_task_or_idle"),
    ],
)
def test_impossible_rows_are_refused(pool, model, fields, constraint):
    make_pod(pool)
    with pytest.raises(IntegrityError, match=f'"{constraint}"'), transaction.atomic():
        model.objects.update(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "idle"},
        {"status": "idle", "task_type": ""},
        {"status": "idle", "task": None},
        {"task": None},
        {"task_type": ""},
        {"status": "leased"},
    ],
)
def test_an_occupied_slot_has_its_task_and_type(pool, fields):
    make_pod(pool)
    occupied = PodSlot.objects.filter(task=make_task())
    with pytest.raises(IntegrityError, match="slot_occupied_by"), transaction.atomic():
        occupied.update(**fields)


def test_a_task_is_in_one_slot(pool):
    make_pod(pool)
    task = make_task()
    idle = PodSlot.objects.filter(status="idle")
    with pytest.raises(IntegrityError, match="one_slot_per_task"), transaction.atomic():
        idle.update(task=task, **RUNNING)
