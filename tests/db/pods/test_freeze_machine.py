"""Freezes that come, are enforced and go at any point of any history, with all its invariants."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from pods_app import leases
from pods_app.freeze.edges import follow_schedules
from pods_app.models import FreezeTransition, FreezeWindow, Lease
from tasks_app.states import Status
from tests.db.pods.test_machine import Machine
from tests.support.freezes import soon, window_row


class FreezingMachine(Machine):
    """As the machine, but a freeze also ends what runs, and comes announced or not."""

    @rule(kind=st.sampled_from(["now", "soon", "over"]))
    def window(self, kind):
        FreezeWindow.objects.all().delete()
        if kind == "now":
            window_row(self.pool)
        elif kind == "soon":
            soon(self.pool, minutes=5, lead=15, grace_seconds=600)

    @rule()
    def enforce(self):
        """A pass of the controller."""
        follow_schedules([self.pool.__class__.objects.get(pk=self.pool.pk)])
        self.pool.refresh_from_db()
        if self.pool.frozen:
            live = Lease.objects.filter(slot__pod__pool=self.pool, state="live")
            assert not live.exists(), "work goes on in a frozen pool"
            assert not any(
                lease.task.status in {Status.PLANNING, Status.APPLYING}
                for lease in leases.unended().select_related("task")
            )

    @invariant()
    def the_history_is_a_chain(self):
        if not hasattr(self, "pool"):
            return
        chain = list(
            FreezeTransition.objects.filter(pool=self.pool)
            .order_by("id")
            .values_list("from_state", "to_state")
        )
        before = "open"
        for source, target in chain:
            assert source == before and source != target
            before = target


@pytest.mark.django_db(transaction=True)
def test_freezes_in_any_order():
    run_state_machine_as_test(
        FreezingMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
