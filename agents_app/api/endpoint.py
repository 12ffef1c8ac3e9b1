"""How an endpoint of the agents' API runs: plain async views around synchronous services.

All database work of a request is one call in a worker thread, whose connection goes back to
the pool when the call ends; a request that waits holds no connection. Bulk contents have
threads of their own, so that they never delay a permit.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from agents_app import tokens
from agents_app.api import problems
from agents_app.api.agent_auth import bearer, number
from agents_app.hub import hub
from agents_app.schema import INCARNATION_HEADER, FinishRequest, Message
from agents_app.tokens import Caller
from pods_app.incarnation import installation
from pods_app.models import Lease
from tasks_app.exceptions import StaleLease, TooLarge
from tasks_app.threads import run_in
from tasks_app.transitions import record

Result = TypeVar("Result")
View = Callable[..., Coroutine[Any, Any, HttpResponseBase]]

#: What of a late result is written down.
_RESULT = {"phase", "outcome", "error", "exit_code"}
#: Small requests; what they wait for is the database. Few: all threads share one interpreter, and
#: each that computes delays a wake.
_SMALL = ThreadPoolExecutor(max_workers=2, thread_name_prefix="agents-api")
#: What a person waits for: wakes and permits, never behind the heartbeats of idle agents.
_URGENT = ThreadPoolExecutor(max_workers=4, thread_name_prefix="agents-urgent")
#: Uploads and downloads of contents.
_BULK = ThreadPoolExecutor(max_workers=4, thread_name_prefix="agents-bulk")


async def in_thread(
    function: Callable[..., Result], *args: Any, bulk: bool = False, urgent: bool = False
) -> Result:
    """Run synchronous work with the database outside the event loop."""
    executor = _BULK if bulk else _URGENT if urgent else _SMALL
    return await run_in(executor, function, *args)


def endpoint(**methods: View) -> View:
    """Make a view of handlers by method: errors become problems, replies name the incarnation."""

    @csrf_exempt
    async def view(request: HttpRequest, **path: Any) -> HttpResponseBase:
        hub().start()
        handler = methods.get(request.method or "")
        if handler is None:
            allowed = ", ".join(sorted(methods))
            response: HttpResponseBase = problems.problem(
                "method-not-allowed",
                "This method is not for this address.",
                405,
                f"Allowed here: {allowed}.",
            )
            response["Allow"] = allowed
        else:
            try:
                response = await handler(request, **path)
            except Exception as error:  # noqa: BLE001  every reply is a document
                response = problems.of_exception(request, error)
        incarnation = getattr(request, "incarnation", None)
        if incarnation is None and response.status_code != 503:
            incarnation = await _incarnation()
        if incarnation is not None:
            response[INCARNATION_HEADER] = str(incarnation)
        return response

    return view


async def _incarnation() -> UUID | None:
    """Look it up for a refusal before the agent was known; None if the database is away."""
    try:
        return (await in_thread(installation)).incarnation
    except DatabaseError:
        return None


def parse(request: HttpRequest, kind: type[Message]) -> Any:
    """Return the body as a message of ``kind``.

    Raises:
        pydantic.ValidationError: it is none.
        TooLarge: larger than ``DATA_UPLOAD_MAX_MEMORY_SIZE``.
    """
    try:
        body = request.body
    except RequestDataTooBig:
        raise TooLarge("The message is too large.") from None
    return kind.model_validate_json(_without_nul(body))


def _without_nul(body: bytes) -> bytes:
    """Terraform's texts may hold NUL, PostgreSQL's may not."""
    return body.replace(b"\\u0000", b"\\ufffd")


def identify(request: HttpRequest) -> Caller:
    """Return the calling agent and note the incarnation for the reply."""
    caller = tokens.authenticate(bearer(request))
    request.incarnation = caller.incarnation  # type: ignore[attr-defined]
    return caller


def as_caller(
    request: HttpRequest,
    function: Callable[..., Result],
    *args: Any,
    message: type[Message] | None = None,
) -> Result:
    """Authenticate, read the message if the endpoint takes one, and call the service."""
    caller = identify(request)
    if message is not None:
        args = (*args, parse(request, message))
    return function(caller, *args)


def with_lease(
    request: HttpRequest,
    lease_id: UUID,
    function: Callable[..., Result],
    *args: Any,
    message: type[Message] | None = None,
) -> Result:
    """Do the same for an endpoint of a lease; a stale write is audited and has no effect."""
    caller = identify(request)
    epoch = number(request, "epoch")
    if message is not None:
        args = (*args, parse(request, message))
    try:
        return function(caller, lease_id, epoch, *args)
    except StaleLease:
        _audit_stale(request, caller, lease_id, epoch, args)
        raise


def _audit_stale(
    request: HttpRequest, caller: Caller, lease_id: UUID, epoch: int, args: tuple[Any, ...]
) -> None:
    """Write down who came too late, and with what result: a person may still want to know."""
    lease = Lease.objects.select_related("task").filter(pk=lease_id).first()
    record(
        "agent.stale_write",
        actor=caller.actor,
        task=lease.task if lease else None,
        lease=lease,
        cause="the lease is over or its epoch is another",
        data={
            "call": f"{request.method} {request.path.rpartition('/')[2]}",
            "epoch": epoch,
            **_result(args),
        },
    )


def _result(args: tuple[Any, ...]) -> dict[str, Any]:
    said = next((arg for arg in args if isinstance(arg, FinishRequest)), None)
    return said.model_dump(mode="json", include=_RESULT) if said else {}


def reply(message: Message, status: int = 200) -> HttpResponse:
    """Return a message as the answer."""
    return HttpResponse(message.model_dump_json(), status=status, content_type="application/json")


async def stream(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a stored content chunk by chunk, each read in a thread."""
    while (piece := await in_thread(next, parts, None, bulk=True)) is not None:
        yield piece


def body_parts(request: HttpRequest, piece: int = 1 << 20) -> Iterator[bytes]:
    """Yield the request's body, which the server has spooled to disk, in pieces."""
    return iter(functools.partial(request.read, piece), b"")
