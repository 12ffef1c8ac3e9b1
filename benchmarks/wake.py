"""`wake`: 200 idle agents hold their long polls; how soon has one the job that was committed?

The clock starts inside the transaction, just before its commit, and stops when the agent has
parsed its job. Tasks and leases are made by the services that the API calls.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import sys
import threading
import time
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import httpx

from agents_app import schema
from benchmarks.harness import resident_mb, running_platform, say
from benchmarks.result import Bar, CannotMeasure, Result, summary
from config.client import pack
from config.demo import EXAMPLE
from config.launch import Platform

RUNS = 500
AGENTS = 200
SLOTS = 3
P99_MS = 100.0
WEB_MB, AGENT_MB = 200.0, 120.0
_ENGINE = schema.Engine(engine="terraform", version="1.11.4")
_PAUSE_SECONDS = (0.04, 0.12)
_PATIENCE_SECONDS = 30.0


class IdleAgent:
    """Speaks as `run_agent` does, and never runs anything."""

    def __init__(self, base: str, context: ssl.SSLContext, received: dict[UUID, float]) -> None:
        # A client for each agent: one pool looks through all its connections at every request.
        self.client = httpx.AsyncClient(base_url=base, verify=context, timeout=60)
        self._received = received
        self._known: dict[UUID, schema.Assignment] = {}
        self._registered: schema.RegisterReply

    async def register(self, pool_token: str) -> None:
        # Dispatch goes through agents by name: random names make their order random.
        name = uuid4().hex
        request = schema.RegisterRequest(
            pod_name=name,
            pod_uid=name,
            registration_key=uuid4(),
            hostname="benchmark",
            program_version="0",
            engines=[_ENGINE],
            slots=SLOTS,
        )
        answer = await self._post("register", request, pool_token)
        self._registered = schema.RegisterReply.model_validate_json(answer)

    async def poll(self) -> None:
        """Wait for work, again and again, and note when each job came."""
        while True:
            known = [
                schema.KnownAssignment(lease_id=a.lease_id, epoch=a.epoch, directive=a.directive)
                for a in self._known.values()
            ]
            request = schema.WorkRequest(
                incarnation=self._registered.incarnation,
                known=known,
                wait_seconds=self._registered.poll_seconds,
            )
            answer = await self._post("work", request, self._registered.agent_token)
            reply = schema.WorkReply.model_validate_json(answer)
            now = time.monotonic()
            for assignment in reply.assignments:
                if assignment.job is not None:
                    self._received.setdefault(assignment.task_id, now)
            self._known = {a.lease_id: a for a in reply.assignments}

    async def beat(self) -> None:
        """Send heartbeats that name every lease."""
        await asyncio.sleep(random.uniform(0, self._registered.heartbeat_seconds))
        while True:
            leases = [
                schema.LeaseReport(
                    lease_id=a.lease_id,
                    epoch=a.epoch,
                    activity=schema.Activity.PLANNING,
                    process_alive=True,
                )
                for a in self._known.values()
            ]
            request = schema.HeartbeatRequest(
                incarnation=self._registered.incarnation,
                newest_lease=None,
                leases=leases,
                directories=[],
                deleted_directories=[],
                providers=[],
                engines=[_ENGINE],
                disk_total_bytes=1 << 40,
                disk_free_bytes=1 << 40,
                draining=False,
            )
            await self._post("heartbeat", request, self._registered.agent_token)
            await asyncio.sleep(self._registered.heartbeat_seconds)

    async def _post(self, path: str, message: schema.Message, token: str) -> bytes:
        answer = await self.client.post(
            path,
            content=message.model_dump_json(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        if answer.is_error:
            raise CannotMeasure(f"The agents' API refused {path}: {answer.text}")
        return answer.content


class Fleet(threading.Thread):
    """The idle agents, in an event loop and thread of their own."""

    def __init__(self, url: str, pool_token: str) -> None:
        super().__init__(name="idle agents", daemon=True)
        self._url, self._token = url, pool_token
        self.received: dict[UUID, float] = {}
        self.ready = threading.Event()
        self.problem: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[None]

    def run(self) -> None:
        try:
            self._main = self._loop.create_task(self._live())
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        except ExceptionGroup as group:
            self.problem = group.exceptions[0]
        except Exception as error:  # noqa: BLE001  told to the thread that waits
            self.problem = error
        finally:
            self.ready.set()
            self._loop.close()

    def stop(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._main.cancel)
        self.join(10)

    def check(self) -> None:
        """Raise CannotMeasure when an agent failed."""
        if self.problem is not None or not self.is_alive():
            raise CannotMeasure(f"The idle agents failed: {self.problem!r}")

    async def _live(self) -> None:
        base = f"{self._url}{schema.API_PREFIX}"
        context = ssl.create_default_context()  # shared: each holds every known authority
        async with AsyncExitStack() as stack:
            agents = [IdleAgent(base, context, self.received) for _ in range(AGENTS)]
            for agent in agents:
                await stack.enter_async_context(agent.client)
                await agent.register(self._token)
            async with asyncio.TaskGroup() as group:
                for agent in agents:
                    group.create_task(agent.poll())
                    group.create_task(agent.beat())
                self.ready.set()


def run(runs: int) -> Result:
    """Measure ``runs`` wakes, and the memory of the web process and of a real idle agent."""
    if runs > AGENTS * SLOTS:
        raise CannotMeasure(f"The agents have room for {AGENTS * SLOTS} jobs; ask for fewer runs.")
    # The agents' thread must not wait for the committing one: that would measure this process.
    sys.setswitchinterval(0.001)
    with running_platform() as platform:
        web = platform.pid("web")
        before = resident_mb(web)
        agent_mb = _idle_agent_mb(platform)
        workspace, token = _prepare()
        say(f"Registering {AGENTS} agents")
        fleet = Fleet(platform.url, token)
        fleet.start()
        try:
            fleet.ready.wait(_PATIENCE_SECONDS * 4)
            fleet.check()
            time.sleep(2)  # let every poll arrive
            say(f"Committing work {runs} times")
            latencies = [_one(platform, fleet, workspace) for _ in range(runs)]
            polling = resident_mb(web)
        finally:
            fleet.stop()
    wakes = summary(latencies)
    return Result(
        name="wake",
        runs=runs,
        figures={
            "agents": AGENTS,
            "commit_to_job_ms": wakes,
            "web_rss_mb": {"without agents": before, "with agents": polling},
            "idle_agent_rss_mb": agent_mb,
        },
        bars=[
            Bar("commit to job, p99, ms", wakes["p99"], P99_MS),
            Bar(f"web process with {AGENTS} agents, RSS in MB", polling, WEB_MB),
            Bar("idle agent, RSS in MB", agent_mb, AGENT_MB),
        ],
    )


def _idle_agent_mb(platform: Platform) -> float:
    """Return the memory of the local agent that the platform started, once it has settled."""
    from pods_app.models import ManagedPod
    from pods_app.states import PodPhase

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        platform.check()
        pod = ManagedPod.objects.filter(phase=PodPhase.ONLINE).exclude(process_id=None).first()
        if pod is not None and pod.process_id:
            time.sleep(2)
            return resident_mb(pod.process_id)
        time.sleep(0.2)
    raise CannotMeasure("The agent of the local pod did not come online; see its agent.log.")


def _prepare() -> tuple[UUID, str]:
    """Make a pool of static agents and a workspace in it; returns its id and a pool token."""
    from django.contrib.auth.models import User

    from pods_app.models import Pool
    from pods_app.registration import create_pool_token
    from pods_app.services import assign_pool
    from tasks_app.actors import Actor
    from tasks_app.models import ConfigurationVersion
    from tasks_app.services.configurations import store_configuration
    from tasks_app.services.workspaces import create_workspace, default_project

    actor = Actor.person(User.objects.get(username="admin"))
    pool = Pool.objects.create(name="benchmark", slots_per_pod=SLOTS)
    workspace = create_workspace(actor=actor, project=default_project(), name="benchmark")
    assign_pool(actor=actor, workspace=workspace, pool=pool)
    store_configuration(
        actor=actor,
        workspace=workspace,
        archive=pack(EXAMPLE),
        source=ConfigurationVersion.Source.UPLOAD,
    )
    _, token = create_pool_token(actor=actor, pool=pool, name="benchmark")
    return workspace.pk, token


def _one(platform: Platform, fleet: Fleet, workspace_id: UUID) -> float:
    """Lease work to an agent; returns the milliseconds from the commit to its having the job."""
    from django.db import connection, transaction

    from tasks_app.actors import Actor
    from tasks_app.models import Workspace
    from tasks_app.services.tasks import create_task
    from tasks_app.states import TaskType

    time.sleep(random.uniform(*_PAUSE_SECONDS))
    platform.check()
    workspace = Workspace.objects.select_related("project").get(pk=workspace_id)
    with transaction.atomic():
        task = create_task(actor=Actor.system("benchmark"), workspace=workspace, type=TaskType.PLAN)
        committed = time.monotonic()
    connection.close()
    deadline = committed + _PATIENCE_SECONDS
    while task.pk not in fleet.received:
        fleet.check()
        if time.monotonic() > deadline:
            raise CannotMeasure(f"No agent had the job: {task.waiting_reason or task.status}")
        time.sleep(0.001)
    return (fleet.received[task.pk] - committed) * 1000
