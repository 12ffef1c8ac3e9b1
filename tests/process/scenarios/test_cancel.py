"""Cancelling a running apply: one interrupt, and only by force more than that."""

from __future__ import annotations

from pathlib import Path

from tests.support.configurations import Counter, counting, faulty
from tests.support.platform import Platform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.sites import log


def test_a_cancelled_apply_finishes_its_resource_and_saves_the_state(
    platform: Platform, counter: Counter, provider_mirror: Path
) -> None:
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(provider_mirror))
    site = platform.site(faulty(counter, count=30, sleep_ms=1000))
    task = site.confirmed(site.plan())
    counter.wait()
    site.cancel(task)

    site.wait(task, "cancelled")
    created = len(counter.lines)
    assert 0 < created < 30, "it stopped between resources"
    assert len(site.resources) == created, "what was created is in the state"
    assert not site.locked
    assert "Interrupt received" in log(task, "apply")


def test_a_forced_cancel_kills_and_asks_for_a_person(
    platform: Platform, counter: Counter, provider_mirror: Path
) -> None:
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(provider_mirror))
    site = platform.site(
        {**faulty(counter, sleep_ms=600_000, stubborn=True), **_started_first(counter)}
    )
    task = site.confirmed(site.plan())
    counter.wait()
    early = platform.request("POST", f"tasks/{task.pk}/cancel/", json={"force": True})
    assert early.status_code == 409, "only after a normal cancel"

    site.cancel(task)
    wait_until(lambda: "Interrupt received" in log(task, "apply"), "Terraform was interrupted")
    site.wait(task, "applying")  # one interrupt does not end it
    site.cancel(task, force=True)
    site.wait(task, "interrupted")
    wait_until(lambda: not platform.terraforms(), "Terraform is gone")
    assert counter.lines == ["first"], "the slow resource never came to its end"


def _started_first(counter: Counter) -> dict[str, str]:
    """A second file with a resource that is created at once."""
    return {"first.tf": counting(counter, name="first")["main.tf"]}


def test_a_cancelled_plan_ends_without_a_plan(platform: Platform, counter: Counter) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    held = platform.proxy.fault(Action.HOLD_REPLY, "GET", "^/api/state/")
    task = site.start()
    held.wait()
    site.cancel(task)
    held.release()
    site.wait(task, "cancelled")
    assert task.plan_hash is None
