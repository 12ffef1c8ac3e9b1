"""Bodies: JSON that cannot break the server, and uploads that never lie whole in memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError, UnsupportedMediaType
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from tasks_app.exceptions import InvalidInput, TooLarge

_PIECE_BYTES = 1 << 20
#: Uploads up to this size stay in memory.
_SPOOL_BYTES = 1 << 20


class StrictJSONParser(JSONParser):
    """An object in JSON; anything else is refused with 400."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the object.

        Raises:
            ParseError: no JSON, nested too deeply, or not an object.
        """
        try:
            data = super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        if not isinstance(data, dict):
            raise ParseError("Send one JSON object.")
        return data


@dataclass
class Upload:
    """A body on disk: seekable, at its start, with its SHA-256."""

    file: IO[bytes]
    size: int
    digest: str

    def close(self) -> None:
        self.file.close()


def spool(source: IO[bytes] | Any, limit: int) -> Upload:
    """Copy a stream into a temporary file.

    Args:
        limit: of its size, in bytes.

    Raises:
        TooLarge.
    """
    file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115  closed by its user
    digest, size = hashlib.sha256(), 0
    while piece := source.read(_PIECE_BYTES):
        size += len(piece)
        if size > limit:
            file.close()
            raise TooLarge(f"The content is larger than the allowed {limit} bytes.")
        digest.update(piece)
        file.write(piece)
    file.seek(0)
    return Upload(file, size, digest.hexdigest())


def read_upload(request: Request, media_types: tuple[str, ...], limit: int) -> Upload:
    """Return the raw body of a request, whatever announces its length or does not.

    Raises:
        TooLarge; InvalidInput: empty; UnsupportedMediaType: not one of ``media_types``.
    """
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type not in media_types:
        raise UnsupportedMediaType(
            media_type or "none", detail=f"Send the content as {' or '.join(media_types)}."
        )
    refuse_announced(request, limit)
    upload = spool(request._request, limit)
    if not upload.size:
        upload.close()
        raise InvalidInput("The body is empty; send the content as the request's body.")
    return upload


def refuse_announced(request: Request, limit: int) -> None:
    """Refuse by its announced length what would be too large.

    Raises:
        TooLarge.
    """
    announced = request.META.get("CONTENT_LENGTH") or "0"
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"The content is larger than the allowed {limit} bytes.")


def give_length(request: Any) -> None:
    """Give a request without ``Content-Length`` (chunked) the length it turns out to have.

    The REST framework takes such a body for an empty one, and would carry out the request
    without what it says.

    Raises:
        TooLarge.
    """
    if request.META.get("CONTENT_LENGTH") or "HTTP_TRANSFER_ENCODING" not in request.META:
        return
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body = request.read(limit + 1)
    if len(body) > limit:
        raise TooLarge("The body is larger than allowed.")
    request.META["CONTENT_LENGTH"] = str(len(body))
    request._body = body
