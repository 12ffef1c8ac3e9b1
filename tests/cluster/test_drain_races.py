"""Pods that are too many while work arrives, on a real API server: never one ends with work.

First the interleavings that matter, one by one; then seeded races. There each pod at stake has
one slot. Passes of the reconciliation, tasks that want a slot, somebody who wants the pods again
and somebody who changes their objects start at moments that the seed draws, within the time that
a pass takes undisturbed.
"""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter

import pytest
from django.db import connection

from pods_app import leases, queue
from pods_app.cluster import reconcile
from pods_app.cluster.client import Cluster
from pods_app.cluster.errors import Changed
from pods_app.models import ManagedPod, PodSlot, Pool
from pods_app.reconcile import reconcile_pods
from pods_app.services import begin_return, drain_if_free
from pods_app.states import ENDED_THERE, TOO_MANY, PodPhase, PoolKind, SlotStatus
from tasks_app.actors import Actor
from tasks_app.models import Task, Workspace
from tasks_app.services.tasks import create_task
from tasks_app.states import Status, TaskType
from tests.support.factories import make_admin, make_pool, make_workspace
from tests.support.racing import race

pytestmark = [pytest.mark.usefixtures("slipway"), pytest.mark.django_db(transaction=True)]

SYSTEM = Actor.system("test")
#: At stake in one round, and the rounds of a seed: 1,020 pods in all.
PODS, ROUNDS, SEEDS = 10, 51, 2
REGISTERED = {
    "phase": PodPhase.ONLINE,
    "phase_reason": "",
    "engines": [{"engine": "terraform", "version": "1.11.4"}],
}


@pytest.fixture
def idle_pod(space):
    """The pod of a pool that wants none any more."""
    pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, slots_per_pod=1, min_pods=1)
    reconcile_pods(pool)
    (made,) = space.all_pods()
    space.bind(made)
    ManagedPod.objects.update(**REGISTERED, agent_id=uuid.uuid4())
    reconcile_pods(pool)  # notes its node
    Pool.objects.update(min_pods=0)
    return ManagedPod.objects.get()


def a_pass():
    return [f"{one.action} {one.pod}" for one in reconcile_pods(Pool.objects.get())]


@pytest.fixture
def then(monkeypatch):
    """Return a function: the first call of ``reconcile``'s ``name`` is followed by ``act``."""

    def after(name, act):
        genuine = getattr(reconcile, name)

        def called(*arguments, **options):
            monkeypatch.setattr(reconcile, name, genuine)
            result = genuine(*arguments, **options)
            act()
            return result

        monkeypatch.setattr(reconcile, name, called)

    return after


def arrive():
    """A task wants a slot; returns it."""
    workspace = Workspace.objects.first() or make_workspace()
    return create_task(actor=Actor.person(make_admin()), workspace=workspace, type=TaskType.PLAN)


def test_a_pod_that_came_back_is_not_deleted_by_who_drained_it(space, idle_pod, then):
    """Between a drain and its deletion another pass brings the pod back, and work arrives."""

    def come_back():
        arrive()
        assert a_pass() == ["undrain pool-0"]
        queue.dispatch_pass()

    then("drain_if_free", come_back)
    a_pass()
    (found,) = space.all_pods()
    assert not is_ending(found) and occupied().get().pod == idle_pod
    assert "end pool-0" not in a_pass()


def test_a_pod_that_is_deleted_while_it_comes_back_takes_no_work(space, idle_pod, then):
    """It was brought back halfway when whoever drained it deletes it."""
    drain_if_free(idle_pod.pk, actor=SYSTEM, reason=TOO_MANY)
    task = arrive()
    uid = idle_pod.pod_uid
    then("begin_return", lambda: space.pods.delete_pod("pool-0", uid=uid))
    assert a_pass() == ["undrain pool-0"]
    idle_pod.refresh_from_db()
    assert (idle_pod.draining, idle_pod.phase_reason) == (True, ENDED_THERE)
    queue.dispatch_pass()
    assert not occupied().exists()
    assert a_pass() == ["create pool-1"]
    task.refresh_from_db()
    assert task.waiting_reason.startswith("Waits for an agent")


def test_a_pod_that_is_drained_while_it_comes_back_takes_no_work(space, idle_pod, then):
    drain_if_free(idle_pod.pk, actor=SYSTEM, reason=TOO_MANY)
    task = arrive()
    then(
        "begin_return",
        lambda: drain_if_free(idle_pod.pk, actor=SYSTEM, reason=TOO_MANY),
    )
    assert a_pass() == ["undrain pool-0"]
    idle_pod.refresh_from_db()
    assert (idle_pod.draining, idle_pod.phase_reason) == (True, TOO_MANY)
    assert a_pass() == ["undrain pool-0"], "the next pass brings it back"
    queue.dispatch_pass()
    assert occupied().get().task == task


def test_whoever_died_while_a_pod_came_back_is_completed(space, idle_pod):
    drain_if_free(idle_pod.pk, actor=SYSTEM, reason=TOO_MANY)
    assert begin_return(idle_pod.pk)
    arrive()
    assert a_pass() == ["undrain pool-0"]
    idle_pod.refresh_from_db()
    assert not idle_pod.draining
    Task.objects.update(status=Status.CANCELLED)
    leases.end(leases.unended().get(), actor=SYSTEM, reason="it was placed at once, and is over")
    drain_if_free(idle_pod.pk, actor=SYSTEM, reason=TOO_MANY)
    assert begin_return(idle_pod.pk)
    assert a_pass() == ["end pool-0"], "not wanted any more"
    assert is_ending(*space.all_pods())


class Races:
    """One pool, of which nothing is wanted but for the tasks that arrive."""

    def __init__(self, space, seed):
        self.space, self.dice = space, random.Random(seed)
        make_workspace()
        self.pool = make_pool(name="pool", kind=PoolKind.KUBERNETES, slots_per_pod=1)
        self.deleted_busy: list[str] = []
        self.seen: Counter[str] = Counter()
        self.fill()
        begun = time.monotonic()
        reconcile_pods(self.pool)
        # It deletes, and others run beside it. On a busy machine all is late anyway.
        self.span = min(3 * (time.monotonic() - begun), 0.15)

    # --- one round ------------------------------------------------------------------------

    def fill(self):
        """Have as many idle pods as are at stake, some on a node and some not yet."""
        self.resize(PODS)
        reconcile_pods(self.pool)
        self.register()
        self.resize(0)

    def resize(self, number):
        Pool.objects.filter(pk=self.pool.pk).update(min_pods=number)
        self.pool.refresh_from_db()

    def register(self):
        """What the agents of new pods do."""
        objects = {pod["metadata"]["uid"]: pod for pod in self.space.all_pods()}
        for pod in ManagedPod.objects.filter(phase=PodPhase.STARTING, pod_uid__in=objects):
            if self.dice.random() < 0.5:
                self.space.bind(objects[pod.pod_uid])
            ManagedPod.objects.filter(pk=pod.pk).update(**REGISTERED, agent_id=uuid.uuid4())

    def run(self):
        """Let everybody race; returns the tasks that arrived."""
        parties = [a_pass] * 2 + [arrive] * self.dice.randint(1, PODS)
        parties += [self.want_again] * self.dice.randint(0, 2)
        parties += [self.relabel] * self.dice.randint(0, 2)
        results = race([self.later(party) for party in parties])
        assert not [one for one in results if isinstance(one, Exception)], results
        return [one for one in results if isinstance(one, Task)]

    def later(self, call):
        pause = self.dice.random() * self.span

        def called():
            time.sleep(pause)
            return call()

        return called

    def want_again(self):
        """Somebody raises the minimum, and a pass that sees it brings drained pods back."""
        Pool.objects.update(min_pods=PODS)
        a_pass()

    def relabel(self):
        """Whoever decided from what the object was before may not delete it."""
        name = f"pool-{self.dice.randrange(PODS)}"
        found = self.space.pods.get_pod(name)
        if found is not None:
            labels, uid = {"somebody": uuid.uuid4().hex}, found["metadata"]["uid"]
            try:
                self.space.pods.mark_pod(name, uid=uid, labels=labels, annotations={})
            except Changed:
                pass  # deleted and made again meanwhile

    # --- what came of it ------------------------------------------------------------------

    def judge(self, tasks):
        """No pod with work was or is being deleted, and each task gets a slot in the end."""
        assert not self.deleted_busy
        self.check_objects()
        self.seen["ending"] += sum(map(is_ending, self.space.all_pods()))
        self.seen["claimed"] += occupied().count()
        self.seen["waited"] += len(tasks) - occupied().count()
        self.resize(0)
        for _ in range(3):  # what drains and was not deleted comes back, the rest is made anew
            self.confirm_ends()
            a_pass()
            self.register()
            queue.dispatch_pass()
            if not Task.objects.filter(status=Status.PENDING).exists():
                break
        self.check_objects()
        assert not Task.objects.filter(status=Status.PENDING).exists(), "somebody waits for ever"
        assert not self.deleted_busy

    def check_objects(self):
        objects = {pod["metadata"]["uid"]: pod for pod in self.space.all_pods()}
        for slot in occupied().select_related("pod"):
            assert slot.pod.pod_uid in objects, f"{slot.pod} is gone, with its work"
            assert not is_ending(objects[slot.pod.pod_uid]), f"{slot.pod} ends, with its work"

    def confirm_ends(self):
        for pod in filter(is_ending, self.space.all_pods()):
            self.space.remove(pod)

    def clear(self):
        """All tasks are over, for the next round."""
        for lease in leases.unended().select_related("slot__pod", "task"):
            leases.end(lease, actor=SYSTEM, reason="next round")
        Task.objects.exclude(status=Status.CANCELLED).update(status=Status.CANCELLED)
        self.fill()


def is_ending(pod):
    return "deletionTimestamp" in pod["metadata"]


def occupied():
    return PodSlot.objects.exclude(status=SlotStatus.IDLE)


@pytest.fixture
def watched(monkeypatch):
    """Return a list of the pods that had work when the cluster agreed to delete them."""
    busy, delete_pod = [], Cluster.delete_pod

    def deleted(self, name, *, uid, **options):
        done = delete_pod(self, name, uid=uid, **options)
        if done and occupied().filter(pod__pod_uid=uid).exists():
            busy.append(name)
        connection.close()  # of a thread that asks the cluster, and has no use for another
        return done

    monkeypatch.setattr(Cluster, "delete_pod", deleted)
    return busy


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_pod_is_deleted_with_work(space, watched, seed):
    races = Races(space, seed)
    races.deleted_busy = watched
    for number in range(ROUNDS):
        try:
            races.judge(races.run())
        except AssertionError as error:
            raise AssertionError(f"round {number} of seed {seed}: {error}") from error
        races.clear()
    assert min(races.seen[one] for one in ("ending", "claimed", "waited")), races.seen
