"""Logs: redacted bytes keyed by offset, encrypted, acknowledged only after the commit."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F

from tasks_app.exceptions import InvalidInput
from tasks_app.keyring import keyring
from tasks_app.models import LogChunk, LogStream, Task

READ_BYTES = 256 * 1024
#: Of one page; a log of many tiny pieces takes more pages.
_CHUNKS_MAX = 512


@dataclass(frozen=True)
class LogPart:
    """A piece of a log. ``complete``: nothing will follow ``next_offset``."""

    data: bytes
    next_offset: int
    complete: bool
    truncated: bool


def append_log(*, task: Task, phase: str, lease_id: UUID, offset: int, data: bytes) -> int:
    """Store log bytes that begin at ``offset`` of the redacted stream.

    Repeats are ignored, a gap is refused by its answer, and a new lease (the plan was given
    to another agent) starts the log anew.

    Beyond ``log_bytes_max`` bytes are acknowledged and not stored.

    Returns:
        The offset at which the writer shall continue.
    """
    if offset < 0:
        raise InvalidInput("An offset is not negative.", field="offset")
    with transaction.atomic():
        stream, _ = LogStream.objects.select_for_update().get_or_create(
            task=task, phase=phase, defaults={"lease_id": lease_id}
        )
        if stream.lease_id != lease_id:
            stream.chunks.all().delete()
            stream.lease_id, stream.size = lease_id, 0
            stream.truncated = stream.complete = False
        if stream.truncated:
            return offset + len(data)
        if offset > stream.size:
            stream.save()
            return stream.size
        fresh = data[stream.size - offset :]
        room = settings.SLIPWAY.log_bytes_max - stream.size
        if len(fresh) > room:
            fresh, stream.truncated = fresh[: max(room, 0)], True
        if fresh:
            chunk = LogChunk(stream=stream, offset=stream.size, size=len(fresh))
            keyring().encrypt_row(chunk, fresh)
            chunk.save(force_insert=True)
            stream.size += len(fresh)
        stream.save()
        return offset + len(data) if stream.truncated else stream.size


def complete_log(*, task: Task, phase: str, truncated: bool) -> None:
    """Mark a phase's log as whole."""
    LogStream.objects.filter(task=task, phase=phase).update(complete=True)
    if truncated:
        LogStream.objects.filter(task=task, phase=phase).update(truncated=True)


def mask_log(*, task: Task, phase: str, offset: int, length: int) -> None:
    """Overwrite stored bytes in which a secret turned out to lie."""
    with transaction.atomic():
        stream = LogStream.objects.select_for_update().get(task=task, phase=phase)
        for chunk in _chunks_from(stream, offset, length):
            start, end = (
                max(offset - chunk.offset, 0),
                min(offset + length - chunk.offset, chunk.size),
            )
            ring = keyring()
            plain = bytearray(ring.decrypt_row(chunk))
            plain[start:end] = b"*" * (end - start)
            ring.encrypt_row(chunk, bytes(plain))
            chunk.save(update_fields=["ciphertext", "key_id"])


def log_size(task: Task, phase: str) -> int:
    """Return how many bytes of a phase's log are stored."""
    return (
        LogStream.objects.filter(task=task, phase=phase).values_list("size", flat=True).first() or 0
    )


def read_log(task: Task, phase: str, offset: int = 0, limit: int = READ_BYTES) -> LogPart:
    """Return stored bytes from ``offset`` on, about ``limit`` at most.

    An offset past the end returns nothing and the true end.
    """
    stream = LogStream.objects.filter(task=task, phase=phase).first()
    if stream is None:
        return LogPart(b"", 0, task.is_final, False)
    offset = min(max(offset, 0), stream.size)
    parts: list[bytes] = []
    position = offset
    for chunk in _chunks_from(stream, offset, limit):
        plain = keyring().decrypt_row(chunk)
        parts.append(plain[position - chunk.offset :])
        position = chunk.offset + chunk.size
    complete = (stream.complete or task.is_final) and position >= stream.size
    return LogPart(b"".join(parts), position, complete, stream.truncated)


def _chunks_from(stream: LogStream, offset: int, length: int) -> list[LogChunk]:
    """Return the chunks that hold ``length`` bytes from ``offset`` on, as far as there are any."""
    places = (
        stream.chunks.annotate(end=F("offset") + F("size"))
        .filter(end__gt=offset)
        .order_by("offset")
        .values_list("offset", "end")[:_CHUNKS_MAX]
    )
    needed = [start for start, _ in places if start < offset + length]
    return list(stream.chunks.filter(offset__in=needed).order_by("offset"))
