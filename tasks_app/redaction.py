"""Takes secrets out of logs before they are stored, also where they lie across chunks.

Used by agents before they upload, and by the server as a second net; no Django. A secret is
found as it is, in JSON and HCL strings, URL-encoded, and in base64 at any alignment.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

MASK = b"[redacted]"
#: Shorter secrets would take ordinary words out of every log; they are refused when set.
SECRET_LENGTH_MIN = 4


def forms(secret: str) -> set[bytes]:
    """Return the byte strings in which a secret may appear."""
    raw = secret.encode()
    if len(raw) < SECRET_LENGTH_MIN:
        return set()
    found = {
        raw,
        json.dumps(secret)[1:-1].encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        _go_json(secret),
        quote(secret, safe="").encode(),
        quote(secret).encode(),
        quote_plus(secret).encode(),
        secret.replace("\\", "\\\\").replace('"', '\\"').replace("${", "$${").encode(),
    }
    if "\n" in secret:
        # Terraform and shells print such values line by line.
        found |= {line.strip().encode() for line in secret.splitlines() if len(line.strip()) > 7}
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw)
        # Drop what depends on the neighbours: the letters that mix in bytes before and after.
        start = (0, 2, 3)[offset]
        end = len(encoded) - (0, 3, 2)[(offset + len(raw)) % 3]
        core = encoded[start:end]
        if len(core) > 7:
            found |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in found if len(form) >= SECRET_LENGTH_MIN}


def _go_json(secret: str) -> bytes:
    """Return the secret as Go's encoding/json writes it: <, > and & escaped too."""
    text = json.dumps(secret, ensure_ascii=False)[1:-1]
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode()


class Redactor:
    """Redacts a stream of chunks cut at any point.

    It holds back as many bytes as a secret could still begin in; :meth:`flush` gives them out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {form for secret in secrets for form in forms(secret)}
        ordered = sorted(found, key=len, reverse=True)
        self._longest = max((len(form) for form in ordered), default=0)
        self._pattern = re.compile(b"|".join(map(re.escape, ordered))) if ordered else None
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what is safe to give out after ``chunk``."""
        if self._pattern is None:
            return chunk
        data = self._held + chunk
        safe = max(len(data) - self._longest + 1, 0)
        output, position = bytearray(), 0
        for match in self._pattern.finditer(data):
            if match.start() >= safe:
                break
            output += data[position : match.start()] + MASK
            position = match.end()
        keep = max(safe, position)
        output += data[position:keep]
        self._held = data[keep:]
        return bytes(output)

    def flush(self) -> bytes:
        """Return the rest, redacted; the stream is over."""
        rest, self._held = self._held, b""
        return self._pattern.sub(MASK, rest) if self._pattern else rest

    def redact(self, text: str) -> str:
        """Return a whole text redacted; the stream's state is not touched."""
        if self._pattern is None:
            return text
        return self._pattern.sub(MASK, text.encode()).decode(errors="replace")

    def finds(self, data: bytes) -> bool:
        """Return whether ``data`` holds a secret."""
        return bool(self._pattern and self._pattern.search(data))
