"""Agents that make plans, hold their applies and apply them, as far as the server can see.

They tell what a real agent tells, in its order, and talk to the state as Terraform does; a plan,
a restored directory and a held Terraform cost them nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx

from agents_app import schema
from agents_app.schema import Activity, Artifact, Directive, Outcome, Phase, Step
from benchmarks.agents import ENGINE, SimulatedAgent
from benchmarks.result import CannotMeasure

#: How long an apply takes after its gate was opened.
_APPLY_SECONDS = 1.0
_LOG = b"Terraform says a line of text that is about as long as this one.\n" * 20
_BUNDLE = bytes(range(256)) * 80
_PLAN_JSON = json.dumps({"terraform_version": ENGINE.version, "resource_changes": []}).encode()
_ALIVE = {Activity.PLANNING, Activity.HELD, Activity.APPLYING}


@dataclass
class Diary:
    """What happened to tasks when, in seconds of the machine's clock; shared by all agents."""

    received: dict[UUID, float] = field(default_factory=dict)  # the job of the apply
    opened: dict[UUID, float] = field(default_factory=dict)  # its permit, and so its gate

    def open(self, task_id: UUID) -> None:
        """Note a permit.

        Raises:
            CannotMeasure: it is the task's second.
        """
        if task_id in self.opened:
            raise CannotMeasure(f"The apply of task {task_id} was permitted twice.")
        self.opened[task_id] = time.time()


@dataclass
class _Stay:
    """A lease on this agent."""

    lease_id: UUID
    epoch: int
    task_id: UUID
    workspace_id: UUID
    activity: Activity = Activity.STARTING
    permitted: bool = False
    job: schema.Job | None = None  # of the hold; its apply comes without one

    @property
    def path(self) -> str:
        return f"leases/{self.lease_id}/"


class HoldingAgent(SimulatedAgent):
    """An agent whose plans always have changes and whose applies always succeed."""

    def __init__(
        self, url: str, context: ssl.SSLContext, diary: Diary, name: str = "", uid: str = ""
    ) -> None:
        super().__init__(url, context, name, uid)
        self._diary = diary
        self._stays: dict[UUID, _Stay] = {}
        self._confirmed: set[UUID] = set()

    def confirmed(self, lease_id: UUID) -> None:
        self._confirmed.add(lease_id)
        stay = self._stays[lease_id]
        self.group.create_task(self._apply(stay, stay.job))

    def wished(self, assignment: schema.Assignment) -> None:
        if assignment.lease_id in self._confirmed and assignment.directive == Directive.APPLY:
            return  # it is on its way, or over
        stay = self._stays.setdefault(
            assignment.lease_id,
            _Stay(
                assignment.lease_id,
                assignment.epoch,
                assignment.task_id,
                assignment.workspace_id,
            ),
        )
        self.group.create_task(self._do(stay, assignment.directive, assignment.job))

    def reports(self) -> list[schema.LeaseReport]:
        return [
            schema.LeaseReport(
                lease_id=stay.lease_id,
                epoch=stay.epoch,
                activity=stay.activity,
                process_alive=stay.activity in _ALIVE,
                permitted=stay.permitted,
            )
            for stay in self._stays.values()
        ]

    def directories(self) -> list[schema.DirectoryReport]:
        return [
            schema.DirectoryReport(
                workspace_id=stay.workspace_id,
                task_id=stay.task_id,
                bytes=1 << 20,
                last_used_seconds_ago=1.0,
            )
            for stay in self._stays.values()
        ]

    async def _do(self, stay: _Stay, directive: Directive, job: schema.Job | None) -> None:
        match directive:
            case Directive.END:
                await self._end(stay)
            case Directive.PLAN if job:
                await self._plan(stay, job)
            case Directive.WARMUP if job:
                stay.job = job
                await self._restore(stay)
            case Directive.HOLD if job:
                stay.job = job
                await self._hold(stay, restored=False)
            case Directive.APPLY:
                await self._apply(stay, job or stay.job)
            case Directive.HOLD:
                pass  # what is held is told already
            case _:
                raise CannotMeasure(f"Nothing is simulated for the directive {directive}.")

    async def _plan(self, stay: _Stay, job: schema.Job) -> None:
        stay.activity = Activity.PLANNING
        await self._call(stay, "GET", "configuration")
        lineage, serial = await _Terraform(self._client, job).position()
        contents = {
            Artifact.PLAN_BUNDLE: _BUNDLE,
            Artifact.PLAN_JSON: _PLAN_JSON,
            Artifact.PLAN_TEXT: _LOG,
        }
        for kind, content in contents.items():
            digest = {schema.DIGEST_HEADER: hashlib.sha256(content).hexdigest()}
            await self._call(stay, "PUT", f"artifacts/{kind}", content, headers=digest)
        plan = schema.PlanResult(
            plan_hash=hashlib.sha256(stay.task_id.bytes).hexdigest(),
            manifest_digest=hashlib.sha256(stay.workspace_id.bytes).hexdigest(),
            terraform_version=ENGINE.version,
            bundle_stored=True,
            bundle_bytes=len(_BUNDLE),
            to_add=1,
            to_change=0,
            to_destroy=0,
            to_import=0,
            output_changes=0,
            state_lineage=lineage,
            state_serial=serial,
        )
        # Not after it: the wish to hold it may come before the answer does.
        stay.activity = Activity.FINISHED
        await self._finish(stay, Phase.PLAN, Outcome.PLANNED, ("unpack", "plan", "show"), plan)

    async def _restore(self, stay: _Stay) -> None:
        stay.activity = Activity.WARMING
        await self._call(stay, "GET", "configuration")
        await self._call(stay, "GET", f"artifacts/{Artifact.PLAN_BUNDLE}")
        await self._hold(stay, restored=True)

    async def _hold(self, stay: _Stay, *, restored: bool) -> None:
        stay.activity = Activity.HELD
        report = schema.WarmupReport(ready=True, held=True, restored=restored)
        await self._call(stay, "POST", "warmup", report)
        steps = schema.ProgressRequest(phase=Phase.WARMUP, steps=_steps("verify", "gate"))
        await self._call(stay, "POST", "progress", steps)

    async def _apply(self, stay: _Stay, job: schema.Job | None) -> None:
        if stay.activity != Activity.HELD or job is None or job.plan is None:
            raise CannotMeasure(f"Task {stay.task_id} was to be applied before it was held.")
        self._diary.received[stay.task_id] = time.time()
        request = schema.PermitRequest(
            key=uuid4(),
            incarnation=self._registered.incarnation,
            newest_lease=self._newest_lease,
            plan_hash=job.plan.plan_hash,
            manifest_digest=job.plan.manifest_digest,
            path=schema.ApplyPath.HELD,
            environment_digest=job.environment_digest,
        )
        await self._call(stay, "POST", "permit", request)
        self._diary.open(stay.task_id)
        stay.activity, stay.permitted = Activity.APPLYING, True
        await _Terraform(self._client, job).apply()
        await self._finish(stay, Phase.APPLY, Outcome.APPLIED, ("verify", "permit", "apply"))
        await self._end(stay)

    async def _end(self, stay: _Stay) -> None:
        self._stays.pop(stay.lease_id, None)
        await self._call(stay, "POST", "ended", schema.EndedRequest(directory_kept=False))

    async def _finish(
        self,
        stay: _Stay,
        phase: Phase,
        outcome: Outcome,
        steps: tuple[str, ...],
        plan: schema.PlanResult | None = None,
    ) -> None:
        await self._call(stay, "PUT", "log", _LOG, phase=phase.value, offset=0)
        end = schema.FinishRequest(
            phase=phase,
            outcome=outcome,
            plan=plan,
            steps=_steps(*steps),
            path=schema.ApplyPath.HELD if phase == Phase.APPLY else None,
            log_bytes=len(_LOG),
            directory_kept=plan is not None,
        )
        await self._call(stay, "POST", "finish", end)

    async def _call(
        self,
        stay: _Stay,
        method: str,
        what: str,
        message: schema.Message | bytes = b"",
        **more: Any,
    ) -> None:
        await self.send(method, stay.path + what, message, epoch=stay.epoch, **more)


def _steps(*names: str) -> list[Step]:
    return [Step(name=name, started_ms=place, duration_ms=1) for place, name in enumerate(names)]


class _Terraform:
    """What Terraform asks of the http backend with the credentials of a job."""

    def __init__(self, client: httpx.AsyncClient, job: schema.Job) -> None:
        assert job.backend is not None, "its workspaces keep their state in Slipway"
        self._client, self._backend = client, job.backend

    async def position(self) -> tuple[str, int | None]:
        """Return lineage and serial of the state; "" and None where there is none."""
        answer = await self._client.get(self._backend.address, auth=self._credentials)
        if answer.status_code == 404:
            return "", None
        state = _accepted(answer).json()
        return state["lineage"], state["serial"]

    async def apply(self) -> None:
        """Lock the state, work for a while, store the next serial, and unlock."""
        lock = {"ID": str(uuid4()), "Operation": "OperationTypeApply", "Who": "benchmark"}
        await self._send("LOCK", lock)
        lineage, serial = await self.position()
        await asyncio.sleep(_APPLY_SECONDS)
        state = {
            "version": 4,
            "terraform_version": ENGINE.version,
            "serial": (serial or 0) + 1,
            "lineage": lineage or str(uuid4()),
            "outputs": {},
            "resources": [],
        }
        await self._send("POST", state, ID=lock["ID"])
        await self._send("UNLOCK", lock)

    async def _send(self, method: str, document: dict[str, Any], **query: str) -> None:
        answer = await self._client.request(
            method, self._backend.address, params=query, json=document, auth=self._credentials
        )
        _accepted(answer)

    @property
    def _credentials(self) -> tuple[str, str]:
        return self._backend.username, self._backend.password


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_error:
        raise CannotMeasure(
            f"The state backend refused {answer.request.method}: {answer.status_code} {answer.text}"
        )
    return answer
