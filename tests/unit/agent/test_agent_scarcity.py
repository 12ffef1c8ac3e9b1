"""A full disk, no thread, a stray file: an agent goes on, and loses nothing that it was told."""

from __future__ import annotations

import errno
import os
import subprocess
import threading

import httpx
import pytest

from agents_app.agent import phase as phase_module
from agents_app.agent import report as report_module
from agents_app.agent import uploads as uploads_module
from agents_app.agent import worker as worker_module
from agents_app.agent.journal import LeaseJournal, journals, new_journal
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.agent.machine import clear
from agents_app.agent.worker import LeaseWorker
from agents_app.runner.environment import remembered_secrets
from agents_app.schema import Directive
from tests.support.agent_fakes import make_job, wait_for

SECRET = "rotated meanwhile"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(worker_module, "_REPORT_PAUSE", 0.01)
    monkeypatch.setattr(uploads_module, "_BACK_OFF_SECONDS", 0.01)


def fill_disk(monkeypatch, *events: str) -> None:
    """Let the journal find no room for some facts."""
    genuine = LeaseJournal.record

    def record(self, event, **facts):
        if event in events:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(self, event, **facts)

    monkeypatch.setattr(LeaseJournal, "record", record)


def over(agent):
    return lambda: not agent.loop.workers() and not list(journals(agent.options.directory))


def test_a_result_is_told_once_though_the_full_disk_takes_no_note_of_it(
    agent, fake, runner, monkeypatch, caplog
):
    fill_disk(monkeypatch, "over", "delivered", "ended")
    lease = fake.add()
    wait_for(lambda: lease.directive == Directive.HOLD, "the plan is reported")
    wait_for(lambda: agent.loop.reports(fake.incarnation)[0].activity == "holding", "it is held")
    lease.directive = Directive.END
    wait_for(over(agent), "it is forgotten")
    assert fake.calls.count(f"POST leases/{lease.lease_id}/finish") == 1
    assert len(lease.finished) == 1 and lease.ended
    assert "'delivered' is not on disk: No space left on device" in caplog.text


def test_a_result_outlives_any_failure_of_its_report(agent, fake, runner, monkeypatch):
    genuine, failures = report_module.Delivery.deliver, [KeyError("x"), OSError(5, "EIO")]

    def deliver(self):
        if failures:
            raise failures.pop()
        return genuine(self)

    monkeypatch.setattr(report_module.Delivery, "deliver", deliver)
    lease = fake.add()
    wait_for(lambda: lease.finished, "it is reported")
    assert lease.finished[0]["outcome"] == "planned"


def test_a_result_whose_worker_fails_stays_and_is_delivered_by_the_next_one(
    agent, fake, runner, monkeypatch
):
    genuine, failures = LeaseWorker._deliver, [RuntimeError("a defect")]

    def deliver(self, delivery):
        if failures:
            raise failures.pop()
        return genuine(self, delivery)

    monkeypatch.setattr(LeaseWorker, "_deliver", deliver)
    lease = fake.add()
    wait_for(lambda: lease.finished, "it is reported")
    assert [end["outcome"] for end in lease.finished] == ["planned"]
    assert len(runner.planned) == 1 and not lease.ended


def test_a_log_goes_on_after_a_failure_that_nobody_foresaw(agent, fake, runner, monkeypatch):
    genuine, failures = LeaseCalls.put_log, [RuntimeError("a defect")]

    def put_log(self, *arguments):
        if failures:
            raise failures.pop()
        return genuine(self, *arguments)

    monkeypatch.setattr(LeaseCalls, "put_log", put_log)
    runner.go.clear()
    lease = fake.add()
    wait_for(lambda: runner.planned and runner.planned[0].log.flush() is None, "it plans")
    wait_for(lambda: lease.log.get("plan"), "the running plan's log comes")
    assert not failures and not lease.finished
    runner.go.set()


def test_a_lease_without_a_thread_is_taken_by_a_later_poll(agent, fake, runner, monkeypatch):
    genuine, failures = threading.Thread.start, []

    def start(self):
        if self.name.startswith("lease ") and len(failures) < 2:
            failures.append(self.name)
            raise RuntimeError("can't start new thread")
        genuine(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    first, second = fake.add(), fake.add()
    wait_for(lambda: first.finished and second.finished, "both are planned")
    assert len(failures) == 2 and len(runner.planned) == 2


def test_a_lease_that_cannot_be_noted_leaves_no_descriptor_open(agent, fake, runner, monkeypatch):
    closed = []
    genuine = LeaseJournal.close
    monkeypatch.setattr(LeaseJournal, "close", lambda self: closed.append(self) or genuine(self))
    with monkeypatch.context() as full:
        fill_disk(full, "lease")
        lease = fake.add()
        wait_for(lambda: closed, "it is not taken")
        assert not agent.loop.workers()
    wait_for(lambda: lease.finished, "there is room again, and it is planned")


def test_the_secrets_of_an_own_lease_survive_the_clearing_and_those_of_nobody_go(
    fake, new_agent, runner
):
    agent, lease = new_agent(), fake.add(listed=False)
    journal = new_journal(agent.options.directory, lease.lease_id)
    journal.record(
        "lease",
        epoch=1,
        task=str(lease.job.task_id),
        workspace=str(lease.job.workspace_id),
        incarnation=str(fake.incarnation),
    )
    journal.record("begun", phase="apply")
    journal.record("permit_granted", seconds=60)
    journal.close()
    own = agent.machine.directory(lease.job.workspace_id, lease.job.task_id).home
    nobodys = own.with_name("01890a5d-ac96-774b-bcce-b302099a8057")
    for home in (own, nobodys):
        home.mkdir(parents=True)
        (home / "secrets.json").write_text(f'["{SECRET}"]')
    fake.refuse = lambda call: httpx.Response(503)
    agent.start()
    clear(agent.machine, agent.loop.tasks())
    assert remembered_secrets(own) == [SECRET]
    assert not nobodys.exists()


def test_a_directory_that_an_orphan_has_is_waited_for_in_words(agent, fake, runner, monkeypatch):
    """Of an agent that was killed and does not come back."""
    monkeypatch.setattr(phase_module, "IN_USE_SECONDS", 1.0)
    job = make_job()
    directory = agent.machine.directory(job.workspace_id, job.task_id)
    directory.acquire()
    directory.create_anew()
    orphan = subprocess.Popen(["/bin/sleep", "600"], pass_fds=[directory.lock_descriptor])
    directory.release()
    who = f"It is sleep (process {orphan.pid}). If an agent that was killed left it, "
    try:
        lease = fake.add(job=job)
        wait_for(lambda: who in lease.log.get("plan", b"").decode(), "it says so while it waits")
        wait_for(lambda: lease.finished, "it gives up")
    finally:
        orphan.kill()
        orphan.wait()
    assert lease.finished[0]["outcome"] == "not_started" and runner.planned == []
    assert f"is still in use by another process. {who}" in lease.finished[0]["error"]
