"""Confirmations: one plan, one yes, one apply."""

from __future__ import annotations

from tasks_app.models import Confirmation
from tests.support.configurations import Counter, Gate, counting
from tests.support.platform import Platform
from tests.support.racing import race


def test_two_confirmations_at_once_give_one_apply_and_one_clear_409(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()

    first, second = race(
        [
            lambda: platform.request(
                "POST", f"tasks/{task.pk}/apply/", json={"plan_hash": task.plan_hash}
            )
        ]
        * 2
    )
    refused = first if first.status_code == 409 else second
    accepted = second if refused is first else first
    assert accepted.is_success, accepted.text
    assert refused.status_code == 409, refused.text
    problem = refused.json()
    assert problem["type"] == "urn:slipway:illegal-transition"
    assert "confirmed" in problem["detail"] or "applying" in problem["detail"]

    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert Confirmation.objects.filter(task=task).count() == 1


def test_a_drift_check_across_a_confirmation_never_costs_the_apply_its_lock(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    site.apply(site.plan())
    site.configure(counting(counter, gate, name="second"))
    task = site.plan()

    drift = site.start(type="drift_check")
    site.confirmed(task)
    site.wait(drift, "success", "planned_and_finished")
    later = site.start(type="drift_check")
    counter.wait(2)  # the apply holds its lock now
    site.wait(later, "success", "planned_and_finished")
    gate.open()
    site.wait(task, "applied")
    assert counter.lines == ["counted", "second"]
    assert platform.proxy.count("LOCK") == 2, "no drift check ever locks the state"
