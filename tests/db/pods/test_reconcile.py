"""Pods of local processes, with a small program in the place of the agent."""

import os
import signal
import stat
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.management import call_command

from pods_app import leases, reconcile
from pods_app.hosting import local
from pods_app.hosting.local import LocalHosting, start_time
from pods_app.models import ManagedPod, PodSlot, Pool, PoolToken
from pods_app.reconcile import reconcile_pods, stop_pods
from pods_app.registration import hash_token, heartbeat, register_pod
from pods_app.services import drain_if_free, drain_pod, lose_pod
from pods_app.states import PoolKind
from tasks_app.actors import Actor
from tasks_app.models import Task
from tasks_app.models.base import ClockTimestamp
from tasks_app.states import Status
from tests.support.factories import make_admin, make_pod, make_pool, make_task, make_waiting_task

pytestmark = pytest.mark.django_db
SYSTEM = Actor.system("test")

STAYS = "import sys, time; print('agent here', flush=True); time.sleep(600)"
ENDS = "raise SystemExit('no Terraform on this machine')"


@pytest.fixture
def program(settings, tmp_path):
    """Write what `manage.py` shall be, and end every process it became."""
    settings.BASE_DIR = tmp_path
    settings.SLIPWAY = _with(settings.SLIPWAY, agents_directory=tmp_path / "agents")

    def write(source):
        (tmp_path / "manage.py").write_text(source)

    write(STAYS)
    yield write
    for pid in {pod.process_id for pod in ManagedPod.objects.exclude(process_id=None)}:
        if start_time(pid):
            os.kill(pid, signal.SIGKILL)
    _wait(lambda: not any(_runs(pod) for pod in ManagedPod.objects.exclude(process_id=None)))


@pytest.fixture(autouse=True)
def hosting(monkeypatch):
    hosting = LocalHosting()
    monkeypatch.setitem(reconcile._HOSTINGS, PoolKind.LOCAL, hosting)
    yield hosting
    hosting.alive(ManagedPod())  # collects the dead


@pytest.fixture
def pool():
    return make_pool(name="local", kind=PoolKind.LOCAL, min_pods=1)


def _with(slipway, **changes):
    from dataclasses import replace

    return replace(slipway, **changes)


def _wait(condition):
    while not condition():
        time.sleep(0.02)


def _runs(pod):
    return start_time(pod.process_id) == pod.process_started


def the_pod():
    return ManagedPod.objects.exclude(phase="gone").get()


def kill(pod):
    os.kill(pod.process_id, signal.SIGKILL)
    _wait(lambda: not _runs(pod))


def backdate(seconds):
    ManagedPod.objects.update(last_launch_at=ClockTimestamp() - timedelta(seconds=seconds))


def register(pod, **fields):
    return register_pod(
        **{
            "pool": pod.pool,
            "pod_name": pod.pod_name,
            "pod_uid": pod.pod_uid,
            "engines": [{"engine": "terraform", "version": "1.11.4"}],
            "slots": 3,
            "agent_id": pod.pk,
            **fields,
        }
    )


def test_a_pod_is_created_and_its_agent_started(program, pool):
    assert [c.action for c in reconcile_pods(pool, dry_run=True)] == ["create"]
    assert not ManagedPod.objects.exists()
    assert [c.action for c in reconcile_pods(pool)] == ["create", "start"]
    pod = the_pod()
    assert _runs(pod)
    assert pod.slots.count() == 3
    assert os.getsid(pod.process_id) == pod.process_id
    assert reconcile_pods(pool) == []


def test_an_agent_gets_a_clean_environment_and_a_private_token(program, pool, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "never for an agent")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nor this")
    reconcile_pods(pool)
    pod = the_pod()
    environment = Path(f"/proc/{pod.process_id}/environ").read_text()
    for name in ("SECRET_KEY", "DATABASE_URL", "ENCRYPTION", "AWS"):
        assert name not in environment
    file = django_settings.SLIPWAY.agents_directory / pod.pod_name / "pool-token"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert PoolToken.objects.get(token_hash=hash_token(file.read_text())).pool == pool


def test_a_dead_agent_is_started_again_with_the_same_uid(program, pool):
    reconcile_pods(pool)
    first = the_pod()
    kill(first)
    assert reconcile_pods(pool) == [], "not at once after a start"
    backdate(3)
    assert [c.action for c in reconcile_pods(pool)] == ["start"]
    again = the_pod()
    assert again.pod_uid == first.pod_uid
    assert again.process_id != first.process_id
    assert _runs(again)
    assert PoolToken.objects.filter(pool=pool).count() == 1, "tokens of former launches go"


def test_another_controller_adopts_the_agent(program, pool, hosting, monkeypatch):
    reconcile_pods(pool)
    pod = the_pod()
    monkeypatch.setitem(reconcile._HOSTINGS, PoolKind.LOCAL, LocalHosting())
    assert reconcile_pods(pool) == []
    assert the_pod().process_id == pod.process_id


def test_an_agent_whose_start_was_never_noted_is_found(program, pool):
    """The controller died between the start and the row."""
    reconcile_pods(pool)
    pod = the_pod()
    _wait(lambda: b"run_agent" in Path(f"/proc/{pod.process_id}/cmdline").read_bytes())
    ManagedPod.objects.update(process_id=None, process_started="")
    backdate(100)
    assert reconcile_pods(pool) == []
    assert the_pod().process_id == pod.process_id


def test_a_reused_process_id_is_not_taken_for_the_agent(program, pool):
    reconcile_pods(pool)
    pod = the_pod()
    kill(pod)
    ManagedPod.objects.update(process_id=os.getpid())
    backdate(100)
    assert [c.action for c in reconcile_pods(pool)] == ["start"]


def test_a_crash_loop_backs_off_and_says_why(program, pool):
    program(ENDS)
    pauses = []
    for _ in range(7):
        backdate(10_000)
        reconcile_pods(pool)
        pod = the_pod()
        _wait(lambda pod=pod: not _runs(pod))
        pause = min(2**pod.failed_launches, reconcile.BACK_OFF_SECONDS_MAX)
        backdate(pause - 1)
        assert reconcile_pods(pool) == []
        pauses.append(pause)
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    reason = the_pod().phase_reason
    assert "7 times" in reason
    assert "no Terraform on this machine" in reason


def test_an_agent_that_ran_for_a_while_was_started_well(program, pool):
    reconcile_pods(pool)
    assert the_pod().failed_launches == 1
    backdate(reconcile.HEALTHY_SECONDS + 1)
    reconcile_pods(pool)
    assert the_pod().failed_launches == 0


def test_an_agent_that_cannot_register_gets_another_token(program, pool):
    reconcile_pods(pool)
    before = PoolToken.objects.get(pool=pool)
    backdate(reconcile.RENEW_SECONDS + 1)
    reconcile_pods(pool)
    assert PoolToken.objects.get(pool=pool) == before, "a fresh token may still be used"
    PoolToken.objects.update(created_at=ClockTimestamp() - timedelta(hours=1))
    reconcile_pods(pool)
    after = PoolToken.objects.get(pool=pool)
    assert after != before
    file = django_settings.SLIPWAY.agents_directory / the_pod().pod_name / "pool-token"
    assert after.token_hash == hash_token(file.read_text())


def test_a_frozen_pool_starts_no_agent(program, pool):
    Pool.objects.update(frozen=True)
    pool.refresh_from_db()
    assert reconcile_pods(pool) == []
    assert not ManagedPod.objects.exists()


def test_pods_that_are_too_many_end_when_they_are_free(program, pool):
    Pool.objects.update(min_pods=2)
    pool.refresh_from_db()
    reconcile_pods(pool)
    oldest, youngest = ManagedPod.objects.order_by("created_at", "id")
    register(oldest)
    task = make_task()  # on the oldest
    register(youngest)
    other = make_task()
    leases.end(leases.lease_of(task), actor=SYSTEM, reason="over")
    Task.objects.filter(pk=task.pk).update(status=Status.CANCELLED)
    assert {s.pod for s in PodSlot.objects.exclude(status="idle")} == {oldest}, "the fullest"
    Pool.objects.update(min_pods=0)
    pool.refresh_from_db()
    reconcile_pods(pool)
    _wait(lambda: not _runs(youngest))
    reconcile_pods(pool)
    assert the_pod() == oldest, "it has work"
    assert _runs(oldest)
    leases.end(leases.lease_of(other), actor=SYSTEM, reason="over")
    Task.objects.update(status=Status.CANCELLED)
    Pool.objects.update(scale_down_delay_seconds=60)
    pool.refresh_from_db()
    assert reconcile_pods(pool) == [], "it worked a moment ago"
    PodSlot.objects.update(updated_at=ClockTimestamp() - timedelta(seconds=61))
    assert [c.action for c in reconcile_pods(pool)] == ["end"]
    _wait(lambda: not _runs(oldest))
    reconcile_pods(pool)
    assert not ManagedPod.objects.exclude(phase="gone").exists()


def test_a_drained_pod_that_was_never_asked_to_end_comes_back(program, pool):
    """Whoever drained it died before it asked; meanwhile the pool wants it again."""
    reconcile_pods(pool)
    pod = the_pod()
    register(pod)
    assert drain_if_free(pod.pk, actor=SYSTEM, reason=reconcile.TOO_MANY)
    reconcile_pods(pool)
    _wait(lambda: not _runs(pod))
    backdate(10)
    assert [c.action for c in reconcile_pods(pool)] == ["start"]
    again = the_pod()
    assert again == pod
    assert not again.draining


def test_a_pool_of_another_kind_ends_its_processes(program, pool):
    reconcile_pods(pool)
    pod = the_pod()
    Pool.objects.update(kind=PoolKind.STATIC)
    pool.refresh_from_db()
    reconcile_pods(pool)
    _wait(lambda: not _runs(pod))
    reconcile_pods(pool)
    assert not ManagedPod.objects.exclude(phase="gone").exists()
    assert not PoolToken.objects.exists()


def test_pods_of_another_machine_are_left_alone_until_they_are_lost(program, pool):
    """A worker or a standby controller elsewhere must not start a second agent for a pod."""
    pod = ManagedPod.objects.create(
        pool=pool,
        pod_name="local-0",
        pod_uid="elsewhere",
        kind=PoolKind.LOCAL,
        host="another-machine",
        last_launch_at=ClockTimestamp(),
    )
    register(pod)
    assert reconcile_pods(pool) == []
    assert stop_pods(pool) == 0
    lose_pod(pod.pk, actor=SYSTEM, cause="silent")
    assert [c.action for c in reconcile_pods(pool)] == ["forget", "create", "start"]
    assert the_pod().host == local.socket.gethostname()
    assert the_pod().pod_name == "local-0"


def test_stopping_asks_once(program, pool):
    program(
        "import signal, time\nsignal.signal(15, lambda *_: print('asked', flush=True))\n"
        "print('ready', flush=True)\nwhile True: time.sleep(600)"
    )
    reconcile_pods(pool)
    log = django_settings.SLIPWAY.agents_directory / "local-0" / "agent.log"
    _wait(lambda: "ready" in log.read_text())
    assert stop_pods(pool) == 1
    assert stop_pods(pool) == 1
    _wait(lambda: "asked" in log.read_text())
    assert log.read_text().count("asked") == 1, "a second signal would mean hurry"


def test_what_an_agent_said_of_itself_ends_with_its_process(pool):
    """Stopped by a signal and started again: the pool of one pod takes work again."""
    pod = make_pod(pool)
    facts = {"engines": pod.engines, "providers": [], "disk_total_bytes": 1 << 40}
    facts["disk_free_bytes"] = 1 << 40
    heartbeat(pod, draining=True, **facts)
    task = make_task()
    assert "none of pool local is online" in task.waiting_reason
    register(pod, pool=pool)
    from pods_app.queue import dispatch_pass

    assert dispatch_pass() == 1
    admin = Actor.person(make_admin())
    drain_pod(actor=admin, pod_id=pod.pk, reason="repair")
    register(pod, pool=pool)
    pod.refresh_from_db()
    assert (pod.draining, pod.phase_reason) == (True, "repair"), "an operator's draining stays"


@pytest.mark.django_db(transaction=True)
def test_a_successor_of_the_same_name_returns_the_work(pool):
    task = make_waiting_task()
    planning = make_task()
    pod = leases.lease_of(task).slot.pod
    ManagedPod.objects.update(last_heartbeat=ClockTimestamp() - timedelta(minutes=1))
    successor = register(pod, pool=pool, pod_uid="another", agent_id=planning.pk)
    pod.refresh_from_db()
    assert pod.phase == "gone"
    assert leases.lease_of(task).slot.pod == successor, "made ready again"
    assert leases.lease_of(planning).slot.pod == successor, "planned again by the new pod"


def test_commands_speak_json_and_use_the_exit_codes(program, pool, capsys):
    with pytest.raises(SystemExit) as exit_:
        call_command("reconcile_pods", "--dry-run", "--json")
    assert exit_.value.code == 3
    assert '"action": "create"' in capsys.readouterr().out
    call_command("reconcile_pods", "--pool", "local")
    call_command("reconcile_pods", "--dry-run")  # nothing to do: 0


@pytest.mark.parametrize("hours", ["0", "nan"])
def test_a_token_for_no_time_is_a_usage_error(hours):
    make_pool(name="main")
    command = [sys.executable, "manage.py", "create_pool_token", "main", "--hours", hours]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "hours" in ended.stderr
