"""Contents in pieces: never whole in memory, under ASGI as under WSGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import StreamingHttpResponse
from rest_framework.request import Request


def download(
    request: Request, parts: Iterator[bytes], content_type: str, filename: str
) -> StreamingHttpResponse:
    """Return a content as a file to save.

    The first piece is read before the answer begins, so that its failure is a status.
    """
    first = next(parts, b"")
    whole = _with_first(first, parts)
    response = StreamingHttpResponse(
        _in_threads(whole) if isinstance(request._request, ASGIRequest) else whole,
        content_type=content_type,
    )
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    response["Cache-Control"] = "no-store"
    return response


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


async def _in_threads(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    while (piece := await sync_to_async(_next, thread_sensitive=False)(parts)) is not None:
        yield piece


def _next(parts: Iterator[bytes]) -> bytes | None:
    """Read one piece; the thread's connection goes back to the pool."""
    try:
        return next(parts, None)
    finally:
        connections.close_all()
