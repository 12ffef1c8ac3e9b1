"""The agents' API: one view per line of the table in `agents_app/schema`."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from agents_app.api.agent_auth import bearer, number
from agents_app.api.endpoint import (
    as_caller,
    body_parts,
    endpoint,
    identify,
    in_thread,
    parse,
    reply,
    stream,
    with_lease,
)
from agents_app.hub import Waiter, hub
from agents_app.schema import (
    DIGEST_HEADER,
    Artifact,
    Empty,
    EndedRequest,
    FinishRequest,
    HeartbeatRequest,
    PermitRequest,
    Phase,
    ProgressRequest,
    RegisterReply,
    RegisterRequest,
    WarmupReport,
    WorkReply,
    WorkRequest,
)
from agents_app.services import (
    artifacts,
    finish,
    heartbeat,
    log,
    permit,
    progress,
    registration,
    warmup,
)
from agents_app.services.work import applies_delivered, next_work, ready_applies
from tasks_app.exceptions import InvalidInput, NotFound, TooLarge
from tasks_app.models import Blob

_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Log bytes of one request; agents send far less.
LOG_CHUNK_BYTES_MAX = 4 << 20
_OFFSET_MAX = 2**62


# --- the agent itself ---------------------------------------------------------------------


async def _register(request: HttpRequest) -> HttpResponse:
    answer = await in_thread(_registered, request)
    request.incarnation = answer.incarnation  # type: ignore[attr-defined]
    return reply(answer)


def _registered(request: HttpRequest) -> RegisterReply:
    return registration.register(bearer(request), parse(request, RegisterRequest))


async def _heartbeat(request: HttpRequest) -> HttpResponse:
    call = heartbeat.heartbeat
    return reply(await in_thread(lambda: as_caller(request, call, message=HeartbeatRequest)))


async def _work(request: HttpRequest) -> HttpResponse:
    """Answer at once if the wishes differ from what the agent knows, else after a wake."""
    with hub().waiting() as waiter:
        message, answer = await in_thread(_begin_work, request, waiter)
        if answer is None:
            answer = await _wait_for_work(request, waiter, message)
    return reply(answer)


def _begin_work(request: HttpRequest, waiter: Waiter) -> tuple[WorkRequest, WorkReply | None]:
    caller = identify(request)
    message: WorkRequest = parse(request, WorkRequest)
    # Before the look: what comes after it wakes.
    hub().enter(waiter, caller.pod.agent_id)
    last = message.wait_seconds == 0 or hub().closing
    return message, next_work(caller, message, last=last)


async def _wait_for_work(request: HttpRequest, waiter: Waiter, message: WorkRequest) -> WorkReply:
    clock = asyncio.get_running_loop().time
    # Not all at once: after a restart of the server every agent polls in the same moment.
    until = clock() + message.wait_seconds * random.uniform(0.5, 1.0)
    while True:
        await waiter.wait(max(until - clock(), 0))
        if begin := ready_applies(message, waiter.confirmed):
            _note_delivery(begin)
            request.incarnation = waiter.confirmed[-1].incarnation  # type: ignore[attr-defined]
            return WorkReply(assignments=None, confirmed=begin)
        over = clock() >= until
        last = over or hub().closing
        answer = await in_thread(_look_again, request, message, last, urgent=not over)
        if answer is not None:
            return answer


#: Notes that are being written; the event loop itself keeps no hold of them.
_notes: set[asyncio.Task[None]] = set()


def _note_delivery(leases: list[UUID]) -> None:
    """Write beside the reply, which a person waits for, that it was given."""
    note = asyncio.create_task(in_thread(applies_delivered, leases))
    _notes.add(note)
    note.add_done_callback(_notes.discard)


def _look_again(request: HttpRequest, message: WorkRequest, last: bool) -> WorkReply | None:
    return next_work(identify(request), message, last=last)


# --- a lease's contents -------------------------------------------------------------------


async def _get_configuration(request: HttpRequest, lease_id: UUID) -> HttpResponseBase:
    return await _content(request, lease_id, artifacts.read_configuration)


async def _get_artifact(request: HttpRequest, lease_id: UUID, kind: str) -> HttpResponseBase:
    return await _content(request, lease_id, artifacts.read_artifact, _kind(kind))


async def _content(
    request: HttpRequest, lease_id: UUID, find: Any, *args: Any
) -> StreamingHttpResponse:
    def begin() -> tuple[Blob, Iterator[bytes]]:
        blob, parts = with_lease(request, lease_id, find, *args)
        return blob, _with_first(next(parts, b""), parts)

    blob, parts = await in_thread(begin, bulk=True)
    response = StreamingHttpResponse(stream(parts), content_type="application/octet-stream")
    response["Content-Length"] = str(blob.size)
    response[DIGEST_HEADER] = blob.digest
    return response


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first piece before the reply begins, so that its failure is a status."""
    if first:
        yield first
    yield from rest


async def _put_artifact(request: HttpRequest, lease_id: UUID, kind: str) -> HttpResponse:
    await in_thread(_store, request, lease_id, _kind(kind), bulk=True)
    return reply(Empty())


def _store(request: HttpRequest, lease_id: UUID, kind: Artifact) -> None:
    def store(caller: Any, lease_id: UUID, epoch: int) -> None:
        digest = request.headers.get(DIGEST_HEADER, "")
        if not _SHA256.fullmatch(digest):
            raise InvalidInput("Send the content's SHA-256 in lower-case hex.", field=DIGEST_HEADER)
        artifacts.store_artifact(caller, lease_id, epoch, kind, digest, body_parts(request))

    with_lease(request, lease_id, store)


def _kind(text: str) -> Artifact:
    try:
        return Artifact(text)
    except ValueError:
        kinds = ", ".join(Artifact)
        raise NotFound(f"There is no artifact “{text}”; there are {kinds}.") from None


async def _log(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    return reply(await in_thread(_append, request, lease_id))


def _append(request: HttpRequest, lease_id: UUID) -> Any:
    def append(caller: Any, lease_id: UUID, epoch: int) -> Any:
        text = request.GET.get("phase", "")
        if text not in list(Phase):
            raise InvalidInput("“phase” must be plan, warmup or apply.", field="phase")
        offset = number(request, "offset", _OFFSET_MAX)
        data = request.read(LOG_CHUNK_BYTES_MAX + 1)
        if len(data) > LOG_CHUNK_BYTES_MAX:
            raise TooLarge(f"Send at most {LOG_CHUNK_BYTES_MAX} bytes of log at once.")
        return log.append(caller, lease_id, epoch, Phase(text), offset, data)

    return with_lease(request, lease_id, append)


# --- a lease's life -----------------------------------------------------------------------


def _message_view(service: Any, message: Any) -> Any:
    """Make the handler of a lease endpoint that takes one message and answers with one."""

    async def handler(request: HttpRequest, lease_id: UUID) -> HttpResponse:
        answer = await in_thread(
            lambda: with_lease(request, lease_id, service, message=message), urgent=True
        )
        return reply(answer or Empty())

    return handler


async def _no_address(request: HttpRequest) -> HttpResponse:
    raise NotFound(f"There is no address {request.path} in this API.")


register = endpoint(POST=_register)
heartbeat_view = endpoint(POST=_heartbeat)
work = endpoint(POST=_work)
configuration = endpoint(GET=_get_configuration)
artifact = endpoint(GET=_get_artifact, PUT=_put_artifact)
log_view = endpoint(PUT=_log)
progress_view = endpoint(POST=_message_view(progress.progress, ProgressRequest))
warmup_view = endpoint(POST=_message_view(warmup.warmup, WarmupReport))
permit_view = endpoint(POST=_message_view(permit.permit, PermitRequest))
finish_view = endpoint(POST=_message_view(finish.finish, FinishRequest))
ended_view = endpoint(POST=_message_view(finish.ended, EndedRequest))
not_found = endpoint(**dict.fromkeys(["GET", "POST", "PUT", "PATCH", "DELETE"], _no_address))
