"""Terraform's HTTP backend: GET, POST, LOCK and UNLOCK on one address a workspace.

The password of HTTP Basic is a run's token or a person's API token. "No state" is answered
only when there never was one: Terraform would otherwise plan to create everything again.
Locking is refused with 403 where it will never be granted, because Terraform retries 423.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from knox.auth import TokenAuthentication
from rest_framework.exceptions import AuthenticationFailed

from tasks_app.actors import Actor
from tasks_app.exceptions import (
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    SlipwayError,
    StateLocked,
    TooLarge,
)
from tasks_app.models import Workspace
from tasks_app.permissions import Action, may
from tasks_app.ports import StateGrant, state_access
from tasks_app.services import state as service
from tasks_app.services.state_position import current_version
from tasks_app.transitions import lock_task_row

#: LockInfo has a few hundred bytes.
_LOCK_INFO_BYTES = 1 << 16


class _Unauthenticated(Exception):
    """No usable credentials."""


@dataclass(frozen=True)
class _Caller:
    actor: Actor
    password: str
    grant: StateGrant | None  # None: a person

    def may_write_now(self) -> bool:
        """Ask again for a run's right to write; called under its task's lock."""
        if self.grant is None:
            return True
        grant = state_access().authenticate(self.password)
        return grant is not None and grant.may_write


@csrf_exempt
def state(request: HttpRequest, workspace_id: UUID) -> HttpResponse:
    """Answer one request of the backend protocol."""
    handler = {"GET": _get, "POST": _post, "LOCK": _lock, "UNLOCK": _unlock}.get(
        request.method or ""
    )
    if handler is None:
        return HttpResponse(status=405, headers={"Allow": "GET, POST, LOCK, UNLOCK"})
    try:
        caller = _authenticate(request)
        workspace = _workspace(workspace_id, caller)
        return handler(request, workspace, caller)
    except _Unauthenticated:
        return HttpResponse(status=401, headers={"WWW-Authenticate": 'Basic realm="Slipway"'})
    except StateLocked as refusal:
        return JsonResponse(refusal.extra["holder"], status=423)
    except NotFound:
        # Never 404 here: Terraform would take it for "there is no state yet".
        return _problem(403, "There is no such workspace, or you may not use its state.")
    except SlipwayError as refusal:
        holder = refusal.extra.get("holder")
        if holder is not None:
            return JsonResponse(holder, status=refusal.status)
        return _problem(refusal.status, refusal.detail)
    except DatabaseFailure:
        return _problem(503, "The state cannot be reached now; try again.")


def _problem(status: int, sentence: str) -> HttpResponse:
    return HttpResponse(sentence + "\n", status=status, content_type="text/plain; charset=utf-8")


def _authenticate(request: HttpRequest) -> _Caller:
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise _Unauthenticated
    try:
        password = base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError, ValueError):
        raise _Unauthenticated from None
    grant = state_access().authenticate(password)
    if grant is not None:
        return _Caller(Actor(f"task:{grant.task_id}"), password, grant)
    try:
        user, _token = TokenAuthentication().authenticate_credentials(password.encode())
    except AuthenticationFailed:
        raise _Unauthenticated from None
    return _Caller(Actor.person(user), password, None)


def _workspace(workspace_id: UUID, caller: _Caller) -> Workspace:
    if caller.grant is None:
        workspace = Workspace.objects.filter(pk=workspace_id).first()
    else:
        workspace = caller.grant.workspace
    if workspace is None or workspace.pk != workspace_id:
        raise NotFound
    if workspace.state_backend != Workspace.StateBackend.SLIPWAY:
        raise NotPermitted("This workspace keeps its state in its configuration's own backend.")
    return workspace


def _require(caller: _Caller, action: Action, workspace: Workspace) -> None:
    if caller.grant is None and not may(caller.actor, action, workspace):
        raise NotPermitted("Your role does not allow this on the state of this workspace.")


def _get(request: HttpRequest, workspace: Workspace, caller: _Caller) -> HttpResponse:
    _require(caller, Action.READ_STATE, workspace)
    if caller.grant and not caller.grant.may_read:
        raise NotPermitted(caller.grant.refusal)
    version = current_version(workspace)
    if version is None:
        return HttpResponse(status=404)
    try:
        content = service.read_state(version)
    except NotFound as missing:
        return _problem(503, missing.detail)
    response = HttpResponse(content, content_type="application/json")
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    response["Content-MD5"] = base64.b64encode(digest).decode()
    return response


def _body(request: HttpRequest) -> bytes:
    limit = settings.SLIPWAY.state_bytes_max
    try:
        announced = int(request.headers.get("Content-Length") or 0)
    except ValueError:
        announced = 0
    if announced <= limit:
        content = request.read(limit + 1)
        if len(content) <= limit:
            return content
    raise TooLarge(f"The state is larger than the allowed {limit} bytes.")


def _post(request: HttpRequest, workspace: Workspace, caller: _Caller) -> HttpResponse:
    _require(caller, Action.WRITE_STATE, workspace)
    content = _body(request)
    expected = request.headers.get("Content-MD5")
    if expected is not None:
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        if expected != base64.b64encode(digest).decode():
            raise InvalidInput("The content does not match its Content-MD5; send it again.")
    lock_id = request.GET.get("ID", "")
    if not lock_id:
        raise Conflict("A state is written only under a lock: the ID is missing.")
    service.store_state(
        workspace=workspace,
        content=content,
        lock_id=lock_id,
        actor=caller.actor,
        task_id=caller.grant.task_id if caller.grant else None,
        may_write=caller.may_write_now,
    )
    return HttpResponse(status=200)


def _lock_info(request: HttpRequest) -> dict[str, Any]:
    try:
        info = json.loads(request.read(_LOCK_INFO_BYTES))
    except (ValueError, RecursionError):
        raise InvalidInput("The lock's information is not a JSON document.") from None
    if not isinstance(info, dict):
        raise InvalidInput("The lock's information is not a JSON object.")
    return info


def _lock(request: HttpRequest, workspace: Workspace, caller: _Caller) -> HttpResponse:
    info = _lock_info(request)
    if caller.grant is None:
        _require(caller, Action.WRITE_STATE, workspace)
        try:
            service.lock_state(workspace=workspace, info=info, actor=caller.actor)
        except Conflict as refusal:
            # Refused for as long as a task applies: 403 ends Terraform, 409 would make it wait.
            raise NotPermitted(refusal.detail) from None
        return HttpResponse(status=200)
    with transaction.atomic():
        # The permit, a cancel and a verdict all take the task's row: ask again under it.
        lock_task_row(caller.grant.task_id)
        grant = state_access().authenticate(caller.password)
        if grant is None or not grant.may_lock:
            raise NotPermitted(grant.refusal if grant else "This run is over.")
        service.lock_state(
            workspace=workspace,
            info=info,
            actor=caller.actor,
            task_id=grant.task_id,
            lease_id=grant.lease_id,
        )
    return HttpResponse(status=200)


def _unlock(request: HttpRequest, workspace: Workspace, caller: _Caller) -> HttpResponse:
    _require(caller, Action.WRITE_STATE, workspace)
    if not request.body.strip():
        raise InvalidInput(
            "Without its ID a lock is not released. Use “Force unlock” on the workspace's page, "
            "or DELETE its state-lock in the API: both are audited."
        )
    service.unlock_state(
        workspace=workspace,
        lock_id=str(_lock_info(request).get("ID", "")),
        actor=caller.actor,
        task_id=caller.grant.task_id if caller.grant else None,
    )
    return HttpResponse(status=200)
