"""Gives every request an id."""

from __future__ import annotations

import uuid
from inspect import iscoroutinefunction
from typing import Any

from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def RequestIdMiddleware(get_response: Any) -> Any:
    """Note an id on the request and send it back."""
    if iscoroutinefunction(get_response):

        async def answer(request: Any) -> Any:
            request.request_id = uuid.uuid4().hex
            response = await get_response(request)
            response.headers["X-Request-ID"] = request.request_id
            return response

        return answer

    def answer_sync(request: Any) -> Any:
        request.request_id = uuid.uuid4().hex
        response = get_response(request)
        response.headers["X-Request-ID"] = request.request_id
        return response

    return answer_sync
