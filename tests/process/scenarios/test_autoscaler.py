"""The size of a pool follows its work, with real agents and real Terraform."""

from __future__ import annotations

from datetime import timedelta

from pods_app.autoscaler.demand import scalings
from pods_app.freeze.services import database_now
from pods_app.models import ManagedPod, PodSlot, ScalingDecision
from tasks_app.models import Event
from tests.support.configurations import Counter, counting
from tests.support.factories import make_pool
from tests.support.platform import Platform
from tests.support.programs import wait_until

DELAY = timedelta(seconds=3)


def test_a_pool_comes_from_zero_keeps_what_is_reserved_and_goes_back(
    platform: Platform, counter: Counter
) -> None:
    pool = make_pool(
        is_default=True,
        name="local",
        kind="local",
        min_pods=0,
        scale_down_delay_seconds=DELAY.seconds,
    )
    platform.start_controller()
    wait_until(ScalingDecision.objects.exists, "the controller looks after the pool")
    assert not ManagedPod.objects.exists()
    site = platform.site(counting(counter))
    task = site.plan()
    pod = ManagedPod.objects.get(phase="online")

    def reserved_for_long() -> bool:
        return bool(scalings([pool])[pool.pk].demand.kept_warm) and (
            (PodSlot.objects.get(task=task, pod=pod).updated_at + 2 * DELAY) < database_now()
        )

    wait_until(reserved_for_long, "its slot is reserved for longer than the delay")
    assert scalings([pool])[pool.pk].staying == {pod.pod_name: "Keeps 1 apply ready"}
    assert not Event.objects.filter(kind="pod.drained").exists()

    site.apply(task)
    wait_until(lambda: not ManagedPod.objects.exclude(phase="gone").exists(), "no pod is left")
    assert counter.lines == ["counted"]
    assert not platform.terraforms()
    wanted = list(ScalingDecision.objects.order_by("id").values_list("desired", flat=True))
    assert wanted == [0, 1, 0]
