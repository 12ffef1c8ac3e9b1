"""A deletion against a permit: the apply is seen and confirmed, or it never starts."""

import pytest

from pods_app import leases
from pods_app.deletion import delete_pod
from pods_app.models import ApplyPermit, ManagedPod
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.exceptions import InvalidInput
from tasks_app.models import Task
from tasks_app.services.tasks import confirm_task
from tasks_app.states import Status
from tests.support.factories import PLAN_HASH, ask_permit, make_admin, make_pod, make_pool
from tests.support.factories import make_waiting_task as waiting_task
from tests.support.racing import no_surprise, race, soon


@pytest.mark.django_db(transaction=True)
def test_no_apply_is_cut_off_unseen():
    admin = Actor.person(make_admin())
    pod = make_pod(make_pool())
    task = waiting_task()
    confirm_task(actor=admin, task_id=task.pk, plan_hash=PLAN_HASH)
    ManagedPod.objects.update(kind=PoolKind.LOCAL)
    for _ in range(100):
        results = race(
            [
                soon(lambda: delete_pod(actor=admin, pod_id=pod.pk, reason="disk")),
                lambda: ask_permit(leases.lease_of(task)),
            ]
        )
        no_surprise(results)
        granted = ApplyPermit.objects.exists()
        assert isinstance(results[0], InvalidInput) == granted, results
        ApplyPermit.objects.all().delete()
        Task.objects.update(status=Status.CONFIRMED)
        ManagedPod.objects.update(deletion_reason="", draining=False)
