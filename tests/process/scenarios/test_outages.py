"""Server, network and state endpoint fail while Terraform runs."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.configurations import Counter, Gate, counting, faulty
from tests.support.platform import Platform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.sites import events, log

_OUTAGE_SECONDS = 60


def test_a_server_killed_during_plan_and_apply_costs_nothing(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter, gate))

    held = platform.proxy.fault(Action.HOLD_REPLY, "GET", "^/api/state/")
    task = site.start()
    held.wait()  # Terraform is planning: it reads the state
    platform.server.kill()
    held.release()
    platform.start_server()
    site.wait(task, "apply_pending")
    assert events(task).count("task.planning") == 1, "the plan was not made again"

    site.confirmed(task)
    counter.wait()
    platform.server.kill()
    gate.open()
    assert platform.terraforms(), "it waits for the server"
    platform.start_server()
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"]
    assert not site.locked
    assert events(task).count("task.applying") == 1
    assert "Apply complete" in log(task, "apply")


def test_a_network_cut_during_an_apply_loses_no_log_and_no_state(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    with platform.proxy.down():
        gate.open()
        wait_until(lambda: _unheard(platform) >= 4, "Terraform tries to reach its state")
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"]
    assert log(task, "apply").count("Apply complete") == 1


def _unheard(platform: Platform) -> int:
    return sum("/state/" in path for _, path in platform.proxy.unheard)


def test_a_state_endpoint_that_fails_for_a_minute_of_an_apply_is_ridden_out(
    platform: Platform, counter: Counter, provider_mirror: Path
) -> None:
    """Terraform saves the state in the middle too, after 20 s: that is what fails here."""
    platform.start_agent(SLIPWAY_PROVIDER_MIRROR=str(provider_mirror))
    site = platform.site({**faulty(counter, count=2), "later.tf": _later(counter)})
    task = site.plan()
    failing = platform.proxy.fault(Action.ANSWER, "POST", "^/api/state/", times=None, status=503)
    site.confirmed(task)
    failing.wait()
    before = ["slow-0 created", "slow-1 created", "late created"]
    assert sorted(counter.lines) == sorted(before), "it happens in the middle"
    time.sleep(_OUTAGE_SECONDS)
    task.refresh_from_db()
    assert task.status == "applying" and platform.terraforms()
    # More than Terraform's default of three tries: this is what TF_HTTP_RETRY_MAX is for.
    assert failing.hits >= 5
    assert not site.resources
    failing.end()

    site.wait(task, "applied")
    assert sorted(counter.lines) == sorted([*before, "last created"])
    assert len(site.resources) == 4
    assert site.workspace.state_versions.count() >= 2, "in the middle and at the end"
    assert not site.locked
    assert events(task).count("task.applying") == 1


def test_a_state_that_could_never_be_uploaded_is_recovered_by_the_agent(
    platform: Platform, counter: Counter
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    # 403 is final for Terraform, which saves errored.tfstate and unlocks.
    refusing = platform.proxy.fault(Action.ANSWER, "POST", "^/api/state/", times=None, status=403)
    site.confirmed(task)
    refusing.wait()

    site.wait(task, "failed")
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"], "the recovered state became current"
    assert "state" in task.error
    assert not site.locked

    again = site.wait(site.start(), "planned_and_finished")
    assert again.status == "planned_and_finished", "nothing would be created twice"


def _later(counter: Counter) -> str:
    """Return a resource that is ready when Terraform saves the state in between, and another."""
    return f"""
resource "fault_resource" "late" {{
  name         = "late"
  sleep_ms     = 21000
  counter_file = "{counter.path}"
}}

resource "fault_resource" "last" {{
  name         = "last"
  counter_file = "{counter.path}"
  depends_on   = [fault_resource.late]
}}
"""
