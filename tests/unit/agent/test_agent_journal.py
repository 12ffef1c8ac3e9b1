"""What an agent finds on its disk after a crash."""

from __future__ import annotations

import os

import pytest

from agents_app.agent.identity import Identity
from agents_app.agent.journal import LeaseJournal, journals, new_journal
from agents_app.agent.options import AgentError
from tasks_app.ids import uuid7


def test_facts_are_read_again_in_order(tmp_path):
    journal = LeaseJournal(tmp_path / "one")
    journal.record("lease", epoch=3)
    journal.record("begun", phase="plan")
    again = LeaseJournal(tmp_path / "one")
    assert [event["event"] for event in again.events] == ["lease", "begun"]
    assert again.last("lease")["epoch"] == 3


@pytest.mark.parametrize(
    "torn", [b"{", b'{"event": "ov', b"\xff\x00", b'{"event": "over"}', b"[]\n"]
)
def test_a_torn_last_line_is_cut_off_and_the_next_fact_is_whole(tmp_path, torn):
    journal = LeaseJournal(tmp_path / "one")
    journal.record("lease", epoch=3)
    with (tmp_path / "one" / "journal.jsonl").open("ab") as file:
        file.write(torn)
    LeaseJournal(tmp_path / "one").record("begun", phase="plan")
    assert [e["event"] for e in LeaseJournal(tmp_path / "one").events] == ["lease", "begun"]


def test_since_gives_the_newest_phase_only(tmp_path):
    journal = LeaseJournal(tmp_path / "one")
    for event, phase in [("begun", "plan"), ("over", ""), ("begun", "apply"), ("spawning", "")]:
        journal.record(event, phase=phase)
    assert [event["phase"] for event in journal.since("begun")] == ["apply", ""]
    assert journal.since("never") == []


def test_a_forgotten_lease_leaves_nothing_and_half_forgotten_ones_go(tmp_path):
    kept, gone, half = uuid7(), uuid7(), uuid7()
    new_journal(tmp_path, kept).record("lease")
    removed = new_journal(tmp_path, gone)
    removed.record("lease")
    removed.remove()
    (tmp_path / "leases" / str(half)).mkdir()
    (tmp_path / "leases" / str(half) / "plan.log").write_text("rest")
    assert [lease_id for lease_id, _ in journals(tmp_path)] == [kept]
    assert [path.name for path in (tmp_path / "leases").iterdir()] == [str(kept)]


def test_a_state_that_nobody_took_outlives_its_lease(tmp_path):
    journal = new_journal(tmp_path, uuid7())
    journal.record("lease")
    (journal.folder / "apply.recovered.tfstate").write_text("{}")
    journal.remove()
    (kept,) = (tmp_path / "recovered").iterdir()
    assert kept.read_text() == "{}"
    assert journal.folder.name in kept.name
    assert not journal.folder.exists()


def test_everything_is_for_this_user_alone(tmp_path):
    journal = new_journal(tmp_path / "agent", uuid7())
    journal.record("lease")
    for path in (tmp_path / "agent").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_pod_uid_is_made_once_and_kept(tmp_path):
    first = Identity(tmp_path)
    uid = first.pod_uid
    first.close()
    assert Identity(tmp_path).pod_uid == uid


def test_another_uid_is_another_pod_on_an_old_disk(tmp_path):
    first = Identity(tmp_path, "uid-1")
    first.received(uuid7())
    first.close()
    second = Identity(tmp_path, "uid-2")
    assert (second.pod_uid, second.newest_lease) == ("uid-2", None)


def test_a_damaged_record_is_replaced(tmp_path):
    (tmp_path / "identity.json").write_text('{"pod_uid": ')
    assert Identity(tmp_path, "uid-1").pod_uid == "uid-1"


def test_the_newest_lease_is_remembered_whatever_comes_later(tmp_path):
    older, newer = sorted([uuid7(), uuid7()])
    identity = Identity(tmp_path)
    identity.received(newer)
    identity.received(older)
    identity.close()
    assert Identity(tmp_path).newest_lease == newer


def test_a_second_agent_on_the_same_directory_is_refused(tmp_path):
    first = Identity(tmp_path)
    with pytest.raises(AgentError, match="Another agent works with"):
        Identity(tmp_path)
    assert first.pod_uid


def test_half_a_fact_on_a_full_disk_is_none(tmp_path, monkeypatch):
    journal = LeaseJournal(tmp_path / "one")
    journal.record("lease", epoch=3)
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, line: write(file, line[:5]))
        with pytest.raises(OSError, match="No space"):
            journal.record("spawning", what="apply")
    journal.record("over")
    assert [event["event"] for event in LeaseJournal(tmp_path / "one").events] == ["lease", "over"]
    assert [event["event"] for event in journal.events] == ["lease", "over"]
