"""A server in memory for the agent program: it answers the agents' API by rows in a dictionary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID, uuid4

import httpx

from agents_app.agent.client import Server
from agents_app.agent.hold_memory import HoldMemory
from agents_app.agent.identity import Identity
from agents_app.agent.loop import Loop
from agents_app.agent.machine import Machine
from agents_app.agent.options import Options
from agents_app.agent.owners import Owners
from agents_app.runner.engines import LocalEngine
from agents_app.runner.providers import ProviderMirror
from agents_app.schema import (
    INCARNATION_HEADER,
    Assignment,
    Directive,
    Empty,
    FinishReply,
    Job,
    LogReply,
    PermitReply,
    PlanReference,
    RegisterReply,
    RegisterRequest,
    WorkReply,
    WorkRequest,
)
from tasks_app.ids import uuid7

PATIENCE = 30.0
HASH, DIGEST = "a" * 64, "b" * 64


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value once it is true."""
    until = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(0.005)
    return value


def make_job(*, apply: bool = False, task_id: UUID | None = None) -> Job:
    plan = PlanReference(
        plan_hash=HASH, manifest_digest=DIGEST, terraform_version="1.11.4", bundle_stored=True
    )
    return Job(
        task_id=task_id or uuid7(),
        workspace_id=uuid4(),
        workspace_name="network",
        task_type="plan_and_apply",
        engine="terraform",
        engine_version="1.11.4",
        working_directory="",
        configuration_digest="c" * 64,
        destroy=False,
        refresh_only=False,
        targets=[],
        replace=[],
        variables=[],
        environment=[],
        credentials=[],
        proxy={},
        ca_bundle="",
        backend=None,
        plan=plan if apply else None,
        lock_timeout_seconds=60,
        environment_digest="0" * 64,
    )


@dataclass
class FakeLease:
    """What the fake server wants of a lease, and what it heard of it."""

    job: Job
    directive: Directive = Directive.PLAN
    lease_id: UUID = field(default_factory=uuid7)
    keep_directory: bool = True
    listed: bool = True
    next: Directive = Directive.HOLD  # after the plan's end
    log: dict[str, bytes] = field(default_factory=dict)
    finished: list[dict[str, Any]] = field(default_factory=list)
    permits: list[str] = field(default_factory=list)
    ended: bool = False

    def wants_apply(self) -> None:
        self.job = make_job(apply=True, task_id=self.job.task_id).model_copy(
            update={"workspace_id": self.job.workspace_id}
        )
        self.directive = Directive.APPLY


@dataclass
class FakeServer:
    """Handles requests; ``refuse`` answers some of them before anything else."""

    base: Path
    leases: list[FakeLease] = field(default_factory=list)
    incarnation: UUID = field(default_factory=uuid4)
    token: str = "token-1"
    confirmed: list[UUID] = field(default_factory=list)  # told once, instead of the wishes
    calls: list[str] = field(default_factory=list)
    refuse: Callable[[str], httpx.Response | None] = lambda call: None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def handle(self, request: httpx.Request) -> httpx.Response:
        call = f"{request.method} {request.url.path.removeprefix('/api/agent/v1/')}"
        with self._lock:
            self.calls.append(call)
            if (refusal := self.refuse(call)) is not None:
                return refusal
            if call == "POST register":
                return self._answer(self.registration())
            if request.headers["Authorization"] != f"Bearer {self.token}":
                return problem(401, "unauthenticated")
        if call == "POST work":
            return self._answer(self._work(WorkRequest.model_validate_json(request.read())))
        with self._lock:
            return self._lease_call(request, call)

    def registration(self) -> RegisterReply:
        return RegisterReply(
            agent_id=uuid4(),
            agent_token=self.token,
            incarnation=self.incarnation,
            base_path=str(self.base),
            slots=3,
            heartbeat_seconds=0.2,
            poll_seconds=0.2,
            bundle_bytes_max=1 << 20,
            log_bytes_max=1 << 20,
            hold_bytes_max=1 << 28,
        )

    def add(self, **facts: Any) -> FakeLease:
        with self._lock:
            lease = FakeLease(**{"job": make_job(), **facts})
            self.leases.append(lease)
            return lease

    def _answer(self, message: Any) -> httpx.Response:
        return httpx.Response(
            200,
            content=message.model_dump_json(),
            headers={INCARNATION_HEADER: str(self.incarnation)},
        )

    def _work(self, message: WorkRequest) -> WorkReply:
        known = {(entry.lease_id, entry.directive) for entry in message.known}
        until = time.monotonic() + message.wait_seconds
        while True:
            with self._lock:
                wanted = [lease for lease in self.leases if lease.listed and not lease.ended]
                if self.confirmed:
                    told, self.confirmed = self.confirmed, []
                    return WorkReply(assignments=None, confirmed=told)
                here = {(lease.lease_id, lease.directive) for lease in wanted}
                if here != known or time.monotonic() >= until:
                    return WorkReply(assignments=[self._assignment(w, known) for w in wanted])
            time.sleep(0.01)

    def _assignment(self, lease: FakeLease, known: set[Any]) -> Assignment:
        runs = lease.directive != Directive.END
        if lease.directive == Directive.HOLD:
            runs = lease.job.plan is not None  # else what was planned here only waits
        fresh = (lease.lease_id, lease.directive) not in known
        return Assignment(
            lease_id=lease.lease_id,
            epoch=1,
            task_id=lease.job.task_id,
            workspace_id=lease.job.workspace_id,
            directive=lease.directive,
            keep_directory=lease.keep_directory,
            job=lease.job if runs and fresh else None,
        )

    def _lease_call(self, request: httpx.Request, call: str) -> httpx.Response:
        _, lease_id, what = call.split(" ")[1].split("/", 2)
        lease = next(lease for lease in self.leases if str(lease.lease_id) == lease_id)
        body = request.read()
        if what == "log":
            query = {k: v[0] for k, v in parse_qs(request.url.query.decode()).items()}
            stored = lease.log.get(query["phase"], b"")
            offset = int(query["offset"])
            if offset <= len(stored):
                stored += body[len(stored) - offset :]
            lease.log[query["phase"]] = stored
            return self._answer(LogReply(next_offset=len(stored)))
        if what == "permit":
            lease.permits.append(httpx.Response(200, content=body).json()["key"])
            return self._answer(PermitReply(valid_seconds=60))
        if what == "finish":
            return self._finish(lease, httpx.Response(200, content=body).json())
        if what == "ended":
            lease.ended = True
        return self._answer(Empty())

    def _finish(self, lease: FakeLease, message: dict[str, Any]) -> httpx.Response:
        stored = len(lease.log.get(message["phase"], b""))
        if stored < message["log_bytes"]:
            return problem(409, "log-incomplete", next_offset=stored)
        lease.finished.append(message)
        wish = lease.next if message["phase"] == "plan" else Directive.END
        lease.directive = wish
        lease.ended = wish == Directive.END
        return self._answer(FinishReply(directive=wish))


def problem(status: int, kind: str, **extra: Any) -> httpx.Response:
    body = {"type": f"urn:slipway:{kind}", "title": kind, "status": status, "detail": kind, **extra}
    return httpx.Response(status, json=body)


class FakeAgent:
    """The agent's loop against the fake server, without the program around it."""

    def __init__(self, fake: FakeServer, directory: Path) -> None:
        self.options = Options(
            url="http://slipway.test", directory=directory, pod_name="pod", pool_token="pool"
        )
        self.identity = Identity(directory)
        self.loop: Loop | None = None
        self.server = Server(
            self.options,
            self.identity,
            self._about,
            lambda incarnation: self.loop and self.loop.incarnation_seen(incarnation),
            transport=httpx.MockTransport(fake.handle),
        )
        reply = self.server.register()
        self.machine = Machine(
            base=fake.base,
            engines=[LocalEngine("terraform", "1.11.4", ("/bin/false",))],
            mirror=ProviderMirror(fake.base / "providers"),
            owners=Owners(fake.base, self.identity.pod_uid),
            bundle_bytes_max=reply.bundle_bytes_max,
            log_bytes_max=reply.log_bytes_max,
            hold_memory=HoldMemory(reply.hold_bytes_max),
        )
        self.loop = Loop(self.options, self.server, self.identity, self.machine, reply.poll_seconds)

    def start(self) -> FakeAgent:
        assert self.loop is not None
        self.loop.start()
        return self

    def _about(self) -> RegisterRequest:
        return RegisterRequest(
            pod_name="pod",
            pod_uid=self.identity.pod_uid,
            registration_key=self.identity.registration_key,
            hostname="host",
            program_version="test",
            engines=[],
            slots=3,
        )
