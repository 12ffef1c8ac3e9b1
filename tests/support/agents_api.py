"""An agent as the API sees it: real requests through ASGI, real commits."""

from __future__ import annotations

import asyncio
import hashlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.test import AsyncClient

from agents_app import schema
from pods_app.models import Lease, ManagedPod


@dataclass
class Reply:
    status: int
    headers: Any
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def problem(self) -> str:
        """The problem's type without its prefix."""
        assert self.headers["Content-Type"] == "application/problem+json"
        return self.json["type"].removeprefix("urn:slipway:")


async def request(
    method: str,
    path: str,
    *,
    token: str = "",
    body: Any = None,
    headers: dict[str, str] | None = None,
    **query: Any,
) -> Reply:
    """Send one request; ``body`` is a message, bytes, or anything for JSON."""
    if isinstance(body, schema.Message):
        content = body.model_dump_json().encode()
    elif isinstance(body, bytes):
        content = body
    else:
        content = b"" if body is None else json.dumps(body).encode()
    sent = dict(headers or {})
    if token:
        sent["Authorization"] = f"Bearer {token}"
    response = await AsyncClient().generic(
        method,
        f"{schema.API_PREFIX}{path}?{urlencode(query)}",
        content,
        content_type="application/json",
        headers=sent,
    )
    if response.streaming:
        parts = [part async for part in response.streaming_content]
        return Reply(response.status_code, response.headers, b"".join(parts))
    return Reply(response.status_code, response.headers, response.content)


def send(method: str, path: str, **arguments: Any) -> Reply:
    return asyncio.run(request(method, path, **arguments))


def register_request(**changes: Any) -> dict[str, Any]:
    return {
        "pod_name": "pod-a",
        "pod_uid": "uid-a",
        "registration_key": str(uuid.uuid4()),
        "hostname": "host",
        "program_version": "0.1",
        "engines": [{"engine": "terraform", "version": "1.11.4"}],
        "slots": 3,
        **changes,
    }


def heartbeat_request(**changes: Any) -> dict[str, Any]:
    return {
        "incarnation": str(uuid.uuid4()),
        "newest_lease": None,
        "leases": [],
        "directories": [],
        "deleted_directories": [],
        "providers": [],
        "engines": [{"engine": "terraform", "version": "1.11.4"}],
        "disk_total_bytes": 1000,
        "disk_free_bytes": 400,
        "draining": False,
        **changes,
    }


def plan_result(**changes: Any) -> dict[str, Any]:
    return {
        "plan_hash": "a" * 64,
        "manifest_digest": "b" * 64,
        "terraform_version": "1.11.4",
        "bundle_stored": True,
        "bundle_bytes": 6,
        "to_add": 1,
        "to_change": 0,
        "to_destroy": 0,
        "to_import": 0,
        "output_changes": 0,
        "state_lineage": "",
        "state_serial": None,
        **changes,
    }


@dataclass
class AgentClient:
    """An agent that talks; the newest lease of its pod is the default for lease calls."""

    token: str
    reply: dict[str, Any] = field(default_factory=dict)

    @property
    def pod(self) -> ManagedPod:
        return ManagedPod.objects.get(agent_id=self.reply["agent_id"])

    @property
    def lease(self) -> Lease:
        return Lease.objects.select_related("task").filter(slot__pod=self.pod).latest("id")

    def send(self, method: str, path: str, **arguments: Any) -> Reply:
        return send(method, path, **{"token": self.token, **arguments})

    def heartbeat(self, **changes: Any) -> Reply:
        return self.send("POST", "heartbeat", body=heartbeat_request(**changes))

    def work_request(self, known: list[Any] | None = None, wait: float = 0) -> dict[str, Any]:
        return {
            "incarnation": self.reply["incarnation"],
            "known": known or [],
            "wait_seconds": wait,
        }

    def work(self, known: list[Any] | None = None, wait: float = 0) -> Reply:
        return self.send("POST", "work", body=self.work_request(known, wait))

    def call(self, method: str, what: str, lease: Lease | None = None, **arguments: Any) -> Reply:
        lease = lease or self.lease
        arguments.setdefault("epoch", lease.epoch)
        return self.send(method, f"leases/{lease.pk}/{what}", **arguments)

    def put_artifact(self, kind: str, content: bytes, **arguments: Any) -> Reply:
        digest = hashlib.sha256(content).hexdigest()
        arguments.setdefault("headers", {schema.DIGEST_HEADER: digest})
        return self.call("PUT", f"artifacts/{kind}", body=content, **arguments)

    def put_log(self, phase: str, offset: int, data: bytes, **arguments: Any) -> Reply:
        return self.call("PUT", "log", body=data, phase=phase, offset=offset, **arguments)

    def finish(self, phase: str, outcome: str, lease: Lease | None = None, **changes: Any) -> Reply:
        body = {
            "phase": phase,
            "outcome": outcome,
            "log_bytes": 0,
            "directory_kept": True,
            **changes,
        }
        return self.call("POST", "finish", lease, body=body)

    def finish_plan(self, outcome: str = "planned", **changes: Any) -> Reply:
        """Store everything a plan needs and report its end."""
        for kind in ("plan_bundle", "plan_json", "plan_text"):
            assert self.put_artifact(kind, b"{}" + kind.encode()).status == 200
        return self.finish("plan", outcome, plan=plan_result(), **changes)
