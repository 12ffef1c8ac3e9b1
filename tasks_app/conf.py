"""Slipway's own settings, typed: ``settings.SLIPWAY``.

Each field of :class:`SlipwaySettings` is read from the environment variable ``SLIPWAY_`` plus its
name in capitals; ``docs/settings.md`` is made from the same fields.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

MIB = 1024**2


def _setting(about: str, unit: str, default: Any = MISSING) -> Any:
    """A field with what the documentation says about it; no default means it is required."""
    return field(default=default, metadata={"about": about, "unit": unit})


@dataclass(frozen=True, kw_only=True)
class SlipwaySettings:
    """What an installation can set. The unit of every field is part of its definition."""

    encryption_keys: dict[str, bytes] = _setting(
        "Keys of everything encrypted at rest; the first encrypts, all decrypt",
        "comma-separated `id:key`, a key being 32 bytes in base64",
    )
    url: str = _setting(
        "Address under which agents and Terraform reach this installation",
        "URL",
        "http://127.0.0.1:8000",
    )
    work_directory: Path = _setting(
        "Below it agents keep work directories; the same on every agent of the installation",
        "absolute path",
        Path("/var/lib/slipway/work"),
    )
    agents_directory: Path = _setting(
        "Where the agents of pools of local processes keep their journal and log",
        "absolute path",
        Path("/var/lib/slipway/agents"),
    )
    database_direct_url: str = _setting(
        "PostgreSQL's own address, for LISTEN, where a pooler stands before DATABASE_URL",
        "URL; empty: as DATABASE_URL",
        "",
    )

    # Sizes.
    archive_bytes_max: int = _setting("Largest configuration archive", "bytes", 64 * MIB)
    archive_unpacked_bytes_max: int = _setting(
        "Largest configuration once unpacked", "bytes", 512 * MIB
    )
    archive_files_max: int = _setting("Most entries of a configuration archive", "entries", 10_000)
    archive_ratio_max: int = _setting(
        "Largest unpacked size of an archive, as a multiple of its own", "times", 200
    )
    bundle_bytes_max: int = _setting(
        "Largest plan bundle; a larger plan applies only from its kept directory",
        "bytes",
        256 * MIB,
    )
    state_bytes_max: int = _setting("Largest state", "bytes", 100 * MIB)
    log_bytes_max: int = _setting(
        "Largest log of one phase; what is beyond is cut with a notice", "bytes", 100 * MIB
    )

    # Agents.
    heartbeat_seconds: float = _setting("Time between two heartbeats of an agent", "seconds", 10.0)
    poll_seconds: float = _setting("How long an agent's poll for work waits", "seconds", 25.0)
    agent_lost_seconds: float = _setting(
        "Silence after which an agent is declared lost", "seconds", 60.0
    )
    disk_free_bytes_min: int = _setting(
        "Free disk below which an agent is given no new work, except an apply of the directory "
        "it keeps; 0 never minds",
        "bytes",
        1024 * MIB,
    )
    agent_token_seconds: float = _setting(
        "Life of an agent's token, which the agent renews", "seconds", 7 * 86400.0
    )
    agent_token_overlap_seconds: float = _setting(
        "How long an agent's former token still works after a renewal", "seconds", 3600.0
    )

    # Pods in Kubernetes.
    kubeconfig: str = _setting(
        "Kubeconfig of the cluster with the pods of Kubernetes pools",
        "path; empty: the cluster Slipway itself runs in",
        "",
    )
    cluster_namespace: str = _setting(
        "Namespace of these pods",
        "name; empty: that of the kubeconfig's context, or Slipway's own",
        "",
    )
    agent_image: str = _setting(
        "Container image of agents, where a pool's template names none", "image reference", ""
    )
    agent_service_account: str = _setting(
        "Service account of agents' pods; it needs no rights", "name", "slipway-agent"
    )

    # Applies.
    permit_seconds_held: float = _setting(
        "How long after its permit an apply that was held may take the state lock",
        "seconds",
        30.0,
    )
    permit_seconds_kept: float = _setting(
        "The same for an apply whose Terraform is started after the confirmation",
        "seconds",
        120.0,
    )
    state_lock_timeout_seconds: int = _setting(
        "How long an apply waits for a state lock that somebody else holds", "seconds", 60
    )
    reservation_yield_seconds: float = _setting(
        "How long startable work waits in a full pool before the oldest reserved slot yields",
        "seconds",
        60.0,
    )

    # Warm-ups.
    warmup_seconds: float = _setting(
        "How long a warm-up counts as ready unless its agent renews it", "seconds", 1800.0
    )
    warmups_per_pass: int = _setting(
        "How many warm-ups begin in a pool in one pass, which the controller makes each second; a "
        "pool that comes back from a freeze starts gently",
        "warm-ups",
        10,
    )
    hold_bytes_max: int = _setting(
        "Memory that the held applies of one agent may use together; 0 holds none",
        "bytes",
        512 * MIB,
    )

    # What is kept how long.
    finished_directory_seconds: float = _setting(
        "How long the work directory of a finished task stays", "seconds", 3600.0
    )
    keep_warm_seconds: float = _setting(
        "How long a plan that waits for a confirmation keeps its directory and slot",
        "seconds",
        86400.0,
    )
    retention_plan_days: int = _setting("How long plans of finished tasks stay", "days", 90)
    retention_log_days: int = _setting("How long logs of finished tasks stay", "days", 365)
    retention_state_versions: int = _setting(
        "How many versions of each workspace's state stay", "versions", 1000
    )
    retention_scaling_days: int = _setting(
        "How long decisions about the size of pools stay", "days", 90
    )
    retention_queue_days: int = _setting("How long rows of finished jobs stay", "days", 7)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], **defaults: Any) -> SlipwaySettings:
        """Read every setting.

        Args:
            defaults: fields whose default differs in this installation.

        Raises:
            ValueError: a variable is not a number; the message names it. Malformed encryption
                keys are kept as they are: the check ``slipway.E003`` names them.
        """
        values: dict[str, Any] = {"encryption_keys": {}, **defaults}
        for item in fields(cls):
            text = environ.get(variable(item.name))
            if text is not None and text.strip():
                values[item.name] = _parse(item.name, str(item.type), text.strip())
        return cls(**values)


def variable(name: str) -> str:
    """Return the environment variable of a field."""
    return "DATABASE_DIRECT_URL" if name == "database_direct_url" else f"SLIPWAY_{name.upper()}"


def _parse(name: str, kind: str, text: str) -> Any:
    if kind == "dict[str, bytes]":
        return _keys(text)
    if kind == "Path":
        return Path(text)
    if kind == "str":
        return text
    try:
        number = float(text) if kind == "float" else int(text)
    except ValueError:
        raise ValueError(f"{variable(name)} must be a number, not {text!r}.") from None
    if number < 0:
        raise ValueError(f"{variable(name)} must not be negative.")
    return number


def _keys(text: str) -> dict[str, bytes]:
    """Parse ``id:base64`` entries; a malformed key becomes empty, for the check to name."""
    keys = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        key_id, _, encoded = entry.partition(":")
        try:
            keys[key_id] = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            keys[key_id] = b""
    return keys
