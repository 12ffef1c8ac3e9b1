"""Terraform's side of the state backend, over Django's test client."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.test import Client
from knox.models import AuthToken

from agents_app.models import LeaseArtifact
from agents_app.schema import Artifact
from tasks_app import blobs
from tasks_app.models import Blob, Task

LINEAGE = "5d8a4a0a-0000-4000-8000-000000000001"


def document(serial: int, lineage: str = LINEAGE, **outputs: str) -> bytes:
    """A state as Terraform writes it."""
    return json.dumps(
        {
            "version": 4,
            "terraform_version": "1.11.4",
            "serial": serial,
            "lineage": lineage,
            "outputs": {name: {"value": v, "type": "string"} for name, v in outputs.items()},
            "resources": [],
        },
        indent=2,
    ).encode()


def save_state(task: Task, content: bytes) -> LeaseArtifact:
    """What an agent does with a state that Terraform could not upload."""
    blob = blobs.store([content], Blob.Retention.STATE)
    lease = task.leases.get()
    return LeaseArtifact.objects.create(lease=lease, kind=Artifact.RECOVERED_STATE, blob=blob)


def token_of(user: User) -> str:
    """A personal token."""
    token: str = AuthToken.objects.create(user=user)[1]
    return token


@dataclass
class StateClient:
    """One Terraform: its workspace's address and its password."""

    workspace_id: UUID
    password: str
    lock_id: str = "lock-1"

    def send(self, method: str, body: bytes | str = b"", query: str = "", **headers: str) -> Any:
        credentials = base64.b64encode(f"slipway:{self.password}".encode()).decode()
        return Client().generic(
            method,
            f"/api/state/v1/{self.workspace_id}/{query}",
            body,
            content_type="application/json",
            headers={"Authorization": f"Basic {credentials}", **headers},
        )

    def get(self) -> Any:
        return self.send("GET")

    def lock(self, lock_id: str | None = None) -> Any:
        info = {"ID": lock_id or self.lock_id, "Operation": "OperationTypeApply", "Who": "ada@host"}
        return self.send("LOCK", json.dumps(info))

    def unlock(self, lock_id: str | None = None) -> Any:
        return self.send("UNLOCK", json.dumps({"ID": lock_id or self.lock_id}))

    def post(self, content: bytes, lock_id: str | None = None, md5: str | None = None) -> Any:
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        return self.send(
            "POST",
            content,
            f"?ID={lock_id or self.lock_id}",
            **{"Content-MD5": md5 or base64.b64encode(digest).decode()},
        )
