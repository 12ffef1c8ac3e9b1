"""Room that people make is used at once: no pass of controller or worker runs here."""

import pytest

from pods_app import leases
from pods_app.pools import update_pool
from pods_app.services import drain_pod, undrain_pod
from tasks_app.states import Status
from tests.support.factories import (
    make_pod,
    make_pool,
    make_task,
    make_waiting_task,
    make_workspace,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_pod_that_takes_work_again_warms_what_waits(admin):
    pool = make_pool()
    pod = make_pod(pool)
    task = make_waiting_task()
    drain_pod(actor=admin, pod_id=pod.pk, reason="looked after")
    leases.end(leases.lease_of(task), actor=admin, reason="its agent died")
    assert leases.lease_of(task) is None
    undrain_pod(actor=admin, pod_id=pod.pk)
    assert leases.lease_of(task).phase == "warmup"


def test_a_pool_with_more_slots_starts_what_waits(admin):
    pool = make_pool(slots_per_pod=1)
    pod = make_pod(make_pool(slots_per_pod=3))
    type(pod).objects.filter(pk=pod.pk).update(pool=pool)
    make_task(make_workspace())
    waiting = make_task(make_workspace())
    assert waiting.status == Status.PENDING
    update_pool(actor=admin, pool=pool, slots_per_pod=3)
    waiting.refresh_from_db()
    assert waiting.status == Status.PLANNING
