"""Errors of the agents' API as problem documents (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.db import DataError, InterfaceError, OperationalError
from django.http import HttpRequest, JsonResponse
from psycopg_pool import PoolTimeout
from pydantic import ValidationError

from tasks_app.exceptions import SlipwayError

log = logging.getLogger(__name__)


def problem(
    kind: str, title: str, status: int, detail: str = "", extra: Mapping[str, Any] | None = None
) -> JsonResponse:
    """Return a problem document; ``kind`` becomes ``urn:slipway:<kind>``."""
    body = {"type": f"urn:slipway:{kind}", "title": title, "status": status, "detail": detail}
    response = JsonResponse(
        {**(extra or {}), **body}, status=status, content_type="application/problem+json"
    )
    if status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="slipway agents"'
    if status == 503:
        response["Retry-After"] = "1"
    return response


def of_exception(request: HttpRequest, error: Exception) -> JsonResponse:
    """Return the problem document of whatever stopped a request."""
    if isinstance(error, SlipwayError):
        extra = dict(error.extra)
        if error.field:
            extra["field"] = error.field
        return problem(error.type, error.title, error.status, error.detail, extra)
    if isinstance(error, ValidationError):
        return _malformed(error)
    if isinstance(error, DataError):
        log.warning("%s %s: %s", request.method, request.path, error)
        return problem(
            "invalid-input", "The message is not valid.", 400, "A value is longer than it may be."
        )
    if isinstance(error, (OperationalError, InterfaceError, PoolTimeout)):
        log.warning("%s %s: %s", request.method, request.path, error)
        return problem(
            "unavailable",
            "The database is not reachable now.",
            503,
            "Nothing was changed, or it is safe to repeat; try again.",
        )
    log.exception("%s %s failed", request.method, request.path, exc_info=error)
    return problem("internal", "The server failed.", 500, "The server's log says why.")


def _malformed(error: ValidationError) -> JsonResponse:
    """Name the fields, never their values: they may be secrets."""
    errors = [
        {"field": ".".join(map(str, entry["loc"])), "message": entry["msg"]}
        for entry in error.errors(include_input=False, include_url=False, include_context=False)
    ]
    first = errors[0]
    where = f"{first['field']}: " if first["field"] else ""
    return problem(
        "invalid-input",
        "The message is not valid.",
        400,
        f"{where}{first['message']}",
        {"field": first["field"], "errors": errors},
    )
