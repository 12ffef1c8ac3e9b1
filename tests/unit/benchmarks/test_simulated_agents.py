"""Simulated agents against a server that only says what the real one would."""

import asyncio
import json
import ssl
import uuid

import httpx
import pytest

from agents_app import schema
from benchmarks.agents import SimulatedAgent
from benchmarks.holding import Diary, HoldingAgent
from benchmarks.result import CannotMeasure
from benchmarks.slots import Confirmed, figures
from tests.support.agent_fakes import make_job

TASK, WORKSPACE = uuid.uuid4(), uuid.uuid4()
STATE = f"/api/state/v1/{WORKSPACE}/"


class Server:
    """Answers each address of the agents' API and of the state backend, and notes the calls."""

    def __init__(self):
        self.calls = []
        self.bodies = {}
        self.replies = {}
        self.state = None
        self.after = {}

    async def handle(self, request):
        path = request.url.path.removeprefix(schema.API_PREFIX)
        call = f"{request.method} {path.rpartition('/')[2] or 'state'}"
        self.calls.append(call)
        self.bodies[call] = request.content
        if call in self.after:
            await self.after.pop(call)()
        if path == STATE:
            return self._state(request)
        return httpx.Response(self.replies.get(call, 200), json={})

    def _state(self, request):
        if request.method == "GET":
            return httpx.Response(200 if self.state else 404, content=self.state or b"")
        if request.method == "POST":
            self.state = request.content
        return httpx.Response(200)

    def body(self, call):
        return json.loads(self.bodies[call])


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def diary():
    return Diary()


def job(*, planned):
    backend = schema.StateBackend(address=f"http://server{STATE}", username="slipway", password="p")
    made = make_job(apply=planned, task_id=TASK)
    return made.model_copy(
        update={"workspace_id": WORKSPACE, "backend": backend, "environment_digest": "e" * 64}
    )


def assignment(lease_id, directive, job=None):
    return schema.Assignment(
        lease_id=lease_id,
        epoch=1,
        task_id=TASK,
        workspace_id=WORKSPACE,
        directive=directive,
        keep_directory=True,
        job=job,
    )


def registered():
    return schema.RegisterReply(
        agent_id=uuid.uuid4(),
        agent_token="t",
        incarnation=uuid.uuid4(),
        base_path="/work",
        slots=3,
        heartbeat_seconds=10,
        poll_seconds=25,
        bundle_bytes_max=1,
        log_bytes_max=1,
        hold_bytes_max=1,
    )


@pytest.fixture
def play(server, diary, monkeypatch):
    """Let an agent meet wishes one after the other, each until nothing is left to do."""
    monkeypatch.setattr("benchmarks.holding._APPLY_SECONDS", 0)

    async def meet(replies):
        agent = HoldingAgent("http://server", ssl.create_default_context(), diary)
        agent._client = httpx.AsyncClient(
            transport=httpx.MockTransport(server.handle),
            base_url=f"http://server{schema.API_PREFIX}",
        )
        agent._registered = registered()
        server.agent = agent
        for reply in replies:
            if isinstance(reply, list):
                reply = schema.WorkReply(assignments=reply)
            async with asyncio.TaskGroup() as agent.group:
                agent._take(reply)
        return agent

    def play(*replies):
        try:
            return asyncio.run(meet(replies))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None

    return play


def held(lease_id):
    return (
        [assignment(lease_id, "plan", job(planned=False))],
        [assignment(lease_id, "hold", job(planned=True))],
    )


def test_a_plan_is_stored_and_then_held(play, server):
    lease_id = uuid.uuid4()
    agent = play(*held(lease_id))
    assert server.calls == [
        "GET configuration",
        "GET state",
        "PUT plan_bundle",
        "PUT plan_json",
        "PUT plan_text",
        "PUT log",
        "POST finish",
        "POST warmup",
        "POST progress",
    ]
    assert server.body("POST finish")["plan"]["state_serial"] is None
    assert server.body("POST warmup")["held"] is True
    (known,) = agent._known.values()
    assert (known.directive, known.environment_digest) == ("hold", "e" * 64)
    (report,) = agent.reports()
    assert (report.lease_id, report.activity, report.process_alive) == (lease_id, "held", True)


@pytest.mark.parametrize("comes", [job(planned=True), None], ids=["with its job", "without"])
def test_what_is_held_is_applied_under_a_permit_and_the_lock(play, server, diary, comes):
    lease_id = uuid.uuid4()
    agent = play(*held(lease_id), [assignment(lease_id, "apply", comes)])
    assert server.calls[9:] == [
        "POST permit",
        "LOCK state",
        "GET state",
        "POST state",
        "UNLOCK state",
        "PUT log",
        "POST finish",
        "POST ended",
    ]
    assert server.body("POST permit")["environment_digest"] == "e" * 64
    assert json.loads(server.state)["serial"] == 1
    assert diary.received[TASK] <= diary.opened[TASK]
    assert not agent.reports()


def test_a_hold_that_is_named_again_is_no_news(play, server):
    lease_id = uuid.uuid4()
    agent = play(*held(lease_id), [assignment(lease_id, "hold")])
    assert server.calls.count("POST warmup") == 1
    (known,) = agent._known.values()
    assert known.environment_digest == "e" * 64, "that of the job it has"


def test_the_wish_to_hold_may_come_before_the_plan_s_end_is_answered(play, server, diary):
    lease_id = uuid.uuid4()
    plan, hold = held(lease_id)

    async def held_meanwhile():
        server.agent._take(schema.WorkReply(assignments=hold))
        while "POST progress" not in server.calls:
            await asyncio.sleep(0)

    server.after["POST finish"] = held_meanwhile
    play(plan, [assignment(lease_id, "apply")])
    assert TASK in diary.opened


def test_a_lease_the_server_names_no_more_is_not_known_any_more(play):
    assert not play(*held(uuid.uuid4()), [])._known


def test_a_warm_up_restores_the_bundle_and_is_held(play, server):
    play([assignment(uuid.uuid4(), "warmup", job(planned=True))])
    assert "GET plan_bundle" in server.calls
    report = server.body("POST warmup")
    assert (report["held"], report["restored"]) == (True, True)


def test_a_confirmation_begins_the_apply_and_the_wish_for_it_no_other(play, server, diary):
    lease_id = uuid.uuid4()
    confirmed = schema.WorkReply(assignments=None, confirmed=[lease_id])
    play(*held(lease_id), confirmed, [assignment(lease_id, "apply")])
    assert server.calls.count("POST permit") == server.calls.count("POST ended") == 1
    assert set(diary.opened) == {TASK}


def test_an_apply_that_was_not_held_cannot_be_measured(play):
    with pytest.raises(CannotMeasure, match="before it was held"):
        play([assignment(uuid.uuid4(), "apply", job(planned=True))])


def test_a_refused_permit_cannot_be_measured(play, server, diary):
    server.replies["POST permit"] = 409
    lease_id = uuid.uuid4()
    with pytest.raises(CannotMeasure, match="refused POST"):
        play(*held(lease_id), [assignment(lease_id, "apply", job(planned=True))])
    assert not diary.opened


def test_a_second_permit_of_a_task_is_found(diary):
    diary.open(TASK)
    with pytest.raises(CannotMeasure, match="permitted twice"):
        diary.open(TASK)


def test_the_newest_lease_stays_the_newest():
    async def newest():
        agent = SimulatedAgent("http://server", ssl.create_default_context())
        for lease_id in (uuid.UUID(int=2), uuid.UUID(int=1)):
            agent._take(schema.WorkReply(assignments=[assignment(lease_id, "plan")]))
        return agent._newest_lease

    assert asyncio.run(newest()) == uuid.UUID(int=2)


def test_slots_tells_where_the_time_went():
    one = Confirmed(sent=10.0, begun=10.02, answered=10.05, received=10.06, opened=10.08)
    two = Confirmed(sent=20.0, begun=20.02, answered=20.05, received=20.06, opened=20.18)
    told = figures([one, two], {"web": 0.5})
    assert told["confirm_to_gate_ms"] == {"p50": 130.0, "p99": 180.0, "max": 180.0}
    assert told["of_it_until_the_database_has_it_ms"]["max"] == 20.0
    assert told["of_it_from_there_to_the_job_ms"]["max"] == 40.0
    assert told["of_it_the_permit_ms"]["max"] == 120.0
    assert told["confirm_to_answer_ms"]["p50"] == 50.0
    assert told["cores_used"] == {"web": 0.5}
