import hashlib
from datetime import timedelta

import pytest

from agents_app.models import Agent, AgentToken
from agents_app.schema import INCARNATION_HEADER, RegisterReply
from pods_app.incarnation import installation
from pods_app.models import ManagedPod, PoolToken
from pods_app.registration import revoke_pool_token
from tasks_app.models.base import ClockTimestamp
from tests.support.agents_api import register_request, send
from tests.support.factories import make_task


def test_an_agent_gets_identity_slots_and_settings(pool_token, settings):
    reply = send("POST", "register", token=pool_token, body=register_request(slots=64))
    message = RegisterReply.model_validate_json(reply.content)
    pod = ManagedPod.objects.get()
    assert reply.status == 200
    assert (str(message.agent_id), message.slots) == (pod.agent_id, 3)
    assert message.base_path == str(settings.SLIPWAY.work_directory)
    assert message.incarnation == installation().incarnation
    assert reply.headers[INCARNATION_HEADER] == str(message.incarnation)
    agent = Agent.objects.get()
    assert (agent.pk, agent.hostname) == (message.agent_id, "host")


def test_only_the_hash_of_a_token_is_stored(agent):
    row = AgentToken.objects.get()
    assert row.token_hash == hashlib.sha256(agent.token.encode()).hexdigest()
    assert agent.token.split("_", 2)[2] not in str(row.__dict__)


def test_the_same_pod_is_the_same_agent_with_a_new_token(agent, new_agent):
    again = new_agent()
    assert again.reply["agent_id"] == agent.reply["agent_id"]
    assert ManagedPod.objects.count() == Agent.objects.count() == 1
    assert agent.heartbeat().status == 401
    assert again.heartbeat().status == 200


def test_another_pod_is_another_agent(agent, new_agent):
    other = new_agent("b")
    assert other.reply["agent_id"] != agent.reply["agent_id"]
    assert agent.heartbeat().status == other.heartbeat().status == 200


def test_two_agents_of_one_name_do_not_take_it_from_each_other(agent, pool_token):
    def second():
        body = register_request(pod_name="pod-a", pod_uid="uid-of-the-second")
        return send("POST", "register", token=pool_token, body=body)

    reply = second()
    assert (reply.status, reply.problem) == (409, "name-taken")
    assert "Another agent of pool" in reply.json["detail"] and "--pod-name" in reply.json["detail"]
    assert agent.heartbeat().status == 200, "the first goes on"
    ManagedPod.objects.update(last_heartbeat=ClockTimestamp() - timedelta(seconds=60))
    assert second().status == 200, "it replaces one that is silent"
    assert agent.heartbeat().status == 401


@pytest.mark.parametrize("token", ["", "slp_unknown", "sla_x", "not ascii \xe9"])
def test_a_bad_pool_token_is_401(pool, token):
    reply = send("POST", "register", token=token, body=register_request())
    assert (reply.status, reply.problem) == (401, "unauthenticated")
    assert "Bearer" in reply.headers["WWW-Authenticate"]
    assert INCARNATION_HEADER in reply.headers
    assert not ManagedPod.objects.exists()


def test_a_revoked_pool_token_is_401_but_its_agents_go_on(agent, pool_token, admin):
    revoke_pool_token(actor=admin, token=PoolToken.objects.get())
    assert send("POST", "register", token=pool_token, body=register_request()).status == 401
    assert agent.heartbeat().status == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"slots": 0}, "slots"),
        ({"pod_name": ""}, "pod_name"),
        ({"engines": [{"engine": "pulumi", "version": "1"}]}, "engines.0.engine"),
        ({"extra": 1}, "extra"),
        ({"hostname": 7}, "hostname"),
    ],
)
def test_a_malformed_message_names_its_field(pool_token, changes, field):
    reply = send("POST", "register", token=pool_token, body=register_request(**changes))
    assert (reply.status, reply.problem) == (400, "invalid-input")
    assert reply.json["field"] == field
    assert field in [error["field"] for error in reply.json["errors"]]


def test_what_is_not_json_is_400(pool_token):
    reply = send("POST", "register", token=pool_token, body=b"{")
    assert (reply.status, reply.problem) == (400, "invalid-input")


def test_a_value_too_long_for_its_column_is_400(pool_token):
    body = register_request(program_version="v" * 41)
    assert send("POST", "register", token=pool_token, body=body).status == 400


def test_a_malformed_message_does_not_repeat_its_values(pool_token):
    body = register_request(hostname={"secret": "canary-1"})
    reply = send("POST", "register", token=pool_token, body=body)
    assert reply.status == 400
    assert b"canary-1" not in reply.content


def test_other_methods_and_addresses_are_problems(pool):
    wrong_method = send("GET", "register")
    assert (wrong_method.status, wrong_method.problem) == (405, "method-not-allowed")
    assert wrong_method.headers["Allow"] == "POST"
    for method in ("GET", "POST"):
        reply = send(method, "leases/not-a-uuid/finish")
        assert (reply.status, reply.problem) == (404, "not-found")
        assert INCARNATION_HEADER in reply.headers


def test_no_call_but_register_works_without_an_agent_token(pool, pool_token):
    for method, path in [
        ("POST", "heartbeat"),
        ("POST", "work"),
        ("GET", f"leases/{pool.pk}/configuration"),
        ("GET", f"leases/{pool.pk}/artifacts/plan_bundle"),
        ("PUT", f"leases/{pool.pk}/artifacts/plan_bundle"),
        ("PUT", f"leases/{pool.pk}/log"),
        ("POST", f"leases/{pool.pk}/progress"),
        ("POST", f"leases/{pool.pk}/permit"),
        ("POST", f"leases/{pool.pk}/finish"),
        ("POST", f"leases/{pool.pk}/ended"),
    ]:
        assert send(method, path).status == 401, path
        assert send(method, path, token=pool_token).status == 401, path


def test_a_message_too_large_is_413(pool_token, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    reply = send("POST", "register", token=pool_token, body=register_request())
    assert (reply.status, reply.problem) == (413, "too-large")


def test_what_waited_for_an_agent_is_placed_when_one_registers(pool_token, new_agent):
    task = make_task()
    assert task.status == "pending"
    new_agent()
    task.refresh_from_db()
    assert task.status == "planning"
