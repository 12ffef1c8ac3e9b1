"""A run's log: redacted, appended to a file, cut at its limit with a notice."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tasks_app.redaction import Redactor

_CUT = b"\n[the log is cut here: it reached its limit]\n"


class RunLog:
    """Text goes in, redacted bytes lie in ``path``; offsets count those bytes."""

    def __init__(self, path: Path, secrets: Iterable[str], bytes_max: int) -> None:
        self.path = path
        self.truncated = False
        self._redactor = Redactor(secrets)
        self._left = bytes_max
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)
        self._left -= self._file.tell()

    @property
    def size(self) -> int:
        """Bytes of the redacted stream so far."""
        return self._file.tell()

    def redact(self, text: str) -> str:
        """Return a text apart from the stream, redacted."""
        return self._redactor.redact(text)

    def write(self, text: str) -> None:
        """Append text; what could still be the beginning of a secret waits for more."""
        self._append(self._redactor.feed(text.encode(errors="replace")))

    def flush(self) -> None:
        """Write out what waits: a command ended, the next one begins on a new line."""
        self._append(self._redactor.flush())

    def close(self) -> None:
        """Write out what waits and close the file."""
        self.flush()
        self._file.close()

    def _append(self, data: bytes) -> None:
        if not data or self.truncated:
            return
        if len(data) > self._left - len(_CUT):
            self.truncated = True
            data = data[: max(self._left - len(_CUT), 0)] + _CUT
        self._left -= len(data)
        self._file.write(data)
