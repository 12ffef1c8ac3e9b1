"""Freezes of pools in a cluster, with real agents as pods whose processes may outlive them."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from pods_app import queue
from pods_app.freeze.services import end_early
from pods_app.leases import unended
from pods_app.models import (
    ApplyPermit,
    FreezeTransition,
    FreezeWindow,
    Lease,
    ManagedPod,
    PodSlot,
    Pool,
)
from pods_app.states import PodPhase, PoolKind, SlotStatus
from tasks_app.models import Event, Task
from tasks_app.states import WarmupStatus
from tests.support.configurations import Counter, counting
from tests.support.factories import make_pool
from tests.support.freezes import now, window_row
from tests.support.programs import processes_below, wait_until
from tests.support.sites import story

#: Agents stand still for long here; that they are lost is another test's.
patient = pytest.mark.parametrize(
    "cluster_platform", [{"agent_lost_seconds": "600"}], indirect=True
)


@pytest.fixture
def pool(cluster_platform):
    return make_pool(name="pool", kind=PoolKind.KUBERNETES, slots_per_pod=1)


class Work:
    """A workspace whose one task is at a stage when the freeze comes."""

    def __init__(self, platform, folder, name, gate=None):
        self.name, self.counter = name, Counter(folder / name)
        self.site = platform.site(counting(self.counter, gate, name))
        self.task: Task | None = None

    @property
    def status(self):
        self.task.refresh_from_db()
        return self.task.status

    @property
    def lines(self):
        return self.counter.lines


def is_held(task):
    return Lease.objects.filter(task=task, state="live", phase="hold", held=True).exists()


def bury_survivors(kubelet):
    """The nodes have heard of the removals by now."""
    while kubelet.survivors:
        kubelet.survivors.pop().kill()


def wait_for_moment(kubelet, moment):
    """Wait until a pod's agent stands still at a moment of its work."""
    wait_until(
        lambda: any(one.moments[-1:] == [moment] for one in list(kubelet.pods.values())),
        f"an agent stands still at {moment!r}",
    )


class Stages:
    """One pod for each stage at which work can be when a pool freezes."""

    def __init__(self, platform, kubelet, folder, gate):
        self.kubelet = kubelet
        self.all = {
            name: Work(platform, folder, name, gate if name == "applying" else None)
            for name in ("warming", "planning", "asking", "releasing", "holding", "applying")
        }

    def __getattr__(self, name):
        return self.all[name]

    def set_up(self):
        self._warm(self.warming)
        self._stop(self.planning, "step seal", confirm=False)
        self._stop(self.asking, "step permit")
        self._stop(self.releasing, "release")
        self._hold(self.holding)
        self._hold(self.applying)
        self.applying.site.confirmed(self.applying.task)
        self.applying.counter.wait()

    def _warm(self, work):
        """Its first pod dies, and the next stands still while it restores the directory."""
        work.task = work.site.plan()
        self.kubelet.stop_at = "step verify restored"
        (first,) = self.kubelet.pods.values()
        first.kill()
        wait_for_moment(self.kubelet, "step verify restored")

    def _stop(self, work, moment, *, confirm=True):
        self.kubelet.stop_at = moment
        work.task = work.site.plan() if confirm else work.site.start()
        if confirm:
            work.site.confirmed(work.task)
        wait_for_moment(self.kubelet, moment)

    def _hold(self, work):
        work.task = work.site.plan()
        wait_until(lambda: is_held(work.task), f"{work.name} is held")

    def told(self):
        return "\n".join(story(work.task) for work in self.all.values())


@patient
def test_a_freeze_in_every_stage_and_what_survives_it(
    cluster_platform, kubelet, pool, tmp_path, gate, space
):
    """Warm-up, plan, hold, before and after the permit, apply: each once, all at one edge.

    The processes outlive their pods and go on when the pool is frozen: nothing of it counts,
    nothing more is applied, and what ran has its state stored.
    """
    platform = cluster_platform
    platform.start_controller()
    stages = Stages(platform, kubelet, tmp_path, gate)
    stages.set_up()
    warming = stages.warming.task.leases.filter(state="live").values_list("phase", flat=True)
    told = stages.told()
    assert list(warming) == ["warmup"], told
    assert {work.status for work in (stages.warming, stages.holding)} == {"apply_pending"}, told
    assert {work.status for work in (stages.releasing, stages.applying)} == {"applying"}, told
    assert (stages.planning.status, stages.asking.status) == ("planning", "confirmed"), told

    window = window_row(pool)
    wait_until(lambda: not space.all_pods(), "every pod is gone from the cluster")
    wait_until(lambda: len(kubelet.survivors) == 6, "their processes live on")
    there = ManagedPod.objects.exclude(phase=PodPhase.GONE)
    wait_until(lambda: not there.exists(), "their work was taken away, one by one")
    _check_frozen(stages)
    before = Event.objects.filter(kind__startswith="task.").count()

    gate.open()
    for survivor in kubelet.survivors:
        survivor.program.signal(signal.SIGCONT)
    wait_until(lambda: not stages.applying.site.locked, "what ran has stored its state")
    wait_until(lambda: platform.proxy.count("LOCK", status=403), "what was late is refused")
    for work in (stages.releasing, stages.applying, stages.planning):
        folder = work.site.directory(work.task)
        wait_until(lambda at=folder: not processes_below(at), f"{work.name} ends by itself")
    assert stages.applying.site.resources == ["terraform_data.applying"]
    _check_frozen(stages)
    assert Event.objects.filter(kind__startswith="task.").count() == before, stages.told()
    assert not space.all_pods(), "nothing comes before the end"

    bury_survivors(kubelet)
    FreezeWindow.objects.filter(pk=window.pk).delete()
    _check_afterwards(stages)


def _check_frozen(stages):
    """What a freeze leaves of each stage, whatever processes still live."""
    told = stages.told()
    waits = {work.name for work in stages.all.values() if work.status == "apply_pending"}
    assert waits == {"warming", "holding"}, told
    for name in waits:
        assert stages.all[name].task.warmup_status == WarmupStatus.NONE, told
    assert (stages.planning.status, stages.asking.status) == ("pending", "confirmed"), told
    for work in (stages.planning, stages.asking):
        assert "is frozen until" in work.task.waiting_reason, told
    assert (stages.releasing.status, stages.applying.status) == ("interrupted",) * 2, told
    permitted = set(ApplyPermit.objects.values_list("task", flat=True))
    assert permitted == {stages.releasing.task.pk, stages.applying.task.pk}, told
    done = {work.name: work.lines for work in stages.all.values() if work.lines}
    assert done == {"applying": ["applying"]}, told
    assert not PodSlot.objects.exclude(status=SlotStatus.IDLE).exists()
    assert not unended().exists() and Pool.objects.get().frozen


def _check_afterwards(stages):
    """After the freeze everything that waited is warm again, and is applied once."""
    site = stages.asking.site
    site.wait(stages.asking.task, "applied")
    for work in (stages.warming, stages.holding, stages.planning):
        work.site.wait(work.task, "apply_pending")
        wait_until(lambda work=work: is_held(work.task), f"{work.name} is held again")
        work.site.apply(work.task)
    assert (stages.releasing.status, stages.applying.status) == ("interrupted",) * 2
    for work in stages.all.values():
        assert work.lines == ([] if work.name == "releasing" else [work.name]), stages.told()
    assert "was never locked" in stages.releasing.task.error
    assert "state may be incomplete" in stages.applying.task.error


def test_both_edges_pass_without_a_controller(cluster_platform, kubelet, pool, tmp_path, space):
    """Nobody enters the window: its pods stay, and what is confirmed in it starts afterwards."""
    platform = cluster_platform
    controller = platform.start_controller()
    held, later = Work(platform, tmp_path, "held"), Work(platform, tmp_path, "later")
    held.task = held.site.plan()
    wait_until(lambda: is_held(held.task), "it is held")
    controller.kill()
    uids = {pod["metadata"]["uid"] for pod in space.all_pods()}

    window = window_row(pool, begins=timedelta(seconds=1))
    begun = now() + timedelta(seconds=1)
    wait_until(lambda: now() > begun, "the window begins")
    held.site.confirmed(held.task)
    later.task = later.site.start()
    wait_for_heartbeats()
    _check_nothing_starts(held, later, "is frozen until")
    end_early(actor=held.site.actor, window=window, reason="over")
    assert not Pool.objects.get().frozen, "nobody has noticed it"

    platform.start_controller()
    held.site.wait(held.task, "applied")
    assert held.task.apply_path == "held", "by the Terraform that waited all the time"
    later.site.apply(later.site.wait(later.task, "apply_pending"))
    assert uids <= {pod["metadata"]["uid"] for pod in space.all_pods()} | gone()
    assert (held.lines, later.lines) == (["held"], ["later"])


def test_a_window_ends_while_there_is_no_controller(
    cluster_platform, kubelet, pool, tmp_path, space
):
    """It dies in the freeze: the pool stays as it is, and the next one brings all of it back."""
    platform = cluster_platform
    controller = platform.start_controller()
    held, later = Work(platform, tmp_path, "held"), Work(platform, tmp_path, "later")
    held.task = held.site.plan()
    window = window_row(pool)
    wait_until(lambda: not space.all_pods() and not unended().exists(), "the pool is frozen")
    controller.kill()
    wait_until(lambda: kubelet.survivors, "its process outlives it")
    bury_survivors(kubelet)
    later.task = later.site.start()
    end_early(actor=held.site.actor, window=window, reason="over")
    held.site.confirmed(held.task)
    _check_nothing_starts(held, later, "comes back from a freeze")
    assert Pool.objects.get().frozen and not space.all_pods()

    platform.start_controller()
    held.site.wait(held.task, "applied")
    later.site.apply(later.site.wait(later.task, "apply_pending"))
    assert (held.lines, later.lines) == (["held"], ["later"])
    history = FreezeTransition.objects.order_by("id").values_list("to_state", flat=True)
    assert list(history)[:3] == ["frozen", "reopening", "open"]


def wait_for_heartbeats():
    """Every agent has been heard twice: whatever it would start, it has heard of."""
    for _ in range(2):
        since = now()
        silent = ManagedPod.objects.filter(phase=PodPhase.ONLINE, last_heartbeat__lt=since)
        wait_until(lambda silent=silent: not silent.exists(), "the agents are heard")


def _check_nothing_starts(held, later, why):
    queue.dispatch_pass()  # nor would the job
    for work, status in ((held, "confirmed"), (later, "pending")):
        assert work.status == status, story(work.task)
        assert why in work.task.waiting_reason
    assert not ApplyPermit.objects.exists()
    assert not unended().filter(phase__in=["plan", "apply", "warmup"]).exists()
    assert held.lines == [] and later.lines == []


def gone():
    return set(ManagedPod.objects.filter(phase=PodPhase.GONE).values_list("pod_uid", flat=True))
