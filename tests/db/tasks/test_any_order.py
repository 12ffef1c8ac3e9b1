"""People, agents and Terraform act in any order, over the real services and the real backend.

No notification is delivered: what waits is placed by dispatch passes alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from pods_app import outcomes
from pods_app.models import ApplyPermit, Lease
from pods_app.queue import dispatch_pass
from pods_app.state_access import run_token
from pods_app.states import LeasePhase, LeaseState
from tasks_app.actors import Actor
from tasks_app.exceptions import SlipwayError
from tasks_app.models import StateVersion, Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.services import state, tasks
from tasks_app.services.state_position import state_position
from tasks_app.services.state_recovery import store_recovered_state
from tasks_app.services.void_plans import void_moved_plans
from tasks_app.states import Status, TaskType
from tests.support.factories import (
    DIGEST,
    MANIFEST,
    PLAN_HASH,
    ask_permit,
    make_admin,
    make_pod,
    make_pool,
    make_workspace,
    plan_facts,
)
from tests.support.invariants import check_all
from tests.support.state import StateClient, document, token_of

pytestmark = pytest.mark.django_db

pick = st.integers(0, 5)
AGENT = Actor.agent("test")


class Platform(RuleBasedStateMachine):
    """Two workspaces, one pod of three slots. What is refused is refused by name."""

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.admin = Actor.person(make_admin())
        assert self.admin.user is not None
        self.token = token_of(self.admin.user)
        make_pod(make_pool())
        self.workspaces = [make_workspace(), make_workspace()]
        self.locks: dict[Any, int] = {}
        self.tokens: list[StateClient] = []

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    # --- choosing ------------------------------------------------------------------------------

    def task(self, number: int, *statuses: str) -> Task | None:
        rows = Task.objects.order_by("-id")
        found = list(rows.filter(status__in=statuses) if statuses else rows)
        return found[number % len(found)] if found else None

    def lease(self, number: int, **fields: Any) -> Lease | None:
        rows = Lease.objects.select_related("task__workspace", "slot__pod").order_by("-id")
        found = list(rows.filter(**fields))
        return found[number % len(found)] if found else None

    def attempt(self, function: Any, **arguments: Any) -> Any:
        try:
            with transaction.atomic():
                return function(**arguments)
        except SlipwayError:
            return None

    @initialize(steps=st.integers(0, 8))
    def begin(self, steps: int) -> None:
        for step in range(steps):
            self.carry_on(step)

    @rule(n=pick, steps=st.integers(1, 5))
    def go_far(self, n: int, steps: int) -> None:
        for _ in range(steps):
            self.carry_on(n)

    def carry_on(self, n: int) -> None:
        """The next step that a task should take, so that examples come far."""
        task = self.task(n, Status.PLANNING, Status.APPLY_PENDING, Status.CONFIRMED)
        if task is None:
            self.create(n, TaskType.PLAN_AND_APPLY)
        elif task.status == Status.PLANNING:
            self.finish_plan(0, "planned", False)
        elif task.status == Status.APPLY_PENDING:
            self.confirm(0, True)
        else:
            self.permit(0, True)
            self.terraform(0, False, "lock")

    # --- people --------------------------------------------------------------------------------

    @rule(n=pick, kind=st.sampled_from([*TaskType, *[TaskType.PLAN_AND_APPLY] * 3]))
    def create(self, n: int, kind: TaskType) -> None:
        auto = kind == TaskType.PLAN_AND_APPLY and n == 5
        workspace = self.workspaces[n % 2]
        self.attempt(
            tasks.create_task, actor=self.admin, workspace=workspace, type=kind, auto_apply=auto
        )

    @rule(n=pick, known=st.sampled_from([True, True, True, False]))
    def confirm(self, n: int, known: bool) -> None:
        task = self.task(n, Status.APPLY_PENDING, Status.CONFIRMED, Status.APPLYING)
        if task is not None:
            plan_hash = PLAN_HASH if known else "c" * 64
            self.attempt(tasks.confirm_task, actor=self.admin, task_id=task.pk, plan_hash=plan_hash)

    @rule(n=pick, what=st.sampled_from([tasks.discard_task, tasks.acknowledge_task]))
    def discard_or_acknowledge(self, n: int, what: Any) -> None:
        statuses = (
            [Status.INTERRUPTED] if what is tasks.acknowledge_task else [Status.APPLY_PENDING]
        )
        task = self.task(n, *statuses) or self.task(n)
        if task is not None:
            self.attempt(what, actor=self.admin, task_id=task.pk)

    @rule(n=pick, force=st.booleans())
    def cancel(self, n: int, force: bool) -> None:
        task = self.task(n)
        if task is not None:
            self.attempt(tasks.cancel_task, actor=self.admin, task_id=task.pk, force=force)

    @rule(n=pick, verdict=st.sampled_from(tasks.VERDICTS))
    def resolve(self, n: int, verdict: Status) -> None:
        task = self.task(n, Status.APPLY_UNKNOWN) or self.task(n)
        if task is not None:
            self.attempt(
                tasks.resolve_task,
                actor=self.admin,
                task_id=task.pk,
                verdict=verdict,
                comment="looked",
            )

    @rule()
    def void_moved_plans(self) -> None:
        """What happens once a version is committed; here nothing ever is."""
        void_moved_plans()

    @rule(n=pick, step=st.integers(-1, 3))
    def upload(self, n: int, step: int) -> None:
        workspace = self.workspaces[n % 2]
        serial = (state_position(workspace)[1] or 0) + step
        self.attempt(
            state.upload_state,
            actor=self.admin,
            workspace=workspace,
            content=document(max(serial, 0), who="person"),
        )
        void_moved_plans()  # what follows the commit, which this transaction never has

    @rule(n=pick)
    def force_unlock(self, n: int) -> None:
        self.attempt(state.force_unlock_state, actor=self.admin, workspace=self.workspaces[n % 2])

    # --- the platform --------------------------------------------------------------------------

    @rule()
    def dispatch(self) -> None:
        dispatch_pass()

    @rule(n=pick)
    def lose(self, n: int) -> None:
        lease = self.lease(n, state=LeaseState.LIVE)
        if lease is not None:
            outcomes.lose_lease(lease.pk, actor=Actor.system("test"), cause="the agent is gone")

    @rule()
    def permits_expire(self) -> None:
        ApplyPermit.objects.update(expires_at=ClockTimestamp())

    # --- agents --------------------------------------------------------------------------------

    @rule(
        n=pick,
        outcome=st.sampled_from(["planned"] * 4 + ["no_changes", "failed", "interrupted"]),
        stale=st.sampled_from([False, False, True]),
    )
    def finish_plan(self, n: int, outcome: str, stale: bool) -> None:
        lease = self.lease(n, phase=LeasePhase.PLAN)
        if lease is None:
            return
        lineage, serial = state_position(lease.task.workspace)
        if stale and serial is not None:
            serial -= 1
        changed = outcome == "planned"
        facts = plan_facts(state_lineage=lineage, state_serial=serial, to_add=int(changed))
        report = outcomes.Report(
            outcome, plan=facts if outcome in {"planned", "no_changes"} else None
        )
        self.attempt(
            outcomes.finish_plan,
            lease_id=lease.pk,
            epoch=lease.epoch,
            pod=lease.slot.pod,
            report=report,
        )

    @rule(n=pick, right=st.sampled_from([True, True, True, False]))
    def permit(self, n: int, right: bool) -> None:
        lease = self.lease(n, phase=LeasePhase.APPLY)
        if lease is not None:
            self.tokens.append(
                StateClient(
                    lease.task.workspace_id, run_token(lease, DIGEST), f"run-{len(self.tokens)}"
                )
            )
            self.attempt(ask_permit, lease=lease, manifest_digest=MANIFEST if right else "d" * 64)

    @rule(
        n=pick,
        outcome=st.sampled_from(["applied", "failed", "cancelled", "interrupted", "not_started"]),
        recovered=st.booleans(),
    )
    def finish_apply(self, n: int, outcome: str, recovered: bool) -> None:
        lease = self.lease(n, phase=LeasePhase.APPLY)
        if lease is None:
            return
        repeated = lease.state == LeaseState.ENDED
        ended = self.attempt(
            outcomes.finish_apply,
            lease_id=lease.pk,
            epoch=lease.epoch,
            pod=lease.slot.pod,
            report=outcomes.Report(outcome, state_recovered=recovered),
        )
        if ended and recovered and not repeated:
            serial = (state_position(lease.task.workspace)[1] or 0) + 1
            store_recovered_state(task=lease.task, content=document(serial), actor=AGENT)

    @rule(n=pick)
    def resume(self, n: int) -> None:
        lease = self.lease(n, phase=LeasePhase.APPLY, state=LeaseState.LIVE)
        if lease is not None:
            self.attempt(outcomes.resumed, lease=lease, actor=AGENT)

    @rule(n=pick, asked=st.booleans())
    def let_go(self, n: int, asked: bool) -> None:
        lease = self.lease(n, state=LeaseState.ENDING if asked else LeaseState.LIVE)
        if lease is not None:
            self.attempt(
                outcomes.end_reported, lease_id=lease.pk, epoch=lease.epoch, pod=lease.slot.pod
            )

    # --- Terraform -----------------------------------------------------------------------------

    @rule(n=pick, person=st.booleans(), method=st.sampled_from(["lock", "post", "unlock", "get"]))
    def terraform(self, n: int, person: bool, method: str) -> None:
        if person or not self.tokens:
            terraform = StateClient(self.workspaces[n % 2].pk, self.token, f"person-{n}")
        else:
            terraform = self.tokens[-1 - n % len(self.tokens)]
        before = list(StateVersion.objects.values_list("pk", flat=True))
        if method == "post":
            workspace = next(w for w in self.workspaces if w.pk == terraform.workspace_id)
            serial = (state_position(workspace)[1] or 0) + n % 3
            answer = terraform.post(document(serial, who=terraform.lock_id))
        else:
            answer = getattr(terraform, method)()
        allowed = {
            "lock": {200, 403, 423},
            "post": {200, 409},
            "unlock": {200, 409},
            "get": {200, 404} if person else {200, 403, 404},
        }
        assert answer.status_code in allowed[method], answer.content
        if answer.status_code == 404:
            assert not StateVersion.objects.filter(workspace=terraform.workspace_id).exists()
        if answer.status_code != 200:
            assert list(StateVersion.objects.values_list("pk", flat=True)) == before

    @invariant()
    def everything_holds(self) -> None:
        check_all()


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_any_order_leaves_one_history_and_loses_no_task(caplog):
    caplog.set_level("ERROR")
    run_state_machine_as_test(
        Platform,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
