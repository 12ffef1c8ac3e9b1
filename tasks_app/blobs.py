"""Large contents, encrypted in rows of 1 MiB and streamed: never whole in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from django.db import transaction

from tasks_app.exceptions import DecryptionFailed, TooLarge
from tasks_app.keyring import keyring
from tasks_app.models import Blob, BlobChunk

CHUNK_BYTES = 1 << 20


def _rechunk(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Cut any sequence of byte strings into pieces of CHUNK_BYTES."""
    buffer = bytearray()
    for part in parts:
        buffer += part
        while len(buffer) >= CHUNK_BYTES:
            yield bytes(buffer[:CHUNK_BYTES])
            del buffer[:CHUNK_BYTES]
    if buffer:
        yield bytes(buffer)


def store(parts: Iterable[bytes], retention: Blob.Retention, *, limit: int | None = None) -> Blob:
    """Encrypt and store a content.

    Args:
        parts: the content in pieces of any size.
        limit: largest allowed size in bytes.

    Raises:
        TooLarge: nothing is stored then.
    """
    ring = keyring()
    digest, size = hashlib.sha256(), 0
    with transaction.atomic():
        blob = Blob.objects.create(retention=retention, digest="", size=0)
        for number, piece in enumerate(_rechunk(parts)):
            digest.update(piece)
            size += len(piece)
            if limit is not None and size > limit:
                raise TooLarge(f"The content is larger than {limit} bytes.")
            row = BlobChunk(blob=blob, number=number)
            ring.encrypt_row(row, piece)
            row.save(force_insert=True)
        blob.digest, blob.size = digest.hexdigest(), size
        blob.save(update_fields=["digest", "size"])
    return blob


def read(blob: Blob) -> Iterator[bytes]:
    """Yield the plain content, one chunk at a time.

    Raises:
        DecryptionFailed: a chunk is missing, altered, or its key is not in the ring.
    """
    ring, size, number = keyring(), 0, 0
    while size < blob.size:
        row = BlobChunk.objects.filter(blob=blob, number=number).first()
        if row is None:
            raise DecryptionFailed(f"Part {number} of the stored content is missing.")
        piece = ring.decrypt_row(row)
        yield piece
        size += len(piece)
        number += 1


def read_all(blob: Blob) -> bytes:
    """Return a content that is known to be small enough for memory."""
    return b"".join(read(blob))
