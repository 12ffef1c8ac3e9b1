from datetime import timedelta

import pytest

from agents_app import tokens
from agents_app.models import Agent, AgentToken
from tasks_app.actors import Actor
from tasks_app.exceptions import NotPermitted
from tasks_app.models import Event
from tasks_app.models.base import ClockTimestamp
from tests.support.factories import make_user


def age(seconds, **narrow):
    """Make tokens older; their whole life moves with them."""
    AgentToken.objects.filter(**narrow).update(
        created_at=ClockTimestamp() - timedelta(seconds=seconds),
        expires_at=ClockTimestamp() + timedelta(seconds=7 * 86400 - seconds),
    )


def test_a_young_token_is_not_rotated(agent):
    assert agent.heartbeat().json["agent_token"] is None


def test_a_token_is_replaced_when_half_its_life_is_over(agent):
    age(4 * 86400)
    new = agent.heartbeat().json["agent_token"]
    assert new != agent.token
    old, agent.token = agent.token, new
    assert agent.heartbeat().json["agent_token"] is None
    agent.token = old
    assert agent.heartbeat().status == 200, "the old one works for the overlap"


def test_the_old_token_ends_some_time_after_the_new_one_was_used(agent, settings):
    age(4 * 86400)
    old, agent.token = agent.token, agent.heartbeat().json["agent_token"]
    left = AgentToken.objects.earliest("created_at").expires_at
    agent.heartbeat()
    shortened = AgentToken.objects.earliest("created_at").expires_at
    assert left - shortened > timedelta(days=2)
    AgentToken.objects.filter(expires_at=shortened).update(expires_at=ClockTimestamp())
    assert agent.heartbeat().status == 200
    agent.token = old
    assert agent.heartbeat().status == 401


def test_a_lost_reply_costs_nothing_and_replacements_do_not_pile_up(agent):
    age(4 * 86400)
    given = [agent.heartbeat().json["agent_token"] for _ in range(5)]
    assert all(given) and len(set(given)) == 5
    assert AgentToken.objects.filter(revoked_at=None).count() == 3
    agent.token = given[-1]
    assert agent.heartbeat().status == 200


def test_an_expired_token_is_401(agent):
    AgentToken.objects.update(expires_at=ClockTimestamp())
    reply = agent.heartbeat()
    assert (reply.status, reply.problem) == (401, "unauthenticated")


def test_revoking_locks_an_agent_out_at_once(agent, admin):
    assert tokens.revoke_agent(actor=admin, agent=Agent.objects.get()) == 1
    assert agent.heartbeat().status == agent.work().status == 401
    assert Event.objects.filter(kind="agent.revoked").exists()


def test_revoking_needs_the_right_to_operate(agent):
    with pytest.raises(NotPermitted):
        tokens.revoke_agent(actor=Actor.person(make_user("planner")), agent=Agent.objects.get())
    assert agent.heartbeat().status == 200


def test_the_right_row_with_another_secret_is_401(agent):
    prefix, row, secret = agent.token.split("_", 2)
    agent.token = f"{prefix}_{row}_{'x' * len(secret)}"
    assert agent.heartbeat().status == 401


@pytest.mark.parametrize("token", ["x", "sla_", "sla_zz_zz", "sla__", f"sla_{'0' * 32}_x"])
def test_malformed_tokens_are_401(agent, token):
    agent.token = token
    assert agent.heartbeat().status == 401
