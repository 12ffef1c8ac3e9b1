"""What Slipway reads of a state document; everything else in it is Terraform's."""

from __future__ import annotations

import json
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
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise InvalidInput("The state is not a JSON document.", field="state") from None
    if not isinstance(document, dict):
        raise InvalidInput("The state is not a JSON object.", field="state")
    serial, lineage = document.get("serial"), document.get("lineage")
    if document.get("version") != 4:
        raise InvalidInput("Only state of version 4 is understood.", field="version")
    if not isinstance(serial, int) or isinstance(serial, bool) or not 0 <= serial < 2**62:
        raise InvalidInput("The state has no serial number.", field="serial")
    if not isinstance(lineage, str) or not 0 < len(lineage) <= 64:
        raise InvalidInput("The state has no lineage.", field="lineage")
    return StateFacts(
        serial,
        lineage,
        str(document.get("terraform_version", ""))[:30],
        _managed_instances(document.get("resources")),
    )


def _managed_instances(resources: Any) -> int:
    """Count what the state manages; data sources do not count."""
    if not isinstance(resources, list):
        return 0
    managed = [r for r in resources if isinstance(r, dict) and r.get("mode") == "managed"]
    return sum(len(r["instances"]) for r in managed if isinstance(r.get("instances"), list))
