"""The second net for secrets in logs: agents redact before they upload, the server looks again.

Offsets count the bytes that the agent sent, so what is found here is masked at its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from pods_app.models import Lease
from pods_app.services import pool_credentials
from pods_app.state_access import run_token
from tasks_app.actors import Actor
from tasks_app.redaction import forms, pattern_of
from tasks_app.services.credentials import project_credentials
from tasks_app.services.logs import mask_log, read_log
from tasks_app.services.variables import sensitive_values
from tasks_app.transitions import record


@dataclass(frozen=True)
class Net:
    """What to look for; ``longest`` is the longest form of a secret in bytes."""

    pattern: re.Pattern[bytes] | None
    longest: int

    @classmethod
    def of(cls, secrets: Iterable[str]) -> Net:
        found = {form for secret in secrets for form in forms(secret)}
        if not found:
            return cls(None, 0)
        return cls(pattern_of(found), max(map(len, found)))

    def spans(self, data: bytes) -> list[tuple[int, int]]:
        """Return where secrets lie, as start and end."""
        return [match.span() for match in self.pattern.finditer(data)] if self.pattern else []


def secrets_of(lease: Lease) -> list[str]:
    """Return every secret that the lease's run was given."""
    credentials = [
        *pool_credentials(lease.slot.pod.pool),
        *project_credentials(lease.task.workspace.project),
    ]
    return [
        *sensitive_values(lease.task),
        *(secret for _, secret in credentials),
        run_token(lease, lease.environment_digest),
    ]


#: Nets of the leases that write now, by lease, phase and what their runs are given: building
#: one decrypts many rows.
_nets: dict[tuple[UUID, str, str], Net] = {}
_NETS_MAX = 256


def _net(lease: Lease) -> Net:
    key = (lease.pk, lease.phase, lease.environment_digest)
    net = _nets.get(key)
    if net is None:
        net = Net.of(secrets_of(lease))
        while len(_nets) >= _NETS_MAX:
            _nets.pop(next(iter(_nets)), None)
        _nets[key] = net
    return net


def masked(lease: Lease, phase: str, offset: int, data: bytes) -> bytes:
    """Return ``data`` with what the agent's redaction missed masked, lengths unchanged.

    A secret that begins in bytes stored before is masked there too.

    Args:
        offset: of ``data`` in the phase's log.
    """
    net = _net(lease)
    if net.pattern is None:
        return data
    start = max(offset - net.longest + 1, 0)
    before = b""
    if offset > start:
        before = read_log(lease.task, phase, start).data[: offset - start]
    if start + len(before) != offset:
        return data  # after a gap: nothing will be stored
    whole = bytearray(before + data)
    spans = net.spans(bytes(whole))
    for begin, end in spans:
        whole[begin:end] = b"*" * (end - begin)
        if begin < len(before):
            stored = min(end, len(before)) - begin
            mask_log(task=lease.task, phase=phase, offset=start + begin, length=stored)
    if spans:
        record(
            "agent.secret_masked",
            actor=Actor.agent(lease.slot.pod.agent_id),
            task=lease.task,
            lease=lease,
            cause="the agent's log held a secret; it was masked before it was stored",
            data={"phase": phase, "places": len(spans)},
        )
    return bytes(whole[len(before) :])
