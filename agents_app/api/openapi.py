"""The agents' API in the OpenAPI document, made from the messages that both sides use."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from agents_app import schema

_PREFIX = "Agent"
_BINARY = "binary"
#: Method, address, what it takes, what it answers, what it is for; as in `agents_app.schema`.
_CALLS: list[tuple[str, str, Any, Any, str]] = [
    (
        "post",
        "register",
        schema.RegisterRequest,
        schema.RegisterReply,
        "Join a pool by its token",
    ),
    ("post", "heartbeat", schema.HeartbeatRequest, schema.HeartbeatReply, "Say what goes on"),
    ("post", "work", schema.WorkRequest, schema.WorkReply, "Wait for other wishes (long poll)"),
    ("get", "leases/{lease_id}/configuration", None, _BINARY, "The configuration, a tar.gz"),
    ("get", "leases/{lease_id}/artifacts/{kind}", None, _BINARY, "A stored artifact"),
    ("put", "leases/{lease_id}/artifacts/{kind}", _BINARY, schema.Empty, "Store an artifact"),
    ("put", "leases/{lease_id}/log", _BINARY, schema.LogReply, "Store redacted log bytes"),
    (
        "post",
        "leases/{lease_id}/progress",
        schema.ProgressRequest,
        schema.Empty,
        "Ended steps",
    ),
    ("post", "leases/{lease_id}/warmup", schema.WarmupReport, schema.Empty, "What is ready"),
    ("post", "leases/{lease_id}/permit", schema.PermitRequest, schema.PermitReply, "May I apply?"),
    ("post", "leases/{lease_id}/finish", schema.FinishRequest, schema.FinishReply, "A phase's end"),
    ("post", "leases/{lease_id}/ended", schema.EndedRequest, schema.Empty, "The process is gone"),
]
_PROBLEMS = {
    400: "InvalidInput",
    401: "Unauthenticated",
    403: "NotPermitted",
    404: "NotFound",
    409: "Conflict",
    413: "TooLarge",
    503: "Unavailable",
}


def add_agents_api(result: Any, generator: Any, request: Any, public: Any) -> Any:
    """Add paths and messages of the agents' API; a hook of drf-spectacular, after problems."""
    components = result["components"]
    components["schemas"].update(_messages())
    components["securitySchemes"]["agentToken"] = {"type": "http", "scheme": "bearer"}
    for method, path, takes, answers, summary in _CALLS:
        address = f"{schema.API_PREFIX}{path}"
        operation = _operation(method, path, takes, answers, summary)
        result["paths"].setdefault(address, {})[method] = operation
    return result


def _messages() -> dict[str, Any]:
    models: set[type[BaseModel]] = {
        model
        for _, _, *both, _ in _CALLS
        for model in both
        if isinstance(model, type) and issubclass(model, BaseModel)
    }
    ordered = sorted(models, key=lambda model: model.__name__)
    _, document = models_json_schema(
        [(model, "validation") for model in ordered],
        ref_template=f"#/components/schemas/{_PREFIX}{{model}}",
    )
    return {f"{_PREFIX}{name}": model for name, model in document["$defs"].items()}


def _operation(method: str, path: str, takes: Any, answers: Any, summary: str) -> dict[str, Any]:
    name = path.replace("leases/{lease_id}/", "lease_").replace("/{kind}", "")
    responses: dict[str, Any] = {"200": {"description": "", "content": _content(answers)}}
    for status, problem in _PROBLEMS.items():
        responses[str(status)] = {"$ref": f"#/components/responses/{problem}"}
    operation: dict[str, Any] = {
        "operationId": f"agent_{name}_{method}",
        "summary": summary,
        "tags": ["agent API"],
        "security": [{"agentToken": []}],
        "parameters": _parameters(method, path),
        "responses": responses,
    }
    if takes is not None:
        operation["requestBody"] = {"required": True, "content": _content(takes)}
    return operation


def _content(what: Any) -> dict[str, Any]:
    if what == _BINARY:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "application/json": {"schema": {"$ref": f"#/components/schemas/{_PREFIX}{what.__name__}"}}
    }


def _parameters(method: str, path: str) -> list[dict[str, Any]]:
    if not path.startswith("leases/"):
        return []
    found = [
        _parameter("lease_id", "path", {"type": "string", "format": "uuid"}),
        _parameter("epoch", "query", {"type": "integer", "minimum": 0}),
    ]
    if "{kind}" in path:
        found.append(_parameter("kind", "path", {"enum": [kind.value for kind in schema.Artifact]}))
        if method == "put":
            digest = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
            found.append(_parameter(schema.DIGEST_HEADER, "header", digest))
    if path.endswith("/log"):
        found.append(
            _parameter("phase", "query", {"enum": [phase.value for phase in schema.Phase]})
        )
        found.append(_parameter("offset", "query", {"type": "integer", "minimum": 0}))
    return found


def _parameter(name: str, place: str, kind: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": True, "schema": kind}
