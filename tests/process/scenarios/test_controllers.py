"""Controllers and local processes: one works, the others stand by; pods outlive them."""

from __future__ import annotations

from pods_app.models import ManagedPod
from tasks_app.models import SingleFlight
from tests.support.configurations import Counter, counting
from tests.support.factories import make_pool
from tests.support.platform import Platform
from tests.support.programs import wait_until


def _holder() -> str:
    row = SingleFlight.objects.filter(name="controller").first()
    return str(row.holder) if row else ""


def test_another_controller_takes_over_when_the_active_one_is_killed(platform: Platform) -> None:
    first = platform.start_controller()
    wait_until(_holder, "the first is active")
    holder = _holder()
    platform.start_controller()
    first.kill()
    wait_until(lambda: _holder() not in {"", holder}, "the second took over")


def test_local_pods_survive_their_controller_and_are_adopted(
    platform: Platform, counter: Counter
) -> None:
    make_pool(is_default=True, kind="local", min_pods=1)
    controller = platform.start_controller()
    online = ManagedPod.objects.filter(phase="online")
    wait_until(online.exists, "the controller started an agent")
    pod = online.get()
    site = platform.site(counting(counter))
    task = site.plan()
    controller.kill()
    platform.start_controller()
    wait_until(_holder, "a controller is active again")
    site.apply(task)
    assert counter.lines == ["counted"]
    assert list(online) == [pod], "the same pod, and no second one"
    assert online.get().process_id == pod.process_id


def test_without_a_controller_the_worker_alone_is_sufficient(
    platform: Platform, counter: Counter
) -> None:
    """A task waits for an agent that comes later; the scheduled job places it."""
    from config.schedules import sync_schedules

    sync_schedules()
    site = platform.site(counting(counter))
    task = site.start()
    assert task.status == "pending"
    platform.start_agent()
    task.refresh_from_db()
    platform.start_worker()
    site.wait(task, "apply_pending")
