"""What the simulated kubelet makes of what the API server tells."""

import pytest

from benchmarks.agents import Refused
from benchmarks.pods import Kubelet
from benchmarks.result import CannotMeasure
from pods_app.cluster.errors import Unreachable


class Space:
    """Plays the API server: notes what a kubelet and a scheduler do there."""

    def __init__(self):
        self.calls = []
        self.problem = None

    def bind(self, pod):
        self.calls.append("bind")
        if self.problem is not None:
            raise self.problem

    def set_status(self, pod, phase):
        self.calls.append(phase)

    def token(self, account, *, audience, pod):
        return f"{account} for {audience}"

    def remove(self, pod):
        self.calls.append("remove")


class Fleet:
    def __init__(self):
        self.refusals = []
        self.living = []
        self.tokens = []

    def check(self):
        pass

    def add(self, agent, token):
        if self.refusals:
            raise self.refusals.pop()
        self.tokens.append(token)
        self.living.append(agent)
        return agent

    def call(self, agent):
        return agent

    def cancel(self, agent):
        self.living.remove(agent)


@pytest.fixture
def space():
    return Space()


@pytest.fixture
def fleet():
    return Fleet()


@pytest.fixture
def see(space, fleet, monkeypatch):
    """Tell a kubelet of events, each until everything that follows it is done."""
    monkeypatch.setattr("benchmarks.pods._AGAIN_SECONDS", 0)
    kubelet = Kubelet(space, fleet, "https://slipway", lambda name, uid: f"{name} {uid}")
    monkeypatch.setattr(kubelet._threads, "submit", lambda part, *args: part(*args))

    def see(*events):
        for kind, pod in events:
            kubelet._see(kind, pod)
        return kubelet

    return see


def pod(uid="u1", **metadata):
    return {
        "metadata": {"name": "pool-0", "uid": uid, **metadata},
        "spec": {"serviceAccountName": "slipway-agent"},
    }


def test_a_pod_runs_and_its_agent_registers_with_its_token(see, space, fleet):
    kubelet = see(("ADDED", pod()), ("MODIFIED", pod()), ("BOOKMARK", {}))
    assert space.calls == ["bind", "Running"]
    assert fleet.living == ["pool-0 u1"]
    assert fleet.tokens == ["slipway-agent for https://slipway"]
    assert kubelet.alive == 1


def test_the_agent_ends_when_the_api_has_its_pod_no_more(see, fleet):
    kubelet = see(("ADDED", pod()), ("ADDED", pod("u2")), ("DELETED", pod()))
    assert fleet.living == ["pool-0 u2"]
    assert kubelet.alive == 1
    assert kubelet.last_gone(0) == kubelet._gone["u1"]


def test_a_pod_that_is_asked_to_end_does(see, space):
    see(("ADDED", pod()), ("MODIFIED", pod(deletionTimestamp="2026-01-01T00:00:00Z")))
    assert space.calls[-1] == "remove"


def test_an_agent_tries_again_while_its_pod_is_not_entered(see, fleet):
    fleet.refusals = [Refused(503, "POST register", "not yet")] * 2
    see(("ADDED", pod()))
    assert fleet.living == ["pool-0 u1"]


@pytest.mark.parametrize(
    ("where", "problem"),
    [("space", Unreachable("The cluster is away.")), ("fleet", Refused(403, "POST register", ""))],
)
def test_a_pod_that_cannot_be_played_is_an_error(see, space, fleet, where, problem):
    if where == "space":
        space.problem = problem
    else:
        fleet.refusals = [problem]
    kubelet = see(("ADDED", pod()))
    with pytest.raises(CannotMeasure, match="cannot be simulated"):
        kubelet.check()


def test_what_fails_for_a_pod_that_is_gone_concerns_nobody(see, space):
    space.problem = Unreachable("There is no such pod.")
    kubelet = see(("DELETED", pod()), ("ADDED", pod()))
    kubelet.check()
