"""Slipway's own settings, typed: `settings.SLIPWAY`, read from ``SLIPWAY_<NAME>``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SlipwaySettings:
    """Durations in seconds, sizes in bytes, unless a name says otherwise."""

    #: Address under which agents and Terraform reach this installation.
    url: str
    #: Key id to key of 32 bytes; the first encrypts, all decrypt.
    encryption_keys: dict[str, bytes]
    #: Below it agents keep work directories; the same absolute path on every agent.
    agent_base_path: Path
    #: For LISTEN, where a pooler stands between; "" to use the ordinary one.
    database_direct_url: str = ""

    # Sizes.
    archive_bytes_max: int = 64 * 1024**2
    archive_unpacked_bytes_max: int = 512 * 1024**2
    archive_files_max: int = 10_000
    archive_ratio_max: int = 200
    bundle_bytes_max: int = 256 * 1024**2
    state_bytes_max: int = 100 * 1024**2
    log_bytes_max: int = 100 * 1024**2

    # Agents.
    heartbeat_seconds: float = 5.0
    poll_seconds: float = 25.0
    agent_lost_seconds: float = 60.0
    agent_token_seconds: float = 7 * 86400.0
    agent_token_overlap_seconds: float = 3600.0

    # Applies.
    permit_seconds_kept: float = 120.0
    state_lock_timeout_seconds: int = 60
    reservation_yield_seconds: float = 60.0

    # What is kept how long.
    finished_directory_seconds: float = 3600.0
    keep_warm_seconds: float = 86400.0
    retention_plan_days: int = 90
    retention_log_days: int = 365
    retention_state_versions: int = 1000
    retention_queue_days: int = 7
