"""What Slipway reads of a state document; everything else in it is Terraform's."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from tasks_app.exceptions import InvalidInput, TooLarge


@dataclass(frozen=True)
class StateFacts:
    """What Slipway reads of a state document."""

    serial: int
    lineage: str
    terraform_version: str
    resource_count: int = 0


def parse_state(content: bytes) -> StateFacts:
    """Return the facts of a state document.

    Raises:
        TooLarge: above ``state_bytes_max``.
        InvalidInput: not a Terraform state of version 4.
    """
    limit = settings.SLIPWAY.state_bytes_max
    if len(content) > limit:
        raise TooLarge(f"The state has {len(content)} bytes, more than the allowed {limit}.")
    try:
        document = json.loads(content, object_pairs_hook=_facts_only)
    except (ValueError, RecursionError):
        raise InvalidInput("The state is not a JSON document.", field="state") from None
    if not isinstance(document, dict):
        raise InvalidInput("The state is not a JSON object.", field="state")
    serial, lineage = document.get("serial"), document.get("lineage")
    if document.get("version") != 4:
        raise InvalidInput("Only state of version 4 is understood.", field="version")
    if not isinstance(serial, int) or isinstance(serial, bool) or not 0 <= serial < 2**62:
        raise InvalidInput("The state has no serial number.", field="serial")
    if not isinstance(lineage, str) or not 0 < len(lineage) <= 64 or not lineage.isprintable():
        raise InvalidInput("The state has no lineage.", field="lineage")
    return StateFacts(
        serial,
        lineage,
        str(document.get("terraform_version", ""))[:30].replace("\0", ""),
        _managed_instances(document.get("resources")),
    )


#: The members that Slipway reads of the document and of its resources.
_READ = {"version", "serial", "lineage", "terraform_version", "resources", "mode", "instances"}


def _facts_only(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Drop what is not read while the document is parsed: a state can be 100 MB."""
    return {key: value for key, value in pairs if key in _READ}


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]]')
_NUMBER = re.compile(rb"\s*:\s*(\d+)")


def with_serial(content: bytes, serial: int) -> bytes:
    """Return a state document with another serial and every other byte unchanged.

    Args:
        content: a document that :func:`parse_state` accepts.
    """
    depth = 0
    for token in _TOKEN.finditer(content):
        if token[0] in (b"{", b"["):
            depth += 1
        elif token[0] in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and token[0] == b'"serial"':
            number = _NUMBER.match(content, token.end())
            if number is not None:
                return content[: number.start(1)] + str(serial).encode() + content[number.end(1) :]
    raise InvalidInput("The state has no serial number.", field="serial")


def _managed_instances(resources: Any) -> int:
    """Count what the state manages; data sources do not count."""
    if not isinstance(resources, list):
        return 0
    managed = [r for r in resources if isinstance(r, dict) and r.get("mode") == "managed"]
    return sum(len(r["instances"]) for r in managed if isinstance(r.get("instances"), list))
