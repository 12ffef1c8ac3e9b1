"""The OpenAPI document: what the code does not say by itself.

Every refusal is a problem document, so every operation gets the same ones by its kind; no
status may come that the document lacks (the tests send thousands of requests to see).
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from rest_framework import serializers

from tasks_app.api.base import Input
from tasks_app.api.idempotency import HEADER, KEY_LENGTH_MAX
from tasks_app.api.problems import CONTENT_TYPE

#: Refusals by status: name of the component and when it comes.
_REFUSALS = {
    400: ("InvalidInput", "The input is not valid; `field` and `errors` say where."),
    401: ("Unauthenticated", "The token is missing, unknown, expired or revoked."),
    403: ("NotPermitted", "Your role does not allow this."),
    404: ("NotFound", "There is no such object, or you may not see it."),
    409: ("Conflict", "The object is not in a state that allows this."),
    413: ("TooLarge", "The content is larger than allowed."),
    415: ("UnsupportedMediaType", "The content type is not for this address."),
    422: ("KeyReused", "The Idempotency-Key came before with another request."),
    423: ("StateLocked", "Somebody works with the state; `holder` is Terraform's LockInfo."),
    429: ("TooManyRequests", "Wait as long as `Retry-After` says."),
    503: ("Unavailable", "The database is not reachable now; try again."),
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `type` is stable; `detail` says what is wrong and what to do.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "pattern": "^urn:slipway:[a-z-]+$"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "The input field it is about"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
        "current": {"type": "string", "description": "Of an illegal transition: the status"},
        "allowed": {"type": "array", "items": {"type": "string"}},
        "request_id": {"type": "string", "description": "Also in the header X-Request-ID"},
    },
}
_IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "The same request again under this key gets the same answer, for 24 hours.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_LENGTH_MAX,
        "pattern": "^[!-~]+$",
    },
}


class ExactSchema(AutoSchema):
    """Says that unknown fields of a request are refused."""

    def _map_basic_serializer(self, serializer: serializers.Serializer[Any], direction: str) -> Any:
        schema = super()._map_basic_serializer(serializer, direction)
        if direction == "request" and isinstance(serializer, Input):
            schema["additionalProperties"] = False
            if not type(serializer).__doc__:
                schema.pop("description", None)  # that of the base class
        return schema


def add_problems(result: Any, generator: Any, request: Any, public: Any) -> Any:
    """Add to every operation the refusals it can answer; a hook of drf-spectacular."""
    components = result["components"]
    components["schemas"]["Problem"] = _PROBLEM
    components["parameters"] = {"IdempotencyKey": _IDEMPOTENCY_KEY}
    content = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {
        name: {"description": description, "content": content}
        for name, description in _REFUSALS.values()
    }
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            for status in _refusals(path, method, operation):
                reference = {"$ref": f"#/components/responses/{_REFUSALS[status][0]}"}
                operation["responses"].setdefault(str(status), reference)
            if method == "post":
                parameter = {"$ref": "#/components/parameters/IdempotencyKey"}
                operation.setdefault("parameters", []).append(parameter)
    return result


def _refusals(path: str, method: str, operation: dict[str, Any]) -> list[int]:
    found = [401, 403, 429, 503]
    if "{" in path:
        found.append(404)
    changes = method != "get"
    if changes or any(row["in"] == "query" for row in operation.get("parameters", [])):
        found.append(400)
    if changes:
        found.append(409)
    if "requestBody" in operation:
        found += [413, 415]
    if method == "post":
        found.append(422)
    if method == "post" and "/state-versions/" in path:
        found.append(423)
    return found
