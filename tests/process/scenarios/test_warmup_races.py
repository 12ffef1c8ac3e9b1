"""A plan that is to be made ready when several agents could, and everybody places it at once."""

from __future__ import annotations

import shutil

from pods_app.freeze.services import database_now
from pods_app.leases import unended
from pods_app.models import Lease, ManagedPod, PodSlot
from pods_app.warmups import warm_pass
from tests.support.configurations import Counter, counting
from tests.support.platform import Agent, StartPlatform
from tests.support.programs import wait_until
from tests.support.proxy import Action
from tests.support.racing import race


def _wait_until_heard(*agents: Agent) -> None:
    """Wait until each agent was heard twice, and so was told what it has to do."""
    for agent in [*agents, *agents]:
        since = database_now()
        heard = ManagedPod.objects.filter(pod_uid=agent.pod_uid, last_heartbeat__gt=since)
        wait_until(heard.exists, f"{agent.name} is heard again")


def test_one_of_two_agents_makes_a_plan_ready_and_the_other_does_nothing(
    start_platform: StartPlatform, counter: Counter
) -> None:
    platform = start_platform(agent_lost_seconds="3")
    planner = platform.start_agent("planner")
    site = platform.site(counting(counter))
    task = site.plan()
    agents = [platform.start_agent(name) for name in ("one", "two")]
    bundle = platform.proxy.fault(Action.HOLD_REQUEST, "GET", "/artifacts/plan_bundle", times=None)
    planner.program.kill()
    shutil.rmtree(planner.state)
    shutil.rmtree(platform.work / "workspaces")

    # The loss itself asks for a warm-up, the controller's pass does, and so do these.
    platform.start_controller()
    later = Lease.objects.filter(task=task, epoch__gt=1)

    def begins() -> bool:
        results = race([warm_pass] * 4)
        assert not [result for result in results if isinstance(result, Exception)], results
        return later.exists()

    wait_until(begins, "it is warmed again")
    bundle.wait()
    _wait_until_heard(*agents)
    assert (later.count(), bundle.hits) == (1, 1), "one agent restores it"
    bundle.release()

    wait_until(unended().filter(task=task, held=True, epoch=2).exists, "it is held")
    assert race([warm_pass] * 4) == [0] * 4, "nothing is left to do"
    _wait_until_heard(*agents)
    (held,) = platform.terraforms()
    lease = later.select_related("slot__pod").get()
    (idle,) = [agent for agent in agents if agent.pod_uid != lease.slot.pod.pod_uid]
    assert idle.has_no_leases()
    assert not PodSlot.objects.filter(pod__pod_uid=idle.pod_uid).exclude(status="idle").exists()
    assert (counter.lines, platform.proxy.count("LOCK")) == ([], 0)
    site.apply(task)
    assert (task.apply_path, counter.lines) == ("held", ["counted"]), task.apply_path_reason
    assert not held.is_running() and platform.proxy.count("LOCK") == 1
