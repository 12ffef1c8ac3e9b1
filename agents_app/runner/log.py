"""A run's log: redacted, appended to a file, cut at its limit with a notice.

What comes out depends on what goes in and where it is flushed, never on how it is cut into
pieces. So an agent that restarts can shorten the log to where a command began, read that
command's output again, and have the very bytes that the server may already have.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from tasks_app.redaction import Redactor

logger = logging.getLogger(__name__)

_CUT = b"\n[the log is cut here: it reached its limit]\n"


class RunLog:
    """Text goes in, redacted bytes lie in ``path``; offsets count those bytes.

    A full disk ends the log, never the run.
    """

    def __init__(self, path: Path, secrets: Iterable[str], bytes_max: int) -> None:
        self.path = path
        self._secrets = list(secrets)
        self._redactor = Redactor(self._secrets)
        self._limit = max(bytes_max - len(_CUT), 0)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size
        self.truncated = self._size > self._limit

    @property
    def size(self) -> int:
        """Bytes of the redacted stream so far."""
        return self._size

    def redact(self, text: str) -> str:
        """Return a text apart from the stream, redacted."""
        return self._redactor.redact(text)

    def write(self, text: str) -> None:
        """Append text; what could still be the beginning of a secret waits for more."""
        self._append(self._redactor.feed(text.encode(errors="replace")))

    def flush(self) -> None:
        """Write out what waits: a command ended, the next one begins on a new line."""
        self._append(self._redactor.flush())

    def rewind(self, offset: int, secrets: Iterable[str]) -> None:
        """Shorten the log to ``offset``, to write what came after it again.

        Args:
            secrets: those of the run that wrote it, which may have been renewed since.
        """
        self._secrets = list({*self._secrets, *secrets})
        self._redactor = Redactor(self._secrets)
        self._size = min(self._size, offset)
        self._file.truncate(self._size)
        self.truncated = self._size > self._limit

    def close(self) -> None:
        """Write out what waits and close the file."""
        self.flush()
        self._file.close()

    def _append(self, data: bytes) -> None:
        if not data or self.truncated:
            return
        if self._size + len(data) > self._limit:
            self.truncated = True
            data = data[: self._limit - self._size] + _CUT
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest) or 0
                self._size += written
                rest = rest[written:]
        except OSError as error:
            self.truncated = True
            logger.error("The log %s ends at %d bytes: %s.", self.path, self._size, error.strerror)
