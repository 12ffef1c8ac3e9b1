"""Middleware that works synchronously and asynchronously: a long poll must not hold a thread."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import resolve
from django.utils.decorators import sync_and_async_middleware
from whitenoise.middleware import WhiteNoiseMiddleware

from agents_app.schema import API_PREFIX
from tasks_app.threads import run_in

Handler = Callable[[HttpRequest], Any]

_STATE_PREFIX = "/api/state/v1/"
#: Terraform's requests for a state, small and large: never in the way of wakes and permits.
_STATE = ThreadPoolExecutor(max_workers=8, thread_name_prefix="state")

#: Unfold's Alpine needs 'unsafe-eval'; inline scripts and other hosts stay forbidden.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; object-src 'none'; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)


@sync_and_async_middleware
def content_security_policy(get_response: Handler) -> Handler:
    """Set the policy on every answer that has none of its own."""

    if iscoroutinefunction(get_response):

        async def answer(request: HttpRequest) -> HttpResponseBase:
            response = await get_response(request)
            response.headers.setdefault("Content-Security-Policy", POLICY)
            return response

        return answer

    def answer_sync(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    return answer_sync


@sync_and_async_middleware
def programs(get_response: Handler) -> Handler:
    """Let agents and Terraform's state pass by what pages need: sessions, cookies, messages.

    Most of the middleware after this one is synchronous; measured, it costs each of hundreds of
    heartbeats and polls as much as the request itself, and an apply two requests for its state
    before its first action.
    """
    if not iscoroutinefunction(get_response):
        return get_response

    async def answer(request: HttpRequest) -> HttpResponseBase:
        insecure = settings.SECURE_SSL_REDIRECT and not request.is_secure()
        if insecure or not request.path_info.startswith((API_PREFIX, _STATE_PREFIX)):
            passed: HttpResponseBase = await get_response(request)
            return passed
        match = request.resolver_match = resolve(request.path_info)
        call = functools.partial(match.func, request, *match.args, **match.kwargs)
        answered: HttpResponseBase
        answered = await (call() if iscoroutinefunction(match.func) else run_in(_STATE, call))
        return answered

    return answer


@sync_and_async_middleware
def static_files(get_response: Handler) -> Handler:
    """Serve static files by whitenoise, whose own middleware is synchronous only."""
    find: Callable[[HttpRequest], HttpResponseBase | None] = WhiteNoiseMiddleware(_nothing)

    if iscoroutinefunction(get_response):

        async def answer(request: HttpRequest) -> HttpResponseBase:
            found = find(request)
            if found is None:
                pending: Awaitable[HttpResponseBase] = get_response(request)
                return await pending
            return _read_ahead(found)

        return answer

    return lambda request: find(request) or get_response(request)


def _nothing(request: HttpRequest) -> None:
    return None


def _read_ahead(response: Any) -> HttpResponseBase:
    """Give the file as asynchronous parts; they are small and on local disk."""
    if response.streaming:
        parts = response.streaming_content

        async def stream() -> Any:
            for part in parts:
                yield part

        response.streaming_content = stream()
    answer: HttpResponseBase = response
    return answer
