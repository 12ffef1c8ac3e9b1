"""Agents that talk to this process, and a hub of each test's own."""

from __future__ import annotations

import pytest
from django.db import connections

from agents_app import hub as hub_module
from pods_app.models import Pool
from pods_app.registration import create_pool_token
from tasks_app.actors import Actor
from tests.support.agents_api import AgentClient, register_request, send
from tests.support.factories import make_admin, make_pool, make_task


@pytest.fixture(autouse=True)
def hub(transactional_db, monkeypatch):
    """A hub of this test's own, and no connection of an agent's request left open."""
    fresh = hub_module.Hub()
    monkeypatch.setattr(hub_module, "_hub", fresh)
    monkeypatch.setattr(hub_module, "_LOOK_SECONDS", 0.05)
    yield fresh
    fresh.shutdown()
    fresh.join(10)
    connections.close_all()


@pytest.fixture
def admin():
    return Actor.person(make_admin())


@pytest.fixture
def pool() -> Pool:
    return make_pool()


@pytest.fixture
def pool_token(pool, admin) -> str:
    return create_pool_token(actor=admin, pool=pool, name="test")[1]


@pytest.fixture
def new_agent(pool_token):
    """Register an agent; each call is another pod."""

    def register(name: str = "a") -> AgentClient:
        reply = send(
            "POST",
            "register",
            token=pool_token,
            body=register_request(pod_name=f"pod-{name}", pod_uid=f"uid-{name}"),
        )
        assert reply.status == 200, reply.content
        return AgentClient(reply.json["agent_token"], reply.json)

    return register


@pytest.fixture
def agent(new_agent) -> AgentClient:
    return new_agent()


@pytest.fixture
def planning(agent):
    """A task that ``agent`` plans."""
    task = make_task()
    assert task.leases.exists()
    return task
