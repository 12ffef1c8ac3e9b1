"""The long poll: wakes, races, reconnects; nothing here measures time."""

from __future__ import annotations

import asyncio
import logging

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from agents_app import hub as hub_module
from agents_app import tokens
from agents_app.api import agent_views
from agents_app.models import Agent
from agents_app.schema import INCARNATION_HEADER
from agents_app.services.work import next_work
from pods_app.incarnation import installation
from pods_app.models import Lease
from pods_app.notify import notify_agent, read_wake
from tasks_app.services.tasks import cancel_task, confirm_task
from tests.support.agents_api import request
from tests.support.factories import make_task, make_waiting_task

#: Far longer than any test: a poll that ends before was woken.
LONG = 50
#: There are no wishes.
NOTHING = {"assignments": [], "confirmed": []}


def in_thread(function, *args, **kwargs):
    def call():
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return sync_to_async(call, thread_sensitive=False)()


def known(assignment):
    """What the agent says of it from then on."""
    found = {name: assignment[name] for name in ("lease_id", "epoch", "directive")}
    job = assignment["job"]
    return {**found, "environment_digest": job["environment_digest"] if job else ""}


async def poll(agent, known=(), wait=LONG):
    return await request(
        "POST", "work", token=agent.token, body=agent.work_request(list(known), wait)
    )


async def waiting(hub, agent, polls=1):
    """Wait until ``polls`` polls of the agent wait and the hub listens."""
    while not hub.listening.is_set() or len(hub._waiters.get(agent.reply["agent_id"], ())) < polls:
        await asyncio.sleep(0.005)


def run(body):
    return asyncio.run(asyncio.wait_for(body, 30))


def statements(pattern):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND application_name LIKE %s",
            [pattern],
        )
        return cursor.fetchall()


def test_an_idle_poll_ends_with_the_unchanged_wishes(agent):
    reply = agent.work(wait=0.01)
    assert (reply.status, reply.json) == (200, NOTHING)


def test_waiting_work_is_answered_at_once(agent, planning):
    (assignment,) = agent.work(wait=LONG).json["assignments"]
    assert (assignment["directive"], assignment["task_id"]) == ("plan", str(planning.pk))
    assert assignment["job"]["task_id"] == str(planning.pk)


def test_delivery_is_noted_once_in_database_time(agent, planning):
    agent.work()
    first = agent.lease.delivered_at
    agent.work()
    assert first is not None
    assert agent.lease.delivered_at == first


def test_a_poll_that_asks_again_gets_the_same_job(agent, planning):
    """A lost reply is safe: what the agent does not know is said again, whole."""
    assert agent.work().json == agent.work().json


def test_known_work_comes_without_its_job(agent, planning):
    (assignment,) = agent.work().json["assignments"]
    (again,) = agent.work(known=[known(assignment)]).json["assignments"]
    assert again == {**assignment, "job": None}


def test_a_task_wakes_its_agent(agent, hub):
    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        task = await in_thread(make_task)
        return task, await answer

    task, reply = run(body())
    (assignment,) = reply.json["assignments"]
    assert (assignment["task_id"], assignment["directive"]) == (str(task.pk), "plan")


def test_a_confirmation_wakes_the_agent_that_holds_the_plan(agent, hub, admin):
    """At once by name, so that it asks for the permit; the wish comes with the next poll."""
    task = make_waiting_task()
    (held,) = agent.work().json["assignments"]
    assert held["directive"] == "hold"

    async def body():
        answer = asyncio.create_task(poll(agent, [known(held)]))
        await waiting(hub, agent)
        await in_thread(confirm_task, actor=admin, task_id=task.pk, plan_hash=task.plan_hash)
        woken = await answer
        while not await in_thread(lambda: agent.lease.delivered_at):  # written beside the reply
            await asyncio.sleep(0.005)
        return woken

    woken = run(body())
    assert woken.json == {"assignments": None, "confirmed": [held["lease_id"]]}
    assert woken.headers[INCARNATION_HEADER] == str(installation().incarnation)
    (assignment,) = agent.work(known=[known(held)], wait=LONG).json["assignments"]
    assert (assignment["lease_id"], assignment["directive"]) == (held["lease_id"], "apply")
    assert assignment["job"] is None, "the agent has it"


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_a_confirmation_under_another_job_is_answered_with_the_whole_wish(
    agent, hub, admin, digest
):
    """What the agent was given became outdated after its poll had looked."""
    task = make_waiting_task()
    (held,) = agent.work().json["assignments"]

    async def body():
        answer = asyncio.create_task(poll(agent, [known(held)]))
        await waiting(hub, agent)
        await in_thread(lambda: Lease.objects.update(environment_digest=digest))
        await in_thread(confirm_task, actor=admin, task_id=task.pk, plan_hash=task.plan_hash)
        return await answer

    (assignment,) = run(body()).json["assignments"]
    assert (assignment["directive"], assignment["job"] is None) == ("apply", False)


def test_a_cancellation_wakes_the_agent_that_plans(agent, hub, planning, admin):
    (assignment,) = agent.work().json["assignments"]

    async def body():
        answer = asyncio.create_task(poll(agent, [known(assignment)]))
        await waiting(hub, agent)
        await in_thread(cancel_task, actor=admin, task_id=planning.pk)
        return await answer

    assert run(body()).json["assignments"][0]["directive"] == "cancel"


def test_a_wake_is_only_a_hint(agent, hub):
    """A notification without a cause is answered by nothing, and the poll goes on."""

    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        await in_thread(notify_agent, agent.reply["agent_id"])
        await asyncio.sleep(0.2)
        assert not answer.done()
        hub.shutdown()
        return await answer

    assert run(body()).json == NOTHING


@pytest.mark.parametrize("hint", ["x y", "x", f"{'0' * 32} y z"])
def test_a_wake_that_nobody_understands_wakes_all_the_same(hint):
    assert read_wake(f"agent {hint}") == ("agent", None)


def test_only_the_agent_that_is_meant_is_woken(agent, new_agent, hub, monkeypatch):
    other = new_agent("b")
    woken = []
    monkeypatch.setattr(hub, "wake", lambda agent_id, confirmed: woken.append(agent_id))

    async def body():
        answers = [asyncio.create_task(poll(each)) for each in (agent, other)]
        await waiting(hub, agent)
        await waiting(hub, other)
        await in_thread(notify_agent, other.reply["agent_id"])
        while not woken:
            await asyncio.sleep(0.005)
        hub.shutdown()
        await asyncio.gather(*answers)

    run(body())
    assert woken == [other.reply["agent_id"]]


def test_two_polls_of_one_agent_get_the_same_lease(agent, hub):
    """A poll whose client is gone claims nothing: the next one is told the same."""

    async def body():
        answers = [asyncio.create_task(poll(agent)) for _ in range(2)]
        await waiting(hub, agent, polls=2)
        await in_thread(make_task)
        return await asyncio.gather(*answers)

    first, second = run(body())
    assert first.json == second.json
    assert Lease.objects.count() == 1


def test_a_client_that_went_away_leaves_no_waiter(agent, hub):
    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        answer.cancel()
        await asyncio.gather(answer, return_exceptions=True)

    run(body())
    assert hub._waiters == {}
    make_task()
    assert len(agent.work().json["assignments"]) == 1


def test_work_that_came_while_the_poll_began_is_not_missed(agent, monkeypatch):
    """Its wake comes after the first look and before the poll waits."""
    looks = []

    def slow(*args, **kwargs):
        answer = next_work(*args, **kwargs)
        looks.append(answer)
        if len(looks) == 1:
            make_task()
        return answer

    monkeypatch.setattr(agent_views, "next_work", slow)
    assert len(agent.work(wait=LONG).json["assignments"]) == 1
    assert looks[0] is None


def test_a_client_that_went_away_before_the_first_look_leaves_no_waiter(hub):
    async def body():
        with hub.waiting() as waiter:
            pass
        hub.enter(waiter, "agent")

    run(body())
    assert hub._waiters == {}


def test_a_waiting_poll_holds_no_database_connection(agent, hub):
    async def body():
        answers = [asyncio.create_task(poll(agent)) for _ in range(20)]
        await waiting(hub, agent, polls=20)
        pool = connection.pool
        while (stats := pool.get_stats())["pool_available"] < stats["pool_size"]:
            await asyncio.sleep(0.01)  # until the last look has given its connection back
        everybody = await in_thread(statements, "%")
        listeners = await in_thread(statements, "slipway hub")
        hub.shutdown()
        await asyncio.gather(*answers)
        return everybody, listeners

    connections.close_all()
    everybody, listeners = run(body())
    assert {state for _, state, _ in everybody} <= {"idle"}, everybody
    assert len(listeners) == 1, "one connection listens for all polls"


def test_the_hub_listens_again_after_its_connection_was_cut(agent, hub):
    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        ((pid, _, _),) = await in_thread(statements, "slipway hub")

        def cut():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s)", [pid])

        await in_thread(cut)
        while True:
            rows = await in_thread(statements, "slipway hub")
            if rows and rows[0][0] != pid and hub.listening.is_set():
                break
            await asyncio.sleep(0.02)
        assert not answer.done()
        await in_thread(make_task)
        return await answer

    assert len(run(body()).json["assignments"]) == 1


def test_everybody_is_woken_after_a_reconnection(agent, hub, monkeypatch):
    """What was notified while nobody listened is found by asking again."""
    monkeypatch.setattr(hub, "_received", lambda payload: None)  # deaf, as while reconnecting

    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        await in_thread(make_task)
        await asyncio.sleep(0.1)
        assert not answer.done()

        def cut():
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'slipway hub'"
                    " AND datname = current_database()"
                )

        await in_thread(cut)
        return await answer

    assert len(run(body()).json["assignments"]) == 1


def test_shutting_down_ends_every_poll_at_once(agent, hub):
    async def body():
        answers = [asyncio.create_task(poll(agent)) for _ in range(3)]
        await waiting(hub, agent, polls=3)
        hub.shutdown()
        return await asyncio.gather(*answers)

    assert [reply.json for reply in run(body())] == [NOTHING] * 3
    assert agent.work(wait=LONG).json == NOTHING, "a later poll does not wait either"


def test_a_token_revoked_while_polling_gets_nothing_more(agent, hub):
    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        await in_thread(lambda: tokens.revoke_all(Agent.objects.get()))
        await in_thread(make_task)
        return await answer

    assert run(body()).status == 401


def test_a_lease_the_server_forgot_ends_a_poll_until_the_agent_ends_it(agent):
    gone = {"lease_id": agent.reply["agent_id"], "epoch": 1, "directive": "plan"}
    assert agent.work(known=[gone], wait=LONG).json == NOTHING

    async def body():
        answer = asyncio.create_task(poll(agent, [{**gone, "directive": "end"}], wait=0.2))
        await asyncio.sleep(0.05)
        assert not answer.done()
        return await answer

    assert run(body()).json == NOTHING


@pytest.mark.parametrize("wait", [-1, 61])
def test_a_wait_outside_its_limits_is_400(agent, wait):
    reply = agent.work(wait=wait)
    assert (reply.status, reply.json["field"]) == (400, "wait_seconds")


def test_a_notification_that_does_not_arrive_is_an_error_with_its_remedy(hub, monkeypatch, caplog):
    """As behind a pooler in transaction mode."""
    monkeypatch.setattr(hub_module, "CHECK_SECONDS", 0.0)
    monkeypatch.setattr(hub_module, "notify_agent", lambda payload: None)

    async def body():
        while "DATABASE_DIRECT_URL" not in caplog.text:
            await asyncio.sleep(0.01)

    with caplog.at_level(logging.ERROR, "agents_app.hub"):
        hub.start()
        run(body())


def test_the_self_check_is_quiet_where_notifications_arrive(agent, hub, caplog):
    async def body():
        answer = asyncio.create_task(poll(agent))
        await waiting(hub, agent)
        while hub._check:
            await asyncio.sleep(0.01)
        hub.shutdown()
        await answer

    with caplog.at_level(logging.ERROR, "agents_app.hub"):
        run(body())
    assert caplog.text == ""
