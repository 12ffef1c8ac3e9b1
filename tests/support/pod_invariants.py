"""What holds of pods, slots, leases and warm-ups after each step of a random history."""

from __future__ import annotations

from hypothesis.stateful import invariant

from pods_app import leases, outcomes
from pods_app.models import WorkDirectory
from pods_app.states import RESERVING
from tasks_app.models import Event, Task
from tasks_app.states import FINAL, WAITING, WARMUP_ATTEMPTS, Status, TaskType

#: Why a lease ends though nobody asked for it.
UNASKED = {"silent", "its agent is lost", "the agent restarted and does not know its work"}


def consistent() -> None:
    """Check that slots agree with leases, and every task has a lease, a reason or a person."""
    assert leases.repair_slots() == 0
    running = Task.objects.filter(status__in=[Status.PLANNING, Status.APPLYING])
    for task in running:
        assert leases.lease_of(task), task.status
    assert not Task.objects.filter(
        status__in=[Status.PENDING, Status.APPLY_PENDING, Status.CONFIRMED, Status.APPLY_UNKNOWN],
        waiting_reason="",
    ).exists()


class Invariants:
    """For a state machine; its ``applied`` counts applies by task, ``workspaces`` are all."""

    @invariant()
    def at_most_one_apply_of_a_task(self):
        assert all(count == 1 for count in getattr(self, "applied", {}).values())

    @invariant()
    def slots_agree_with_leases(self):
        assert leases.repair_slots() == 0

    @invariant()
    def no_task_is_lost(self):
        for task in Task.objects.exclude(status__in=FINAL):
            lease = leases.lease_of(task)
            if task.status in WAITING:
                assert task.waiting_reason or lease, task.status
            else:
                assert lease, f"{task.status} without a lease"

    @invariant()
    def an_apply_has_its_permit(self):
        applying = Task.objects.filter(
            status__in=[Status.APPLYING, Status.APPLY_UNKNOWN, Status.APPLIED]
        )
        assert not applying.filter(permit=None).exists()

    @invariant()
    def one_plan_and_apply_per_workspace(self):
        occupying = [s for s in Status if s not in FINAL and s != Status.PENDING]
        for workspace in getattr(self, "workspaces", []):
            assert (
                Task.objects.filter(
                    workspace=workspace, type=TaskType.PLAN_AND_APPLY, status__in=occupying
                ).count()
                <= 1
            )

    @invariant()
    def nothing_in_use_is_being_deleted(self):
        for row in WorkDirectory.objects.filter(state="deleting"):
            lease = leases.lease_of(row.task)
            # Ending: the reservation that cleanup released. Otherwise one claimed afterwards.
            assert not (lease and lease.phase in RESERVING and lease.state == "live")

    @invariant()
    def what_lies_ready_follows_its_lease(self):
        for task in Task.objects.filter(status=Status.APPLY_PENDING):
            lease = leases.lease_of(task)
            live = lease is not None and lease.state == "live"
            phase = {"warming": "warmup", "ready": "hold"}.get(task.warmup_status)
            assert (lease.phase if live else None) == phase, task.warmup_status
            assert task.warmup_agent_id == (lease.slot.pod.agent_id if live else None) or not phase
            assert (task.warmup_expires_at is not None) == (phase == "hold")
            if live:
                assert lease.slot.status == "reserved"
        for task in Task.objects.filter(status__in=FINAL):
            assert (task.warmup_status, task.warmup_agent_id) == ("none", None)

    @invariant()
    def warm_ups_that_fail_are_bounded(self):
        """Between two successes, or two wishes of a person, there are three attempts at most."""
        for task in Task.objects.exclude(warmup_retry_count=0):
            assert task.warmup_retry_count <= WARMUP_ATTEMPTS
        for task in Task.objects.filter(status=Status.APPLY_PENDING):
            attempts, before = 0, ""
            for event in Event.objects.filter(task=task, kind__startswith="warmup.").order_by("id"):
                if event.kind == "warmup.ready" or event.user_id:
                    attempts = 0
                elif event.kind == "warmup.warming":
                    attempts += 1
                elif before == "warmup.warming" and event.kind == "warmup.reset":
                    attempts -= event.cause not in UNASKED  # asked to end: no failure of it
                assert attempts <= WARMUP_ATTEMPTS
                before = event.kind

    @invariant()
    def plans_and_placements_are_bounded(self):
        assert not Task.objects.filter(plan_attempts__gt=outcomes.PLAN_ATTEMPTS).exists()
        for task in Task.objects.filter(status=Status.CONFIRMED):
            placements = task.leases.filter(phase="apply").count()
            assert placements <= outcomes.APPLY_PLACEMENTS
