"""An agent stands still while it holds an apply; its hold expires before it is declared lost."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from agents_app.models import Listening
from pods_app.leases import unended
from pods_app.models import Lease, ManagedPod
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tests.support.configurations import Counter, counting
from tests.support.platform import Platform
from tests.support.programs import wait_until
from tests.support.warmups import events_of


def _long_silence(pod_uid: str) -> None:
    """Let its silence be long enough for a loss, in the eyes of all who listened."""
    long_ago = ClockTimestamp() - timedelta(hours=1)
    ManagedPod.objects.filter(pod_uid=pod_uid).update(last_heartbeat=long_ago)
    Listening.objects.update(since=long_ago)


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_hold_that_expires_on_a_silent_agent_is_taken_over_once_that_is_lost(
    platform: Platform, counter: Counter, confirmed: bool
) -> None:
    silent = platform.start_agent("silent")
    site = platform.site(counting(counter))
    task = site.plan()
    (former,) = platform.terraforms()
    lease = unended().get(task=task)
    platform.give_another_disk_to_new_agents()
    platform.start_agent("another")
    silent.program.stop()
    platform.start_controller()

    def expired() -> bool:
        """Its time is over, whenever it was renewed last."""
        ready = Task.objects.filter(pk=task.pk, warmup_status="ready")
        return not ready.update(warmup_expires_at=ClockTimestamp())

    wait_until(expired, "nobody renews it")
    shown = platform.request("GET", f"tasks/{task.pk}/").json()
    assert (shown["status"], shown["warmup_status"]) == ("apply_pending", "expired")
    assert shown["forecast"]["path"] != "held"
    assert shown["forecast"]["waits"] == "Waits for its former agent to let go"
    if confirmed:
        site.confirmed(task)
        task.refresh_from_db()
        assert task.waiting_reason == "Waits for its former agent to let go"
    lease.refresh_from_db()
    assert (lease.phase, lease.state) == ("hold", "ending")
    assert Lease.objects.filter(task=task).count() == 1 and former.is_running()

    _long_silence(silent.pod_uid)
    if not confirmed:
        held = unended().filter(task=task, held=True, slot__pod__pod_name="another")
        wait_until(held.exists, "another agent holds it")
        assert events_of(task) == ["ready", "expired", "warming", "ready"]
        site.confirmed(task)
    site.wait(task, "applied")
    assert task.apply_path == ("normal" if confirmed else "held"), task.apply_path_reason
    silent.program.signal(signal.SIGCONT)
    wait_until(lambda: not former.is_running(), "the former Terraform is let go")
    wait_until(silent.has_no_leases, "its agent knows that it is over")
    assert counter.lines == ["counted"] and platform.proxy.count("LOCK") == 1
