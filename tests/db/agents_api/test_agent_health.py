import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from agents_app import jobs
from agents_app.health import check_agents, note_listening, silent_pods
from agents_app.models import Listening
from pods_app import controller
from pods_app.models import Lease, ManagedPod, WorkDirectory
from pods_app.states import PodPhase
from tasks_app.models import Event
from tasks_app.models.base import ClockTimestamp
from tests.support.factories import finish_planning, make_pod, make_task

pytestmark = pytest.mark.django_db


def ago(**duration):
    return ClockTimestamp() - timedelta(**duration)


def listened(since, seen=None):
    Listening.objects.all().delete()
    note_listening()
    Listening.objects.update(since=ago(**since), seen_at=ago(**(seen or {"seconds": 0})))


@pytest.fixture
def pod(pool):
    listened({"hours": 1})
    return make_pod(pool)


def silence(pod, **duration):
    ManagedPod.objects.filter(pk=pod.pk).update(last_heartbeat=ago(**duration))


def phase(pod):
    pod.refresh_from_db()
    return pod.phase


def test_a_silent_agent_is_lost_and_its_work_returns(pod):
    task = make_task()
    silence(pod, seconds=61)
    assert [lost.pk for lost in check_agents()] == [pod.pk]
    assert phase(pod) == PodPhase.LOST
    task.refresh_from_db()
    assert task.status == "pending"
    assert "61 s" in Event.objects.get(kind="pod.lost").cause
    assert check_agents() == [], "once"


def test_an_agent_that_was_heard_is_not_lost(pod):
    silence(pod, seconds=50)
    assert check_agents() == []
    assert phase(pod) == PodPhase.ONLINE


def test_nobody_is_lost_while_nobody_listens(pod):
    silence(pod, minutes=30)
    listened({"hours": 1}, seen={"seconds": 30})
    assert check_agents() == [], "the web processes are down, the agents may be well"
    Listening.objects.all().delete()
    assert check_agents() == []


def test_after_an_outage_everybody_gets_the_whole_time_anew(pod, settings):
    """Database or server were away for half an hour; agents still back off."""
    silence(pod, minutes=30)
    listened({"hours": 1}, seen={"minutes": 29})
    note_listening()
    assert check_agents() == []
    Listening.objects.update(since=ago(seconds=settings.SLIPWAY.agent_lost_seconds - 5))
    assert check_agents() == []
    Listening.objects.update(since=ago(seconds=settings.SLIPWAY.agent_lost_seconds + 5))
    assert len(check_agents()) == 1


def test_notes_without_a_gap_keep_their_beginning(db):
    listened({"hours": 1}, seen={"seconds": 4})
    before = Listening.objects.get().since
    note_listening()
    row = Listening.objects.get()
    assert row.since == before
    assert row.seen_at > before


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_a_jump_of_the_databases_clock_declares_nobody_lost(pod, jump):
    """Seen from after the jump, every stored time lies an hour away."""
    ManagedPod.objects.update(last_heartbeat=ClockTimestamp() - jump)
    Listening.objects.update(seen_at=ClockTimestamp() - jump)
    assert check_agents() == []
    note_listening()
    assert check_agents() == []


def test_the_hub_notes_that_it_listens(agent, hub):
    assert hub.listening.wait(10)
    for _ in range(100):
        if Listening.objects.exists():
            break
        hub.listening.wait(0)
        import time

        time.sleep(0.05)
    assert Listening.objects.exists()


def test_one_query_says_that_all_is_well(pod, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert list(silent_pods()) == []


def test_the_controller_and_the_job_check_agents(pod):
    silence(pod, hours=1)
    assert jobs.check_agents() == 1
    ManagedPod.objects.update(phase=PodPhase.ONLINE)
    controller.controller_pass()
    assert phase(pod) == PodPhase.LOST


def run_command(*arguments):
    out = StringIO()
    code = 0
    try:
        call_command("check_agents", *arguments, stdout=out)
    except SystemExit as end:
        code = end.code
    return code, out.getvalue()


def test_the_command_shows_every_agent(pod):
    code, text = run_command()
    assert (code, phase(pod)) == (0, PodPhase.ONLINE)
    assert f"{pod.pool.name}/{pod.pod_name}: online, last heard" in text
    assert "slots 3 idle of 3, directories 0 (0 B), terraform 1.11.4" in text


def test_the_command_tells_programs_what_agents_have(pod, settings):
    task = finish_planning(make_task())
    Lease.objects.filter(task=task).update(held=True)
    WorkDirectory.objects.create(task=task, pod=pod, path="/a", bytes=7)
    ManagedPod.objects.update(providers=["example.com/a/b 1.0.0"])
    document = json.loads(run_command("--json")[1])
    assert document["lost_after_seconds"] == settings.SLIPWAY.agent_lost_seconds
    assert document["unknown_after_seconds"] < document["lost_after_seconds"]
    (row,) = document["agents"]
    assert row["slots"] == {"total": 3, "idle": 2, "running": 0, "reserved": 1}
    assert (row["held_applies"], row["directories"], row["directory_bytes"]) == (1, 1, 7)
    assert row["providers"] == ["example.com/a/b 1.0.0"]
    assert row["engines"] == [{"engine": "terraform", "version": "1.11.4"}]
    assert row["draining"] is False


def test_the_command_declares_silent_agents_lost(pod):
    silence(pod, minutes=5)
    code, text = run_command("--json")
    document = json.loads(text)
    assert (code, document["lost"], phase(pod)) == (0, 1, PodPhase.LOST)
    assert document["agents"][0]["health"] == "lost"
    assert document["agents"][0]["declared_lost"] is True
    assert json.loads(run_command("--json")[1])["lost"] == 0


def test_a_dry_run_changes_nothing_and_says_so_by_its_code(pod):
    assert run_command("--dry-run")[0] == 0
    silence(pod, minutes=5)
    code, text = run_command("--dry-run")
    assert (code, phase(pod)) == (3, PodPhase.ONLINE)
    assert "would be declared lost" in text


def test_the_command_without_agents(db):
    assert run_command() == (0, "No agent is registered.\n")
