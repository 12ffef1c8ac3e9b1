"""How agents are and what they have, the same over agents and pods."""

from datetime import timedelta

import pytest

from agents_app.models import Agent
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.services import lose_pod
from pods_app.states import DirectoryState
from tasks_app.actors import Actor
from tasks_app.models.base import ClockTimestamp
from tests.support.factories import finish_planning, make_pod, make_pool, make_task

pytestmark = pytest.mark.django_db


@pytest.fixture
def pod(db):
    made = make_pod(make_pool(name="main"))
    Agent.objects.create(pk=made.agent_id, pod=made, hostname="host", program_version="0.1")
    ManagedPod.objects.filter(pk=made.pk).update(providers=["example.com/a/b 1.0.0"])
    return made


def both(admin, pod):
    """The documents of a pod's agent and of the pod itself."""
    agent = admin.get(f"agents/{pod.agent_id}/")
    assert agent.status_code == 200, agent.content
    return agent.json(), admin.get(f"pods/{pod.pk}/").json()


def silent(pod, seconds):
    ManagedPod.objects.filter(pk=pod.pk).update(
        last_heartbeat=ClockTimestamp() - timedelta(seconds=seconds)
    )


def test_what_an_agent_has(admin, pod):
    waiting = [finish_planning(make_task()) for _ in range(2)]
    Lease.objects.filter(task__in=waiting).update(held=True)
    for task in waiting:
        WorkDirectory.objects.create(task=task, pod=pod, path="/a", bytes=1 << 40)
    other = make_task()
    WorkDirectory.objects.create(
        task=other, pod=pod, path="/b", bytes=5, state=DirectoryState.DELETED
    )
    agent, shown = both(admin, pod)
    for document in (agent, shown):
        assert document["held_applies"] == 2
        assert (document["directories"], document["directory_bytes"]) == (2, 2 << 40)
        assert document["providers"] == ["example.com/a/b 1.0.0"]
        assert document["engines"] == [{"engine": "terraform", "version": "1.11.4"}]
        assert document["heartbeat_age_seconds"] < 60
    assert agent["slots"] == {"total": 3, "idle": 0, "running": 1, "reserved": 2}


def test_an_apply_that_began_is_not_held_any_more(admin, pod):
    task = finish_planning(make_task())
    Lease.objects.filter(task=task).update(held=True, phase="apply")
    assert both(admin, pod)[0]["held_applies"] == 0


def test_health_and_its_filter(admin, pod, settings):
    def seen():
        agent, shown = both(admin, pod)
        assert agent["health"] == shown["health"]
        for health in ("online", "unknown", "lost"):
            listed = admin.get("agents/", health=health).json()["results"]
            pods = admin.get("pods/", health=health).json()["results"]
            assert len(listed) == len(pods) == (health == agent["health"])
        return agent

    limits = seen()
    assert limits["health"] == "online"
    assert limits["unknown_after_seconds"] == 3 * settings.SLIPWAY.heartbeat_seconds
    assert limits["lost_after_seconds"] == settings.SLIPWAY.agent_lost_seconds
    silent(pod, limits["unknown_after_seconds"] + 1)
    assert seen()["health"] == "unknown"
    silent(pod, limits["lost_after_seconds"] * 10)
    assert seen()["health"] == "unknown", "nobody declared it lost"
    lose_pod(pod.pk, actor=Actor.system("health"), cause="test")
    assert seen()["health"] == "lost"
    ManagedPod.objects.update(phase="starting", last_heartbeat=None)
    assert seen()["health"] == "unknown"
    assert seen()["heartbeat_age_seconds"] is None
