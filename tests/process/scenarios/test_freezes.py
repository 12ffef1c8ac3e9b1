"""Freezes with real agents and real Terraform: what runs is ended, what waits comes back."""

from __future__ import annotations

from datetime import timedelta

from pods_app.freeze.by_hand import unfreeze
from pods_app.freeze.edges import follow_schedules
from pods_app.freeze.status import unconfirmed
from pods_app.models import FreezeWindow, Lease, ManagedPod, Pool
from tasks_app.models import Task
from tasks_app.services.tasks import acknowledge_task
from tests.support.configurations import Counter, Gate, counting
from tests.support.factories import make_pool
from tests.support.freezes import window_row
from tests.support.platform import Platform
from tests.support.programs import processes_below, wait_until


def _alive(platform: Platform) -> bool:
    return bool(platform.terraforms() or processes_below(platform.work))


def _held(task: Task) -> bool:
    return Lease.objects.filter(task=task, state="live", phase="hold", held=True).exists()


def test_a_freeze_ends_local_pods_with_all_they_run_and_brings_them_back(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    """Frozen in a plan that waits held, a running plan's queue, and an apply; then warm again."""
    make_pool(is_default=True, name="local", kind="local", min_pods=1)
    platform.start_controller()
    held, cut = platform.site(counting(counter)), platform.site(counting(counter, gate))
    waits = held.plan()
    wait_until(lambda: _held(waits), "the plan's apply is held")
    runs = cut.confirmed(cut.plan())
    counter.wait()

    pod = ManagedPod.objects.get(phase="online")
    row = window_row()
    cut.wait(runs, "interrupted")
    wait_until(lambda: not ManagedPod.objects.exclude(phase="gone").exists(), "no pod is left")
    assert not _alive(platform), "neither Terraform nor what it started outlives the pod"
    assert pod.pod_uid in runs.error and cut.locked, "the lock stays as evidence"
    waits.refresh_from_db()
    assert (waits.status, waits.warmup_status) == ("apply_pending", "none")
    later = held.start(type="plan")
    assert later.waiting_reason.startswith("Pool local is frozen until ")

    FreezeWindow.objects.filter(pk=row.pk).delete()
    wait_until(lambda: _held(waits), "the same apply is held again, by another pod")
    held.apply(waits)
    assert counter.lines == ["counted", "counted"], "each was applied once"
    blocked = cut.start()
    assert "acknowledges" in blocked.waiting_reason
    acknowledge_task(actor=cut.actor, task_id=runs.pk)
    assert not cut.locked
    gate.open()
    cut.apply(cut.wait(blocked, "apply_pending"))


def test_an_agent_started_by_hand_kills_what_the_freeze_cut(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    """Nobody can delete its pod: it is told, and until it has reported nothing is confirmed."""
    agent = platform.start_agent()
    platform.start_controller()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    window_row()
    site.wait(task, "interrupted")
    pool = Pool.objects.get()
    wait_until(lambda: unconfirmed(pool) == 0, "the agent reports that it has stopped")
    assert not _alive(platform)
    assert agent.program.alive and ManagedPod.objects.get().phase == "online"
    assert counter.lines == ["counted"] and site.resources == []


def test_shortly_before_a_freeze_terraform_may_save_its_state(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    """The grace: Terraform is interrupted once, finishes what it is at, and stores its state."""
    platform.start_agent()
    platform.start_controller()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    window_row(
        begins=timedelta(minutes=5),
        ends=timedelta(hours=1),
        lead_minutes=15,
        grace_seconds=600,
    )
    wait_until(Lease.objects.exclude(frozen_at=None).exists, "Terraform is interrupted")
    gate.open()
    site.wait(task, "interrupted", "applied")
    assert site.resources == ["terraform_data.counted"], "what was made is in the state"
    assert not site.locked
    if task.status == "interrupted":
        assert "stopped cleanly" in task.error


def test_no_process_is_needed_for_nothing_to_start(platform: Platform, counter: Counter) -> None:
    """No controller and no worker: both edges of the window pass unseen."""
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    row = window_row()
    site.confirmed(task)
    task.refresh_from_db()
    assert task.status == "confirmed" and "is frozen until" in task.waiting_reason
    other = platform.site(counting(counter)).start()
    assert other.status == "pending" and "is frozen until" in other.waiting_reason
    FreezeWindow.objects.filter(pk=row.pk).delete()
    platform.start_controller()
    site.wait(task, "applied")
    assert counter.lines == ["counted"]


def test_freezing_by_hand_and_ending_it(platform: Platform, counter: Counter) -> None:
    """By the commands, as an operator in a hurry does it; no controller runs."""
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    pool = Pool.objects.get()
    frozen = platform.manage("freeze", pool.name, "--reason", "an incident", "--json")
    assert '"state": "frozen"' in frozen.log_end()
    pool.refresh_from_db()
    assert pool.frozen
    site.confirmed(task)
    unfreeze(actor=site.actor, pool=pool, reason="over")
    assert follow_schedules() == 1
    platform.start_controller()
    site.wait(task, "applied")
