"""How much memory the held applies of an agent may use together."""

from __future__ import annotations

import threading
from uuid import UUID


class HoldMemory:
    """The memory that the held applies of an agent use; the oldest yields. Safe for threads."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._used: dict[UUID, int] = {}  # oldest first
        self._lock = threading.Lock()

    def count(self, lease_id: UUID, used_bytes: int) -> None:
        """Note what a lease's Terraform uses."""
        with self._lock:
            self._used[lease_id] = used_bytes

    def forget(self, lease_id: UUID) -> None:
        """A lease holds nothing any more."""
        with self._lock:
            self._used.pop(lease_id, None)

    def must_yield(self, lease_id: UUID) -> bool:
        """Return whether too much is used and this lease's is the oldest."""
        with self._lock:
            too_much = sum(self._used.values()) > self.bytes_max
            return too_much and next(iter(self._used)) == lease_id
