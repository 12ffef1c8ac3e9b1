"""Many tasks while everything dies at random: none is lost, none applied twice, nothing leaks.

A pool in the cluster and one of local processes, two controllers, the worker and the server.
Each task's one resource adds a line with the task's own name to a file when it is really created.
The full size is asked for: ``--stress-tasks 100 --stress-kills 80``.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import psutil
import pytest
from django.db.models import Count

from pods_app.leases import repair_slots, unended
from pods_app.models import ApplyPermit, ManagedPod, PodSlot, Pool, WorkDirectory
from pods_app.states import PodPhase, PoolKind, SlotStatus
from pods_app.work_directories import cleanup
from tasks_app.exceptions import SlipwayError
from tasks_app.models import Confirmation, Event, Task
from tasks_app.services.tasks import acknowledge_task, resolve_task
from tasks_app.states import FINAL, Status, TaskType
from tests.support.chaos import Chaos
from tests.support.configurations import Counter as Lines
from tests.support.factories import make_pool
from tests.support.invariants import check_all
from tests.support.programs import PATIENCE, processes_below, wait_until
from tests.support.sites import story

#: Tasks of one workspace, one after the other.
_TASKS_OF_A_SITE = 3.3
_PODS, _LOCAL_PODS = 3, 2
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
#: An apply that nobody has heard of for so long is looked at by a person, in seconds.
_PATIENCE_OF_A_PERSON = 6


def naming(lines: Lines) -> dict[str, str]:
    """A configuration that is new for each value of ``run`` and adds that to ``lines``."""
    return {
        "main.tf": f"""
variable "run" {{
  type = string
}}

resource "terraform_data" "counted" {{
  triggers_replace = [var.run]
  provisioner "local-exec" {{
    command = "echo ${{var.run}} >> {lines.path}; sleep 1"
  }}
}}
"""
    }


class Story:
    """Everybody's tasks, and the person who confirms and judges them."""

    def __init__(self, platform, lines, dice, number):
        self.platform, self.lines, self.dice = platform, lines, dice
        self.sites, self.tasks = [], {}
        #: What tasks said before a person judged them, by primary key.
        self.unknown: dict = {}
        for count in range(max(round(number / _TASKS_OF_A_SITE), 2)):
            kind = PoolKind.KUBERNETES if count % 3 else PoolKind.LOCAL
            pool = Pool.objects.get(kind=kind)
            self.sites.append(platform.site(naming(lines), pool=pool))
        for count in range(number):
            site = self.sites[count % len(self.sites)]
            site.set("run", f"run-{count}")
            kind = TaskType.PLAN if dice.random() < 0.1 else TaskType.PLAN_AND_APPLY
            self.tasks[f"run-{count}"] = site.start(type=kind)

    @property
    def local_sites(self):
        return self.sites[::3]

    def go_on(self):
        """Do what a person does now; returns whether everything is over."""
        present = Task.objects.in_bulk()
        self.tasks = {name: present[task.pk] for name, task in self.tasks.items()}
        for name, task in self.tasks.items():
            try:
                self._look_at(name, task)
            except (httpx.HTTPError, SlipwayError):
                continue  # the server is away, or it went on meanwhile: look again
        return all(
            task.status in FINAL and (task.status != Status.INTERRUPTED or task.acknowledged_at)
            for task in self.tasks.values()
        )

    def _look_at(self, name, task):
        actor = self.sites[0].actor
        if task.status == Status.APPLY_PENDING and self.dice.random() < 0.3:
            body = {"plan_hash": task.plan_hash}
            self.platform.request("POST", f"tasks/{task.pk}/apply/", json=body)
        elif task.status == Status.INTERRUPTED and not task.acknowledged_at:
            acknowledge_task(actor=actor, task_id=task.pk, comment="looked")
        elif task.status == Status.APPLY_UNKNOWN:
            since = self.unknown.setdefault(task.pk, time.monotonic())
            if time.monotonic() - since > _PATIENCE_OF_A_PERSON:
                resolve_task(
                    actor=actor,
                    task_id=task.pk,
                    verdict="interrupted",
                    comment=f"{self.lines.lines.count(name)} times",
                )

    @property
    def words(self):
        states = Counter(task.status for task in self.tasks.values())
        return ", ".join(f"{number} {status}" for status, number in sorted(states.items()))

    def unfinished(self):
        """Yield the stories of what is not over, and the pods there are."""
        yield from (story(task) for task in self.tasks.values() if task.status not in FINAL)
        for pod in ManagedPod.objects.exclude(phase=PodPhase.GONE):
            yield f"{pod.pod_name} is {pod.phase}, launch {pod.failed_launches}: {pod.phase_reason}"

    # --- judging --------------------------------------------------------------------------

    def judge(self):
        """Compare what each task says with what really happened."""
        applied = Counter(self.lines.lines)
        for name, task in self.tasks.items():
            told = f"{name} was created {applied[name]} times\n{story(task)}"
            assert task.status in FINAL, told
            assert applied[name] <= 1, told
            confirmed = Confirmation.objects.filter(task=task).exists()
            match task.status:
                case Status.APPLIED:
                    assert applied[name] == 1 and confirmed, told
                    assert task.state_versions.exists(), told
                case Status.SUCCESS:
                    assert task.type == TaskType.PLAN and not applied[name], told
                case Status.INTERRUPTED:
                    assert confirmed and task.error, told
                case Status.FAILED:
                    # Agents lost too often before the permit: said, and nothing was applied.
                    assert task.error and not applied[name], told
                case _:
                    raise AssertionError(f"nobody asked for that: {told}")
        assert set(applied) <= set(self.tasks), "something else was applied"
        assert Task.objects.count() == len(self.tasks)
        twice = ApplyPermit.objects.values("task").annotate(n=Count("pk")).filter(n__gt=1)
        assert not twice.exists()
        granted = Event.objects.filter(kind="task.applying", from_status=Status.CONFIRMED)
        assert granted.count() == granted.values("task").distinct().count()
        check_all()


@pytest.fixture
def pools(cluster_platform):
    make_pool(name="pool", kind=PoolKind.KUBERNETES, max_pods=_PODS, is_default=True)
    make_pool(name="local", kind=PoolKind.LOCAL, min_pods=1, max_pods=_LOCAL_PODS)


@pytest.mark.timeout(1800)
def test_nothing_is_lost_doubled_or_left(
    cluster_platform, kubelet, pools, space, tmp_path, pytestconfig
):
    seed = pytestconfig.getoption("stress_seed")
    kills = pytestconfig.getoption("stress_kills")
    platform, dice = cluster_platform, random.Random(seed)
    controllers = [platform.start_controller(), platform.start_controller()]
    chaos = Chaos(platform, kubelet, controllers, platform.start_worker(), dice)
    lines = Lines(tmp_path / "lines")
    people = Story(platform, lines, dice, pytestconfig.getoption("stress_tasks"))
    kubelet.hears_after = 3.0  # its process outlives an object that was removed by force
    kubelet.spared = {str(site.workspace.pk) for site in people.local_sites}
    try:
        for _ in range(kills):
            ends = time.monotonic() + dice.uniform(0.2, 2.0)
            while time.monotonic() < ends and not people.go_on():
                time.sleep(0.1)
            if people.go_on():
                break
            chaos.strike()
        _finish(people)
        people.judge()
        _leave_nothing(platform, kubelet, space)
    except AssertionError as error:
        told = "\n".join([*people.unfinished(), *chaos.strikes])
        raise AssertionError(f"seed {seed}: {error}\n{people.words}\n{told}") from error
    print(f"\n{people.words}; {dict(Counter(one.partition(':')[0] for one in chaos.strikes))}")


def _finish(people):
    """Wait until everything is over; something must go on all the time.

    After so many failures in a row a pool waits for minutes until it makes another pod: these
    pass at once.
    """
    progress, since = "", time.monotonic()
    while not people.go_on():
        if progress != (progress := f"{people.words} {Event.objects.count()}"):
            since = time.monotonic()
        assert time.monotonic() - since < PATIENCE, "nothing goes on any more"
        ManagedPod.objects.filter(phase=PodPhase.GONE).update(last_launch_at=LONG_AGO)
        time.sleep(0.1)


def _leave_nothing(platform, kubelet, space):
    """Once all is over no slot, directory, lease, process or pod is left."""
    wait_until(lambda: not unended().exists(), "every lease is over")
    assert repair_slots() == 0
    assert not PodSlot.objects.exclude(status=SlotStatus.IDLE).exists()
    _none_left(platform.terraforms, "no Terraform runs")
    _leave_no_directory(platform)
    Pool.objects.update(min_pods=0)
    wait_until(
        lambda: not ManagedPod.objects.exclude(phase=PodPhase.GONE).exists(), "no pod is left"
    )
    wait_until(lambda: not space.all_pods() and not kubelet.pods, "nor in the cluster")
    assert not WorkDirectory.objects.exclude(state="deleted").exists()
    ours = {program.pid for program in platform.programs if program.alive}
    _none_left(lambda: _strangers(platform, ours), "no process is left over")


def _none_left(find, what):
    """Wait until there are no such processes; those that stay are named."""
    try:
        wait_until(lambda: not find(), what)
    except AssertionError as error:
        told = [one.as_dict(["pid", "ppid", "cmdline", "cwd", "status"]) for one in find()]
        raise AssertionError(f"{error}: {told}") from None


def _leave_no_directory(platform):
    """Directories of local agents that are gone for good, another agent takes over in time."""
    local_tasks = {
        str(pk)
        for pk in Task.objects.filter(placement__pool__name="local").values_list("pk", flat=True)
    }

    def left():
        found = list((platform.work / "workspaces").glob("*/*"))
        # Of pods the disk goes, with all that lies beside the work directories.
        return found + [
            home for home in (platform.work / "homes").glob("*") if home.name in local_tasks
        ]

    def cleaned():
        for lock in (platform.work / "agents").glob("*/lock"):
            with suppress(FileNotFoundError):
                os.utime(lock, (0, 0))  # a living agent touches it with each heartbeat
        cleanup(everything_idle=True)
        return not left()

    try:
        wait_until(cleaned, "no work directory is left")
    except AssertionError as error:
        rows = WorkDirectory.objects.filter(task__in=[folder.name for folder in left()])
        told = [f"{row.path} of {row.pod} is {row.state}: {row.reason}" for row in rows]
        raise AssertionError(f"{error}: {left()}\n" + "\n".join(told)) from None


def _strangers(platform, ours):
    """The processes of the platform that are neither its programs nor their children."""
    found = []
    for process in processes_below(platform.directory):
        try:
            if not ours & {process.pid, *(parent.pid for parent in process.parents())}:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
