import pytest

from agents_app.services import log_net
from pods_app.leases import end
from tasks_app.models import Event, LogChunk
from tasks_app.services.logs import read_log

SECRET = "canary-0f3a-secret"


@pytest.fixture(autouse=True)
def secrets(monkeypatch):
    monkeypatch.setattr(log_net, "_nets", {})
    monkeypatch.setattr(log_net, "sensitive_values", lambda task: [SECRET])


def stored(task, phase="plan"):
    return read_log(task, phase).data


def test_a_log_grows_by_offset(agent, planning):
    assert agent.put_log("plan", 0, b"one\n").json == {"next_offset": 4}
    assert agent.put_log("plan", 4, b"two\n").json == {"next_offset": 8}
    assert stored(planning) == b"one\ntwo\n"


def test_repeats_overlaps_and_gaps(agent, planning):
    agent.put_log("plan", 0, b"0123")
    assert agent.put_log("plan", 0, b"0123").json == {"next_offset": 4}
    assert agent.put_log("plan", 2, b"2345").json == {"next_offset": 6}
    assert agent.put_log("plan", 9, b"lost").json == {"next_offset": 6}, "continue here"
    assert stored(planning) == b"012345"


def test_a_log_lies_encrypted(agent, planning):
    agent.put_log("plan", 0, b"visible words")
    assert b"visible" not in bytes(LogChunk.objects.get().ciphertext)


@pytest.mark.parametrize("cut", [0, 1, 7, len(SECRET) - 1, len(SECRET)])
def test_a_secret_the_agent_missed_is_masked_across_chunks(agent, planning, cut):
    text = f"password is {SECRET}, yes".encode()
    border = text.index(b"canary") + cut
    assert agent.put_log("plan", 0, text[:border]).json == {"next_offset": border}
    reply = agent.put_log("plan", border, text[border:])
    assert reply.json == {"next_offset": len(text)}, "lengths stay as the agent counts them"
    assert stored(planning) == text.replace(SECRET.encode(), b"*" * len(SECRET))
    assert Event.objects.filter(kind="agent.secret_masked").exists()


def test_a_secret_in_three_chunks_is_masked(agent, planning):
    offset = 0
    for part in (b"x canary-0", b"f3a-", b"secret y"):
        offset = agent.put_log("plan", offset, part).json["next_offset"]
    assert stored(planning) == b"x " + b"*" * len(SECRET) + b" y"


def test_the_runs_own_token_is_a_secret(agent, planning):
    password = agent.work().json["assignments"][0]["job"]["backend"]["password"]
    agent.put_log("plan", 0, f"TF_HTTP_PASSWORD={password}".encode())
    assert stored(planning) == b"TF_HTTP_PASSWORD=" + b"*" * len(password)


def test_an_innocent_log_is_left_alone(agent, planning):
    agent.put_log("plan", 0, b"canary-0f3a")
    agent.put_log("plan", 11, b" is no secret")
    assert stored(planning) == b"canary-0f3a is no secret"
    assert not Event.objects.filter(kind="agent.secret_masked").exists()


def test_after_the_phase_a_piece_is_a_repetition(agent, planning):
    agent.put_log("plan", 0, b"all")
    agent.finish_plan(log_bytes=3)
    assert agent.put_log("plan", 0, b"all").json == {"next_offset": 3}
    assert agent.put_log("plan", 3, b" and more").json == {"next_offset": 3}
    assert stored(planning) == b"all"


def test_an_apply_that_has_not_begun_has_no_log(agent, planning):
    assert agent.put_log("apply", 0, b"x").status == 409


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"phase": "destroy"}, "phase"),
        ({"offset": "-1"}, "offset"),
        ({"offset": ""}, "offset"),
        ({"offset": "9" * 30}, "offset"),
        ({"epoch": "x"}, "epoch"),
        ({"epoch": "٣"}, "epoch"),
    ],
)
def test_a_malformed_query_names_its_field(agent, planning, changes, field):
    query = {"phase": "plan", "offset": 0, **changes}
    reply = agent.call("PUT", "log", body=b"x", **query)
    assert (reply.status, reply.json["field"]) == (400, field)


def test_a_piece_too_large_is_413(agent, planning):
    assert agent.put_log("plan", 0, b"x" * (4 * 1024**2 + 1)).status == 413


def test_a_stale_log_is_409_audited_and_not_stored(agent, planning, admin):
    lease = agent.lease
    end(lease, actor=admin, reason="taken away")
    assert agent.put_log("plan", 0, b"late", lease=lease).problem == "stale-lease"
    assert not LogChunk.objects.exists()
    assert Event.objects.filter(kind="agent.stale_write", lease_id=lease.pk).count() == 1


def test_another_agents_log_is_404(agent, planning, new_agent):
    assert new_agent("b").put_log("plan", 0, b"x", lease=agent.lease).status == 404
    assert not LogChunk.objects.exists()
