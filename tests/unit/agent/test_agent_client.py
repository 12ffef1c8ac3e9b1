"""Every call may be repeated, and is, until the server has said its last word."""

from __future__ import annotations

import threading
from uuid import uuid4

import httpx
import pytest

from agents_app.agent import client as client_module
from agents_app.agent.client import Patience, Refused, Unreachable
from agents_app.agent.lease_calls import LeaseCalls
from agents_app.runner.errors import RunCancelled, StepFailed
from agents_app.schema import Empty, EndedRequest
from tests.support.agent_fakes import FakeAgent, FakeServer, problem


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(client_module, "_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(client_module, "_PAUSE_SECONDS_MAX", 0.002)
    monkeypatch.setattr(client_module, "_UNWELCOME_SECONDS", 0.001)


@pytest.fixture
def fake(tmp_path):
    return FakeServer(tmp_path / "base")


@pytest.fixture
def agent(fake, tmp_path):
    agent = FakeAgent(fake, tmp_path / "agent")
    fake.calls.clear()
    return agent


def answers(*replies):
    """Answer lease calls with these in turn, then as usual."""
    queue = list(replies)

    def refuse(call):
        if "leases/" not in call or not queue:
            return None
        reply = queue.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    return refuse


def end(agent, fake, patience=None):
    lease = fake.add()
    calls = LeaseCalls(agent.server, lease.lease_id, 1)
    calls.ended(EndedRequest(directory_kept=True), patience or Patience())
    return lease


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("cut"),
        httpx.ReadTimeout("silent"),
        httpx.RemoteProtocolError("closed"),
        httpx.Response(500),
        httpx.Response(503, headers={"Retry-After": "0"}),
        httpx.Response(429),
        httpx.Response(302, headers={"Location": "/login"}),
    ],
    ids=repr,
)
def test_trouble_is_survived(agent, fake, trouble):
    fake.refuse = answers(trouble, trouble, trouble)
    assert end(agent, fake).ended
    assert len(fake.calls) == 4


class _CutOff(httpx.SyncByteStream):
    """A body that breaks off after its headers came."""

    def __iter__(self):
        yield b"{"
        raise httpx.ReadError("cut")


def test_an_answer_that_is_cut_off_after_its_headers_is_asked_for_again(agent, fake):
    fake.refuse = answers(httpx.Response(200, stream=_CutOff()))
    assert end(agent, fake).ended
    assert len(fake.calls) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
def test_a_refusal_is_the_last_word(agent, fake, status):
    fake.refuse = answers(problem(status, "stale-lease", hint=7))
    with pytest.raises(Refused) as refusal:
        end(agent, fake)
    assert (refusal.value.status, refusal.value.kind) == (status, "stale-lease")
    assert refusal.value.extra["hint"] == 7
    assert len(fake.calls) == 1


def test_a_refusal_that_is_no_document_is_one_all_the_same(agent, fake):
    fake.refuse = answers(httpx.Response(404, text="<html>"))
    with pytest.raises(Refused, match="status 404"):
        end(agent, fake)


def test_patience_ends(agent, fake):
    fake.refuse = lambda call: httpx.Response(503)
    with pytest.raises(Unreachable, match="status 503"):
        end(agent, fake, Patience(0.05))


def test_patience_is_ended_by_another_thread(agent, fake):
    fake.refuse = lambda call: httpx.Response(503)
    patience = Patience()
    threading.Timer(0.05, patience.end).start()
    with pytest.raises(Unreachable):
        end(agent, fake, patience)


def test_a_refused_token_is_replaced_by_registering_again(agent, fake):
    fake.token = "token-2"
    assert end(agent, fake).ended
    assert [call for call in fake.calls if "leases" not in call] == ["POST register"]
    assert agent.identity.token == "token-2"


def test_many_threads_register_once(agent, fake):
    fake.token = "token-2"
    leases = [fake.add() for _ in range(8)]
    calls = [LeaseCalls(agent.server, lease.lease_id, 1) for lease in leases]
    message = EndedRequest(directory_kept=True)
    threads = [threading.Thread(target=call.ended, args=(message, Patience())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(lease.ended for lease in leases)
    assert fake.calls.count("POST register") == 1


def test_an_agent_that_may_not_register_again_keeps_asking(agent, fake):
    fake.token = "token-2"
    refusals = [problem(401, "unauthenticated")] * 3
    fake.refuse = lambda call: refusals.pop() if call == "POST register" and refusals else None
    assert end(agent, fake).ended


def test_a_rotated_token_is_used_at_once(agent, fake):
    fake.token = "token-2"
    agent.identity.rotated("token-2")
    end(agent, fake)
    assert "POST register" not in fake.calls


def test_each_reply_tells_the_incarnation(agent, fake):
    fake.incarnation = uuid4()
    end(agent, fake)
    assert agent.identity.incarnation == fake.incarnation


def test_a_download_that_is_cut_or_damaged_is_made_again(agent, fake, tmp_path):
    import hashlib

    whole = {"Slipway-Digest": hashlib.sha256(b"whole").hexdigest()}
    fake.refuse = answers(
        httpx.Response(200, content=b"half", headers=whole),
        httpx.Response(200, content=b"whole", headers=whole),
    )
    calls = LeaseCalls(agent.server, fake.add().lease_id, 1)
    calls.configuration(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_a_download_that_is_always_damaged_fails_the_step(agent, fake, tmp_path):
    fake.refuse = lambda call: httpx.Response(200, content=b"x", headers={"Slipway-Digest": "y"})
    calls = LeaseCalls(agent.server, fake.add().lease_id, 1)
    with pytest.raises(StepFailed, match="damaged"):
        calls.configuration(tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_a_download_that_the_server_refuses_fails_the_step(agent, fake, tmp_path):
    fake.refuse = answers(problem(404, "not-found"))
    with pytest.raises(StepFailed, match="not-found"):
        LeaseCalls(agent.server, fake.add().lease_id, 1).configuration(tmp_path / "file")


def test_a_download_that_nobody_waits_for_any_more_ends(agent, fake, tmp_path):
    fake.refuse = lambda call: httpx.Response(503)
    calls = LeaseCalls(agent.server, fake.add().lease_id, 1)
    threading.Timer(0.05, calls.stop_downloads).start()
    with pytest.raises(RunCancelled):
        calls.configuration(tmp_path / "file")


def test_an_answer_of_a_wrong_shape_is_an_error_and_no_empty_success(agent, fake):
    fake.refuse = answers(httpx.Response(200, json={"unknown": 1}))
    with pytest.raises(ValueError):
        agent.server.post("leases/x/ended", Empty(), Empty, Patience())
