"""Real controllers: one works, another takes over; agents outlive them."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from django.db import connection

from pods_app import controller
from pods_app.models import ManagedPod
from pods_app.notify import listener
from pods_app.states import PodPhase, PoolKind
from tasks_app.models import SingleFlight
from tasks_app.states import Status
from tests.support.factories import make_pool, make_task
from tests.support.programs import wait_until


def holder() -> int | None:
    """The process id of the active controller."""
    row = SingleFlight.objects.filter(name=controller.LEASE).first()
    return int(row.holder.split(":")[1]) if row else None


def placed(task) -> bool:
    task.refresh_from_db()
    return task.status != Status.PENDING


def the_agent() -> ManagedPod | None:
    """The pod of the only local agent, once it is online and its process is known."""
    return ManagedPod.objects.filter(
        kind=PoolKind.LOCAL, phase=PodPhase.ONLINE, process_id__isnull=False
    ).first()


def agent_runs(pod: ManagedPod) -> bool:
    try:
        return psutil.Process(pod.process_id).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_of_two_controllers_one_works_and_the_other_takes_over(platform):
    first = platform.start_controller()
    wait_until(lambda: holder() == first.pid, "the first is active")
    second = platform.start_controller()
    first.kill()
    wait_until(lambda: holder() == second.pid, "the other has taken over")
    make_pool(kind=PoolKind.STATIC)
    task = make_task()  # no agent yet, and nobody but the controller places it later
    platform.start_agent()
    wait_until(lambda: placed(task), "the survivor works")
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    assert holder() is None, "it gave its lease back"


def test_a_controller_survives_the_loss_of_its_connections(platform):
    program = platform.start_controller()
    wait_until(lambda: holder() == program.pid, "it is active")
    connection.close()
    connection.close_pool()  # this process's own, which would go with the others
    with listener("unused", "test") as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    SingleFlight.objects.all().delete()
    wait_until(lambda: holder() == program.pid, "it is active again")
    assert program.alive


@pytest.mark.usefixtures("provider_mirror")
def test_agents_outlive_their_controller_and_are_adopted(platform):
    make_pool(name="local", kind=PoolKind.LOCAL, min_pods=1)
    first = platform.start_controller()
    wait_until(the_agent, "the agent is online")
    pod = the_agent()
    assert pod is not None
    first.kill()
    second = platform.start_controller()
    wait_until(lambda: holder() == second.pid, "the second is active")
    started = ManagedPod.objects.get(pk=pod.pk).last_launch_at
    wait_until(lambda: second.log.read_text() != "", "it has looked")
    now = the_agent()
    assert now is not None
    assert (now.pk, now.process_id) == (pod.pk, pod.process_id)
    assert agent_runs(now)

    os.kill(pod.process_id, signal.SIGKILL)
    wait_until(lambda: not agent_runs(pod), "the agent is dead")

    def again() -> bool:
        row = ManagedPod.objects.get(pk=pod.pk)
        return row.process_id != pod.process_id and row.last_launch_at > started

    wait_until(again, "the agent was started again")
    row = ManagedPod.objects.get(pk=pod.pk)
    assert row.pod_uid == pod.pod_uid
    assert ManagedPod.objects.filter(kind=PoolKind.LOCAL).count() == 1
    task = make_task()
    wait_until(lambda: task.__class__.objects.get(pk=task.pk).is_final, "the agent works again")

    third = platform.manage("run_controller", "--help")
    assert third.exit_code == 0
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    assert agent_runs(ManagedPod.objects.get(pk=pod.pk)), "agents outlive an orderly end too"
