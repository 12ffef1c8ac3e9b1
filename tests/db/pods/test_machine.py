"""A model of everybody at once: random histories over the real services, judged after each step.

Agents, people, cleanup and dispatch act in any order, agents vanish and come back with whatever
they had. The invariants are those of the design's fault matrix.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from pods_app import leases, outcomes, queue
from pods_app.incarnation import begin_incarnation
from pods_app.models import ApplyPermit, Lease, ManagedPod, PodSlot
from pods_app.registration import register_pod, report_leases
from pods_app.services import drain_if_free, lose_pod, undrain_pod
from pods_app.warmups import expire_pass, warm_pass
from pods_app.wishes import wishes
from pods_app.work_directories import Reported, cleanup, report_directories
from tasks_app import blobs
from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError, StaleLease
from tasks_app.models import Blob, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services.tasks import (
    acknowledge_task,
    cancel_task,
    confirm_task,
    create_task,
    discard_task,
    resolve_task,
)
from tasks_app.services.warmups import warm_again
from tasks_app.states import FINAL, Status, TaskType
from tests.support.factories import (
    PLAN_HASH,
    ask_permit,
    hear_from,
    make_admin,
    make_pod,
    make_pool,
    make_workspace,
    plan_facts,
)
from tests.support.freezes import set_frozen
from tests.support.pod_invariants import Invariants
from tests.support.warmups import later, let_go, report

SYSTEM = Actor.system("test")
PICK = st.integers(0, 7)
WARM = st.sampled_from(["held", "restored", "no", "never"])


class Machine(Invariants, RuleBasedStateMachine):
    """Two pods of two slots, two workspaces; each history in a savepoint of its own."""

    def __init__(self):
        super().__init__()
        self._savepoint = transaction.atomic()
        self._savepoint.__enter__()

    def teardown(self):
        transaction.set_rollback(True)
        self._savepoint.__exit__(None, None, None)

    @initialize()
    def begin(self):
        self.admin = Actor.person(make_admin())
        self.pool = make_pool(slots_per_pod=2)
        self.bundle = blobs.store([b"a bundle"], Blob.Retention.PLAN)
        self.pods = [make_pod(self.pool) for _ in range(2)]
        self.workspaces = [make_workspace() for _ in range(2)]
        #: What each agent has: lease id -> (epoch, whether its apply went ahead).
        self.has: list[dict[uuid.UUID, int]] = [{}, {}]
        self.applied: dict[uuid.UUID, int] = {}  # per task: how often an apply went ahead

    # --- people -----------------------------------------------------------------------------

    @rule(pick=PICK, type=st.sampled_from([TaskType.PLAN, *[TaskType.PLAN_AND_APPLY] * 3]))
    def create(self, pick, type):
        if Task.objects.exclude(status__in=FINAL).count() < 6:
            create_task(actor=self.admin, workspace=self.workspaces[pick % 2], type=type)

    def _task(self, pick, *statuses):
        tasks = list(Task.objects.filter(status__in=statuses).order_by("id"))
        return tasks[pick % len(tasks)] if tasks else None

    def _try(self, call, **arguments):
        try:
            return call(**arguments)
        except SlipwayError as refusal:
            return refusal

    @rule(pick=PICK)
    def confirm(self, pick):
        if task := self._task(pick, Status.APPLY_PENDING):
            self._try(confirm_task, actor=self.admin, task_id=task.pk, plan_hash=PLAN_HASH)

    @rule(pick=PICK)
    def ask_for_warmth(self, pick):
        if task := self._task(pick, Status.APPLY_PENDING):
            self._try(warm_again, actor=self.admin, task_id=task.pk)

    @rule(pick=PICK)
    def discard(self, pick):
        if task := self._task(pick, Status.APPLY_PENDING):
            self._try(discard_task, actor=self.admin, task_id=task.pk)

    @rule(pick=PICK)
    def cancel(self, pick):
        if task := self._task(pick, *(set(Status) - FINAL)):
            self._try(cancel_task, actor=self.admin, task_id=task.pk)

    @rule(pick=PICK, verdict=st.sampled_from([Status.APPLIED, Status.FAILED]))
    def judge(self, pick, verdict):
        if task := self._task(pick, Status.APPLY_UNKNOWN):
            self._try(
                resolve_task, actor=self.admin, task_id=task.pk, verdict=verdict, comment="looked"
            )

    @rule(pick=PICK)
    def acknowledge(self, pick):
        if task := self._task(pick, Status.INTERRUPTED):
            self._try(acknowledge_task, actor=self.admin, task_id=task.pk)

    @rule(frozen=st.booleans())
    def freeze(self, frozen):
        set_frozen(self.pool, frozen)

    @rule(
        pick=PICK,
        steps=st.integers(1, 3),
        before_permit=st.sampled_from(["", "freeze", "vanish", "clean", "cool", "cool"]),
        outcome=WARM,
    )
    def go_on(self, pick, steps, before_permit, outcome):
        """What usually happens next, so that histories come far; all else disturbs it."""
        for agent in (0, 1):
            self.undrain(agent)
            self.beat(agent, forgets=False)
        self.freeze(False)
        for _ in range(steps):
            self.create(pick, TaskType.PLAN_AND_APPLY)
            for agent in (0, 1):
                self.work(agent)
                self.plan(agent, "planned")
            if before_permit == "clean":
                self.clean()
            elif before_permit == "cool":
                self.cool(pick)
                for agent in (0, 1):
                    self.work(agent)
                    self.warm(agent, pick, outcome)
                return
            self.confirm(pick)
            self.tick()
            for agent in (0, 1):
                self.work(agent)
            if before_permit == "freeze":
                self.freeze(True)
            elif before_permit == "vanish":
                self.vanish(pick)
            for agent in (0, 1):
                self.permit(agent, pick)

    # --- the platform -----------------------------------------------------------------------

    @rule()
    def tick(self):
        outcomes.return_lost_work(actor=SYSTEM)
        expire_pass()
        queue.dispatch_pass()
        warm_pass()

    @rule(seconds=st.sampled_from([15, 100, 1000, 2000]))
    def time_passes(self, seconds):
        later(seconds)

    @rule()
    def clean(self):
        Task.objects.update(keep_warm_until=ClockTimestamp() - timedelta(seconds=1))
        cleanup()

    @rule(pick=PICK)
    def drain(self, pick):
        pod = self.pods[pick % 2]
        if drain_if_free(pod.pk, actor=SYSTEM, reason="test"):
            assert not PodSlot.objects.filter(pod=pod).exclude(status="idle").exists()

    @rule(pick=PICK)
    def undrain(self, pick):
        undrain_pod(actor=self.admin, pod_id=self.pods[pick % 2].pk)

    @rule()
    def expire_permits(self):
        ApplyPermit.objects.update(expires_at=ClockTimestamp() - timedelta(seconds=1))

    @rule()
    def restore(self):
        begin_incarnation(actor=self.admin)

    # --- agents -----------------------------------------------------------------------------

    @rule(pick=PICK)
    def work(self, pick):
        """The agent takes up what it is given, and lets go of what it is told to."""
        pod, has = self.pods[pick % 2], self.has[pick % 2]
        for wish in wishes(pod):
            if wish.directive == "end":
                if not self._is_applying(wish.lease):
                    self._try(
                        outcomes.end_reported,
                        lease_id=wish.lease.pk,
                        epoch=wish.lease.epoch,
                        pod=pod,
                    )
                    has.pop(wish.lease.pk, None)
            else:
                has[wish.lease.pk] = wish.lease.epoch

    def _is_applying(self, lease):
        return self.applied.get(lease.task_id) and lease.phase == "apply"

    @rule(pick=PICK, outcome=st.sampled_from(["planned", "no_changes", "failed", "interrupted"]))
    def plan(self, pick, outcome):
        self._report(pick, "plan", outcome, outcomes.finish_plan, plan_facts(bundle=self.bundle))

    @rule(agent=PICK, pick=PICK)
    def permit(self, agent, pick):
        """The agent asks for its permit; if it gets one, its apply goes ahead."""
        _, lease = self._lease(agent, "apply", pick)
        if lease is None:
            return
        granted_before = ApplyPermit.objects.filter(task=lease.task_id).exists()
        answer = self._try(ask_permit, lease=lease)
        if isinstance(answer, float):
            assert not granted_before, "granted twice"
            self.pool.refresh_from_db()
            assert not self.pool.frozen, "a frozen pool granted a permit"
            self.applied[lease.task_id] = self.applied.get(lease.task_id, 0) + 1

    @rule(pick=PICK)
    def cool(self, pick):
        """A plan's slot is given back as asked for; it is warmed anew."""
        task = self._task(pick, Status.APPLY_PENDING)
        if task and leases.lease_of(task):
            let_go(task)
        self.tick()

    @rule(agent=PICK, pick=PICK, outcome=WARM)
    def warm(self, agent, pick, outcome):
        """The agent says what it has ready; also when nobody asks for it any more."""
        has = self.has[agent % 2]
        mine = list(Lease.objects.filter(pk__in=has).exclude(phase="plan").order_by("id"))
        if mine:
            lease = mine[pick % len(mine)]
            answer = self._try(
                report,
                lease=lease,
                ready=outcome in {"held", "restored"},
                held=outcome == "held",
                restored=outcome == "restored",
                permanent=outcome == "never",
            )
            if lease.state == "ended":
                assert isinstance(answer, StaleLease)

    @rule(
        pick=PICK,
        outcome=st.sampled_from(["applied", "failed", "interrupted", "not_started", "cancelled"]),
    )
    def apply_ends(self, pick, outcome):
        self._report(pick, "apply", outcome, outcomes.finish_apply, None)

    def _lease(self, agent, phase, pick=0):
        pod, has = self.pods[agent % 2], self.has[agent % 2]
        mine = list(Lease.objects.filter(pk__in=has, phase=phase).order_by("id"))
        return pod, (mine[pick % len(mine)] if mine else None)

    def _report(self, pick, phase, outcome, finish, plan):
        pod, lease = self._lease(pick, phase)
        if lease is None:
            return
        before = Task.objects.get(pk=lease.task_id).status
        answer = self._try(
            finish,
            lease_id=lease.pk,
            epoch=lease.epoch,
            pod=pod,
            report=outcomes.Report(outcome, plan=plan),
        )
        if lease.state == "ended":
            assert Task.objects.get(pk=lease.task_id).status == before, "a stale write had effect"
        if answer == "end" or isinstance(answer, SlipwayError):
            self.has[pick % 2].pop(lease.pk, None)

    @rule(pick=PICK, forgets=st.booleans())
    def beat(self, pick, forgets):
        pod, has = self.pods[pick % 2], self.has[pick % 2]
        pod.refresh_from_db()
        hear_from(pod)
        if forgets:
            has.clear()
            Lease.objects.update(
                reported_at=ClockTimestamp() - timedelta(minutes=5),
                phase_at=ClockTimestamp() - timedelta(minutes=5),
            )
        report_leases(pod, has)
        tasks = Task.objects.filter(leases__slot__pod=pod).distinct()
        asked = report_directories(
            pod, "/base", [Reported(t.workspace_id, t.pk, 1, 0.0, False) for t in tasks], []
        )
        assert not leases.unended().filter(task__in=asked).exists(), "asked to delete what is used"

    @rule(pick=PICK)
    def fall_silent(self, pick):
        """Its heartbeats are lost, but not what it asks for: what it has ready is not renewed."""
        ManagedPod.objects.filter(pk=self.pods[pick % 2].pk).update(last_heartbeat=None)

    @rule(pick=PICK)
    def vanish(self, pick):
        lose_pod(self.pods[pick % 2].pk, actor=SYSTEM, cause="silent")

    @rule(pick=PICK)
    def come_back(self, pick):
        pod = self.pods[pick % 2]
        register_pod(
            pool=self.pool,
            pod_name=pod.pod_name,
            pod_uid=pod.pod_uid,
            engines=pod.engines,
            slots=2,
            agent_id=uuid.uuid4(),
        )


@pytest.mark.django_db
def test_random_histories_keep_the_invariants():
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=15,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
