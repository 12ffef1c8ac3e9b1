"""Errors as RFC 9457 problem documents: `application/problem+json`, with stable types."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation, ValidationError
from django.db import DataError, InterfaceError, InternalError, OperationalError
from psycopg_pool import PoolTimeout
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler as default_handler

from tasks_app.exceptions import SlipwayError

log = logging.getLogger(__name__)

CONTENT_TYPE = "application/problem+json"
#: Types and titles of refusals that are HTTP's own, by status.
_HTTP = {
    400: ("invalid-input", "The input is not valid."),
    401: ("unauthenticated", "Who are you? The token is missing or not valid."),
    403: ("not-permitted", "This is not allowed."),
    404: ("not-found", "There is no such object, or you may not see it."),
    405: ("method-not-allowed", "This method is not for this address."),
    406: ("not-acceptable", "This is not offered in the wanted format."),
    413: ("too-large", "The content is larger than allowed."),
    415: ("unsupported-media-type", "This content type is not for this address."),
    429: ("too-many-requests", "Too many requests; wait a little."),
    500: ("internal", "The server failed."),
    503: ("unavailable", "The database is not reachable now."),
}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Answer an error of the REST API; a defect becomes a 500 that says nothing of itself."""
    if isinstance(error, SlipwayError):
        extra = dict(error.extra)
        if error.field:
            extra |= {
                "field": error.field,
                "errors": [{"field": error.field, "message": error.detail}],
            }
        title = error.title
        return _problem(context, error.status, error.type, title, error.detail, extra)
    if isinstance(error, exceptions.ValidationError):
        return _invalid(context, error.detail)
    if isinstance(error, ValidationError):  # a value that no row can have, such as an id
        return _http(context, 400, " ".join(error.messages))
    if isinstance(error, RequestDataTooBig):
        return _http(context, 413, "The body is larger than allowed.")
    if isinstance(error, (SuspiciousOperation, DataError)):
        log.warning("%s: %s", _address(context), error)
        return _http(context, 400, "A value cannot be used.")
    if isinstance(error, (OperationalError, InterfaceError, InternalError, PoolTimeout)):
        log.warning("%s: %s", _address(context), error)
        response = _http(
            context, 503, "Nothing was changed, or it is safe to repeat; try again in a moment."
        )
        response["Retry-After"] = "1"
        return response
    response_of_drf = default_handler(error, context)
    if response_of_drf is None:
        log.exception("%s failed", _address(context), exc_info=error)
        return _http(context, 500, "The server's log says why, under this request_id.")
    detail = getattr(error, "detail", "")
    answer = _http(context, response_of_drf.status_code, str(detail) if detail else "")
    for name, value in response_of_drf.headers.items():
        if name.lower() not in {"content-type", "content-length"}:
            answer[name] = value
    return answer


def document(
    status: int, kind: str, title: str, detail: str = "", extra: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return a problem document; ``kind`` becomes ``urn:slipway:<kind>``."""
    return {
        **(extra or {}),
        "type": f"urn:slipway:{kind}",
        "title": title,
        "status": status,
        "detail": clean(detail or title),
    }


def clean(text: str) -> str:
    """Return a text that can be sent: half surrogate pairs of a request cannot."""
    return text.encode("utf-8", "replace").decode()


def _problem(
    context: dict[str, Any],
    status: int,
    kind: str,
    title: str,
    detail: str,
    extra: Mapping[str, Any] | None = None,
) -> Response:
    request_id = getattr(context.get("request"), "request_id", None)
    body = document(status, kind, title, detail, extra)
    if request_id:
        body["request_id"] = request_id
    return Response(body, status=status, content_type=CONTENT_TYPE)


def _http(context: dict[str, Any], status: int, detail: str) -> Response:
    kind, title = _HTTP.get(status, ("error", "The request could not be carried out."))
    return _problem(context, status, kind, title, detail)


def _invalid(context: dict[str, Any], detail: Any) -> Response:
    errors = [
        {"field": clean(field), "message": clean(message)} for field, message in _flatten(detail)
    ]
    first = errors[0]
    where = f"{first['field']}: " if first["field"] else ""
    kind, title = _HTTP[400]
    return _problem(
        context,
        400,
        kind,
        title,
        f"{where}{first['message']}",
        {"field": first["field"], "errors": errors},
    )


def _flatten(detail: Any, path: str = "") -> list[tuple[str, str]]:
    """Turn the nested errors of a serializer into (field, message) pairs."""
    if isinstance(detail, dict):
        rows = [
            _flatten(value, path if key == "non_field_errors" else f"{path}.{key}".lstrip("."))
            for key, value in detail.items()
        ]
        return [pair for row in rows for pair in row]
    if isinstance(detail, list):
        return [pair for item in detail for pair in _flatten(item, path)]
    return [(path, str(detail))]


def _address(context: dict[str, Any]) -> str:
    request = context.get("request")
    return f"{request.method} {request.path}" if request is not None else "a request"
