"""How many pods a pool wants: a table, and what holds for all numbers."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pods_app.autoscaler.desired import Demand, Limits, Pod, scale

SMALL = st.integers(0, 40)


@pytest.mark.parametrize(
    ("demand", "limits", "desired", "reason"),
    [
        (Demand(), Limits(), 0, "No work"),
        (Demand(), Limits(min_pods=2), 2, "No work; 2 at least"),
        (
            Demand(startable=1),
            Limits(),
            1,
            "1 slot wanted (1 waiting to start), 3 to a pod: 1 pod",
        ),
        (Demand(running=3), Limits(), 1, "3 slots wanted (3 running), 3 to a pod: 1 pod"),
        (
            Demand(running=1, confirmed=1, kept_warm=1, startable=1),
            Limits(),
            2,
            "4 slots wanted (1 running, 1 confirmed, 1 kept warm, 1 waiting to start), "
            "3 to a pod: 2 pods",
        ),
        (
            Demand(kept_warm=3),
            Limits(spare_slots=1),
            2,
            "4 slots wanted (3 kept warm, 1 spare), 3 to a pod: 2 pods",
        ),
        (Demand(), Limits(spare_slots=2), 1, "2 slots wanted (2 spare), 3 to a pod: 1 pod"),
        (
            Demand(startable=100),
            Limits(max_pods=4),
            4,
            "100 slots wanted (100 waiting to start), 3 to a pod: 34 pods; 4 at most",
        ),
        (
            Demand(running=1),
            Limits(min_pods=3),
            3,
            "1 slot wanted (1 running), 3 to a pod: 1 pod; 3 at least",
        ),
        (
            Demand(startable=5),
            Limits(slots_per_pod=1),
            5,
            "5 slots wanted (5 waiting to start), 1 to a pod: 5 pods",
        ),
        (Demand(startable=5), Limits(max_pods=0), 0, None),
    ],
)
def test_desired_pods(demand, limits, desired, reason):
    scaling = scale(demand, limits, [])
    assert scaling.desired == desired
    assert reason is None or scaling.reason == reason


def test_a_frozen_pool_wants_none_and_says_why():
    scaling = scale(Demand(confirmed=3), Limits(min_pods=2), [Pod("p-0")], "Frozen until Monday")
    assert (scaling.desired, scaling.reason, scaling.staying) == (0, "Frozen until Monday", {})


OLD, YOUNG = Pod("old", idle_seconds=400), Pod("young", idle_seconds=20)
BUSY = Pod("busy", running=1, reserved=2, idle_seconds=9000)
HOLDS = Pod("holds", reserved=1, idle_seconds=9000)


@pytest.mark.parametrize(
    ("demand", "pods", "staying"),
    [
        (Demand(), [OLD], {}),
        (Demand(), [YOUNG], {"young": "Idle for 20 s; ends after 5 min without work"}),
        (Demand(startable=1), [OLD], {"old": "The pool wants 1 pod and has no more"}),
        (
            Demand(running=1, kept_warm=2),
            [BUSY, OLD],
            {"busy": "Runs 1 task and keeps 2 applies ready"},
        ),
        (Demand(kept_warm=1), [HOLDS, OLD], {"holds": "Keeps 1 apply ready"}),
        # One of two is wanted: the one that was idle for longer goes.
        (
            Demand(startable=1),
            [YOUNG, OLD],
            {"young": "The pool wants 1 pod and has no more"},
        ),
        (Demand(), [replace(OLD, draining=True)], {}),
        (Demand(), [replace(OLD, late=True, online=False)], {}),
    ],
)
def test_why_a_pod_is_not_scaled_down(demand, pods, staying):
    assert scale(demand, Limits(), pods).staying == staying


def test_pods_that_start_are_supply_until_their_deadline():
    pods = [Pod("a"), Pod("b", online=False), Pod("c", online=False, late=True)]
    scaling = scale(Demand(startable=9), Limits(), pods)
    assert (scaling.desired, scaling.supply, scaling.starting) == (3, 2, 1)


demands = st.builds(Demand, SMALL, SMALL, SMALL, SMALL)
limits = st.builds(
    lambda slots, least, more, spare, delay: Limits(slots, least, least + more, spare, delay),
    st.integers(1, 8),
    st.integers(0, 5),
    st.integers(0, 20),
    st.integers(0, 5),
    st.floats(0, 600),
)
pods = st.lists(
    st.builds(
        Pod,
        st.uuids().map(str),
        st.integers(0, 3),
        st.integers(0, 3),
        st.floats(0, 1000),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
)


@given(demands, limits, pods, demands)
def test_limits_hold_and_more_demand_never_wants_less(demand, limits, pods, more):
    scaling = scale(demand, limits, pods)
    assert limits.min_pods <= scaling.desired <= limits.max_pods
    assert scaling.desired * limits.slots_per_pod >= min(
        demand.slots + limits.spare_slots, limits.max_pods * limits.slots_per_pod
    ), "never below what runs, as far as the maximum allows"
    larger = Demand(**{name: vars(demand)[name] + vars(more)[name] for name in vars(demand)})
    assert scale(larger, limits, pods).desired >= scaling.desired


@given(demands, limits, pods)
def test_what_works_or_was_just_idle_always_stays(demand, limits, pods):
    scaling = scale(demand, limits, pods)
    leaving = [pod for pod in pods if pod.name not in scaling.staying]
    for pod in leaving:
        assert not pod.running
        assert not pod.reserved
        assert pod.late or pod.draining or pod.idle_seconds >= limits.delay_seconds
    left = scaling.supply - sum(not (pod.late or pod.draining) for pod in leaving)
    assert left >= min(scaling.supply, scaling.desired)
