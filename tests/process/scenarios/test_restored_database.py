"""An old copy of the database is restored while agents hold newer work."""

from __future__ import annotations

from pods_app.incarnation import installation
from tests.support.configurations import Counter, Gate, counting
from tests.support.databases import copy_database, restore_database
from tests.support.platform import Platform
from tests.support.programs import wait_until
from tests.support.proxy import Action


def test_after_a_restore_nothing_is_applied_twice(platform: Platform, counter: Counter) -> None:
    platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    platform.server.kill()
    copy_database("slipway_backup")
    platform.start_server()

    # Reality goes on: the plan is applied, and another one is made.
    site.apply(task)
    site.configure(counting(counter, name="second"))
    site.plan()

    platform.server.kill()
    restore_database("slipway_backup")
    platform.start_server()
    task.refresh_from_db()
    assert task.status == "apply_pending", "the old copy knows nothing of its apply"
    assert site.state == {}

    # The agent knows a lease that the database does not: no apply is permitted.
    wait_until(lambda: installation().doubt, "the database is in doubt")
    site.confirmed(task)
    task.refresh_from_db()
    assert task.status == "confirmed"
    assert "begin_incarnation" in task.waiting_reason, "it says what to do"
    assert counter.lines == ["counted"]

    resolved = platform.manage("begin_incarnation", "--json")
    assert resolved.exit_code == 0, resolved.log_end()
    site.wait(task, "failed")
    assert not installation().doubt
    assert counter.lines == ["counted"], "nothing was applied twice"

    # Work goes on with the same agent, once the state is true again.
    site.configure({"main.tf": 'output "alive" {\n  value = "yes"\n}\n'})
    site.apply(site.plan())
    assert counter.lines == ["counted"]


def test_a_confirmation_before_the_first_heartbeat_is_refused_its_permit(
    platform: Platform, counter: Counter
) -> None:
    """The permit itself asks whether the database is older than what the agent knows."""
    agent = platform.start_agent()
    site = platform.site(counting(counter))
    task = site.plan()
    platform.server.kill()
    copy_database("slipway_backup")
    platform.start_server()
    site.apply(task)
    # The agent's newest lease is the one the copy knows; only its permit is newer.
    wait_until(agent.has_no_leases, "the agent let go")

    heartbeats = platform.proxy.fault(Action.HOLD_REQUEST, "POST", "/heartbeat$", times=None)
    platform.server.kill()
    restore_database("slipway_backup")
    platform.start_server()
    site.confirmed(task)
    wait_until(lambda: platform.proxy.count("POST", "/permit", 409), "the permit is refused")
    assert installation().doubt
    heartbeats.release()
    assert platform.manage("begin_incarnation").exit_code == 0
    site.wait(task, "failed")
    assert counter.lines == ["counted"], "nothing was applied twice"


def test_a_running_apply_becomes_unknown_when_an_older_database_is_restored(
    platform: Platform, counter: Counter, gate: Gate
) -> None:
    platform.start_agent()
    site = platform.site(counting(counter, gate))
    task = site.confirmed(site.plan())
    counter.wait()
    platform.server.kill()
    copy_database("slipway_backup")
    platform.start_server()

    later = platform.site(counting(counter, name="later"))
    later.plan()  # a lease that the copy does not know
    platform.server.kill()
    restore_database("slipway_backup")
    platform.start_server()
    wait_until(lambda: installation().doubt, "the database is in doubt")
    assert platform.manage("begin_incarnation").exit_code == 0
    task.refresh_from_db()
    assert task.status in {"apply_unknown", "applying"}, "Terraform still runs under its permit"
    gate.open()
    site.wait(task, "applied")
    assert counter.lines == ["counted"]
    assert site.resources == ["terraform_data.counted"]
