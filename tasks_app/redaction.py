"""Takes secrets out of logs before they are stored, also where they lie across chunks.

Used by agents before they upload, and by the server as a second net; no Django. A secret is
found as it is, in JSON and HCL strings, URL-encoded, and in base64 at any alignment.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Iterable
from itertools import groupby
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


_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*[:=](?!=))?')


def secrets_in(value: str, *, hcl: bool = False) -> list[str]:
    """Return what must not appear of a sensitive value: itself, and the texts in a structure.

    Args:
        hcl: the value is an HCL expression; one that is JSON is recognised anyway.
    """
    found = [value, value.strip()]
    if hcl or value.lstrip()[:1] in ("{", "["):
        found += [_unquoted(text) for text, names in _QUOTED.findall(value) if not names]
    return [secret for secret in dict.fromkeys(found) if len(secret) >= SECRET_LENGTH_MIN]


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _go_json(secret: str) -> bytes:
    """Return the secret as Go's encoding/json writes it: <, > and & escaped too."""
    text = json.dumps(secret, ensure_ascii=False)[1:-1]
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text.encode()


#: So many first bytes of a secret are looked for at once.
_HEAD = 8


def pattern_of(texts: Collection[bytes]) -> re.Pattern[bytes] | None:
    """Return a pattern that finds the longest of ``texts`` at each place; None for none.

    Common beginnings are written once, so that a thousand texts cost little more than one.
    """
    return re.compile(_branches(sorted(texts))) if texts else None


def _common(one: bytes, other: bytes) -> int:
    """Return how many first bytes are the same."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


def _branches(texts: list[bytes]) -> bytes:
    """Write sorted, different texts as one expression that prefers longer ones."""
    common = texts[0][: _common(texts[0], texts[-1])]
    rests = [text[len(common) :] for text in texts]
    optional = not rests[0]
    if optional:
        rests = rests[1:]
    if not rests:
        return re.escape(common)
    groups = [list(group) for _, group in groupby(rests, key=lambda rest: rest[0])]
    inner = b"|".join(map(_branches, groups))
    return re.escape(common) + b"(?:" + inner + b")" + (b"?" if optional else b"")


class Redactor:
    """Redacts a stream of chunks cut at any point; the output does not depend on the cuts.

    It holds back only an end that could be the beginning of a secret, so that a log can be
    followed live; :meth:`flush` gives it out.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {form for secret in secrets for form in forms(secret)}
        self._pattern = pattern_of(found)
        self._held = b""
        # What _unfinished looks for: short ends in a set, longer ones by their first bytes.
        self._short = {form[:n] for form in found for n in range(1, min(_HEAD, len(form)))}
        self._long: dict[bytes, list[bytes]] = {}
        for form in found:
            if len(form) > _HEAD:
                self._long.setdefault(form[:_HEAD], []).append(form)
        self._heads = pattern_of(self._long)
        self._longest = max(map(len, found), default=0)

    def feed(self, chunk: bytes) -> bytes:
        """Return what is safe to give out after ``chunk``."""
        if self._pattern is None:
            return chunk
        data = self._held + chunk
        safe = self._unfinished(data)
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

    def _unfinished(self, data: bytes) -> int:
        """Return where the first thing begins that the next bytes could make a secret."""
        start = max(len(data) - self._longest + 1, 0)
        while self._heads and (head := self._heads.search(data, start)):
            start = head.start()
            tail = data[start:]
            if any(form.startswith(tail) for form in self._long[head[0]]):
                return start
            start += 1
        for length in range(min(_HEAD - 1, len(data)), 0, -1):
            if data[-length:] in self._short:
                return len(data) - length
        return len(data)

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
