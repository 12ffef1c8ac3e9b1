"""What a cluster says of a pod is told in words, and the pool goes on, with a real API server.

Each case of the table of `tests.unit.cluster.test_diagnosis` is written as the status of a real
pod, as kubelet, scheduler and controllers write it: it is one that the API takes, and it comes
back as it was meant.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command

from pods_app.models import ManagedPod
from pods_app.reconcile import reconcile_pods
from pods_app.states import PodPhase, PoolKind
from tasks_app.models.base import ClockTimestamp
from tests.support.factories import make_pool
from tests.support.freezes import now
from tests.unit.cluster.test_diagnosis import CASES

pytestmark = [pytest.mark.usefixtures("slipway"), pytest.mark.django_db]

#: Every pod of a pool has a limit, and a status from its creation on.
_ELSEWHERE = {"no status yet", "out of memory without a limit"}
TOLD = {name: case for name, case in CASES.items() if name not in _ELSEWHERE}


@pytest.fixture
def pod(space):
    """The pod of a pool, as the cluster has made it."""
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, min_pods=1)
    reconcile_pods(pool)
    (made,) = space.all_pods()
    return made


@pytest.mark.parametrize("case", TOLD.values(), ids=TOLD.keys())
def test_what_the_cluster_says_is_told(pod, space, case):
    thing, phase, words = case
    if node := thing["spec"].get("nodeName"):
        space.bind(pod, node)
    space.set_status(pod, **thing["status"])
    row = ManagedPod.objects.get()
    reconcile_pods(row.pool)
    row.refresh_from_db()
    assert words.partition("4Gi")[0] in row.phase_reason  # the limit is that of the template
    assert (row.phase_reason == "") == (words == "")
    (there,) = space.all_pods() or [None]
    if phase == "ended":
        assert (row.phase, there) == (PodPhase.GONE, None), "over, and cleared away"
    else:
        assert row.phase == PodPhase.STARTING and not row.draining
        assert there["metadata"]["uid"] == row.pod_uid, "given time, and not replaced"
    assert not ManagedPod.objects.exclude(pk=row.pk).exists(), "the next one after a pause"


def test_a_pool_tells_that_it_waits_after_failures_in_a_row(pod, space):
    pool = ManagedPod.objects.get().pool
    for _ in range(3):
        (pod,) = space.all_pods()
        space.set_status(pod, phase="Failed", reason="Evicted", message="disk pressure")
        # As if each had failed at once, and its pause had been over since.
        reconcile_pods(pool)
        ManagedPod.objects.update(last_launch_at=ClockTimestamp() - timedelta(hours=1))
        reconcile_pods(pool)
    (pod,) = space.all_pods()
    pool.refresh_from_db()
    assert pool.trouble == ""
    space.set_status(pod, phase="Failed", reason="Evicted", message="disk pressure")
    reconcile_pods(pool)
    began = now()
    ManagedPod.objects.update(last_launch_at=began)
    reconcile_pods(pool)
    pool.refresh_from_db()
    until = began + timedelta(seconds=16)
    assert pool.trouble == (
        f"The next pod waits 16 s, until {until:%H:%M:%S} UTC, because the last 4 ended soon after "
        "their start: Its node evicted it: disk pressure"
    )
    assert space.all_pods() == []
    call_command("reconcile_pods", dry_run=True)  # nothing is to be done
    ManagedPod.objects.update(last_launch_at=ClockTimestamp() - timedelta(hours=1))
    reconcile_pods(pool)
    pool.refresh_from_db()
    assert pool.trouble == ""
    assert len(space.all_pods()) == 1
