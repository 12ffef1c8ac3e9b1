"""The directories of a machine that several agents share."""

from __future__ import annotations

import os
import time
from uuid import uuid4

import pytest

from agents_app.agent import directories as directories_module
from agents_app.agent.directories import Directories
from agents_app.agent.hold_memory import HoldMemory
from agents_app.agent.machine import Machine, clear
from agents_app.agent.owners import Owners
from agents_app.runner.providers import ProviderMirror
from agents_app.runner.workdir import WorkDirectory


def make(base, task_id=None) -> WorkDirectory:
    directory = WorkDirectory(base, uuid4(), task_id or uuid4())
    directory.acquire()
    directory.create_anew()
    (directory.config / "main.tf").write_text("x" * 100)
    directory.release()
    return directory


@pytest.fixture
def new_agent(tmp_path):
    made = []

    def make_agent(name: str) -> tuple[Owners, Directories]:
        owners = Owners(tmp_path, name)
        made.append(owners)
        return owners, Directories(tmp_path, owners)

    return make_agent


def tasks(directories: Directories) -> list[object]:
    return sorted(report.task_id for report in directories.reports())


def test_a_directory_is_reported_by_the_agent_that_works_in_it(tmp_path, new_agent):
    (a, of_a), (b, of_b) = new_agent("a"), new_agent("b")
    task_id = uuid4()
    b.claim(task_id)
    made = make(tmp_path, task_id)
    assert tasks(of_a) == []
    (report,) = of_b.reports()
    assert (report.workspace_id, report.task_id) == (made.workspace_id, task_id)
    assert report.bytes >= 100
    assert report.last_used_seconds_ago < 600

    a.claim(task_id)
    assert tasks(of_a) == [task_id]
    assert tasks(of_b) == []


def test_a_directory_that_nobody_claims_is_reported_once(tmp_path, new_agent):
    (_, of_a), (_, of_b) = new_agent("a"), new_agent("b")
    made = make(tmp_path)
    assert tasks(of_a) == [made.task_id]
    assert tasks(of_b) == []


def test_what_an_agent_left_for_good_is_taken_over(tmp_path, new_agent):
    (a, of_a), (_, of_b) = new_agent("a"), new_agent("b")
    made = make(tmp_path)
    assert tasks(of_a) == [made.task_id]
    a.close()
    assert tasks(of_b) == [], "it may only be restarting"
    long_ago = time.time() - 3600
    os.utime(tmp_path / "agents" / "a" / "lock", (long_ago, long_ago))
    assert tasks(of_b) == [made.task_id]
    assert not (tmp_path / "agents" / "a").exists()


def test_a_living_agent_is_never_taken_over(tmp_path, new_agent):
    (_, of_a), (_, of_b) = new_agent("a"), new_agent("b")
    made = make(tmp_path)
    assert tasks(of_a) == [made.task_id]
    long_ago = time.time() - 3600
    os.utime(tmp_path / "agents" / "a" / "lock", (long_ago, long_ago))
    assert tasks(of_b) == []


def test_an_agent_that_was_taken_for_gone_begins_anew(tmp_path, new_agent):
    (a, of_a), (_, of_b) = new_agent("a"), new_agent("b")
    make(tmp_path)
    of_a.reports()
    a.close()
    long_ago = time.time() - 3600
    os.utime(tmp_path / "agents" / "a" / "lock", (long_ago, long_ago))
    of_b.reports()
    again, of_again = new_agent("a")
    task_id = uuid4()
    again.claim(task_id)
    make(tmp_path, task_id)
    assert tasks(of_again) == [task_id]


def test_a_claim_outlives_its_directory_only_while_it_is_young(tmp_path, new_agent):
    (a, of_a), (_, of_b) = new_agent("a"), new_agent("b")
    task_id = uuid4()
    a.claim(task_id)
    of_a.reports()
    make(tmp_path, task_id)  # a heartbeat came between the claim and its directory
    assert tasks(of_b) == []
    made = make(tmp_path)
    of_a.reports()
    made.acquire()
    made.discard()
    made.release()
    long_ago = time.time() - 3600
    os.utime(tmp_path / "agents" / "a" / str(made.task_id), (long_ago, long_ago))
    of_a.reports()
    names = {path.name for path in (tmp_path / "agents" / "a").iterdir()}
    assert names == {"lock", str(task_id)}


def test_what_the_server_wants_gone_goes_unless_it_is_in_use(tmp_path, new_agent):
    _, of_a = new_agent("a")
    free, locked, leased = make(tmp_path), make(tmp_path), make(tmp_path)
    locked.acquire()
    never = uuid4()
    wanted = [free.task_id, locked.task_id, leased.task_id, never]
    assert set(of_a.delete(wanted, [leased.task_id])) == {free.task_id, never}
    assert not free.exists and locked.exists and leased.exists
    locked.release()
    assert of_a.delete([locked.task_id], []) == [locked.task_id]


def test_a_link_out_of_a_directory_is_not_followed_when_it_is_deleted(tmp_path, new_agent):
    _, of_a = new_agent("a")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    made = make(tmp_path)
    (made.config / "link").symlink_to(outside)
    of_a.delete([made.task_id], [])
    assert (outside / "precious").read_text() == "stays"


def test_sizes_are_counted_again_when_a_directory_changed(tmp_path, new_agent, monkeypatch):
    _, of_a = new_agent("a")
    made = make(tmp_path)
    counted = []
    genuine = directories_module.tree_bytes
    monkeypatch.setattr(
        directories_module, "tree_bytes", lambda path: counted.append(path) or genuine(path)
    )
    first = of_a.reports()[0].bytes
    assert of_a.reports()[0].bytes == first and len(counted) == 1
    (made.path / "plan.out").write_bytes(b"x" * 1000)
    assert of_a.reports()[0].bytes == first + 1000 and len(counted) == 2


def test_old_evidence_goes_and_young_stays(tmp_path, new_agent, monkeypatch):
    _, of_a = new_agent("a")
    made = make(tmp_path)
    aside = made.quarantine()
    of_a.clear_quarantine()
    assert aside.exists()
    monkeypatch.setattr(directories_module, "QUARANTINE_SECONDS", -1.0)
    of_a.clear_quarantine()
    assert not aside.exists()


def test_the_home_of_another_agents_run_is_left_to_it(tmp_path, new_agent):
    (a, _), (b, _) = new_agent("a"), new_agent("b")
    of_a, of_b = uuid4(), uuid4()
    for owners, task_id in ((a, of_a), (b, of_b)):
        owners.claim(task_id)
        (tmp_path / "homes" / str(task_id)).mkdir(parents=True)
    _clear(tmp_path, b)
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [str(of_a)]


_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def _clear(base, owners):
    mirror = ProviderMirror(base / "providers")
    clear(Machine(base, [], mirror, owners, 1, 1, HoldMemory(0)), [])


@pytest.mark.parametrize("stray", ["stray", _ID, f"{_ID}/{_ID}"])
def test_a_stray_file_hides_no_directory(tmp_path, new_agent, caplog, stray):
    _, of_a = new_agent("a")
    made = make(tmp_path)
    path = tmp_path / "workspaces" / stray
    path.parent.mkdir(exist_ok=True)
    path.write_text("a note of somebody")
    assert tasks(of_a) == tasks(of_a) == [made.task_id]
    assert of_a.delete([made.task_id], []) == [made.task_id]
    assert path.exists()
    assert caplog.text.count("is passed over") == (path.parent.name == "workspaces")


def test_claims_that_vanish_meanwhile_are_none(tmp_path, new_agent, monkeypatch):
    (a, _), (b, _) = new_agent("a"), new_agent("b")
    monkeypatch.setattr(b, "_others", lambda: iter([tmp_path / "agents" / "taken-over"]))
    assert b.elsewhere() == set()
    a._forget(uuid4())
