"""Terraform's `-json` stream as text for people, and what Slipway learns from it.

Message types: https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agents_app.schema import Diagnostic

_BOLD, _RED, _YELLOW, _RESET = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
#: A plan lists every change again in its text; these would only repeat it.
_SILENT = {"version", "planned_change", "resource_drift", "outputs"}
_READ_BYTES = 1 << 20
_DIAGNOSTICS_MAX = 100
_DUMP = b'"Emergency state dump"'
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"^(Error|Warning): (.+)$")
_PLACE = re.compile(r"^on (?P<file>\S+) line (?P<line>\d+)")


class _Lines:
    """Reads a growing file by offset, line by line, so that cuts never show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.diagnostics: list[Diagnostic] = []
        self.acted = False  # a resource action began
        self.completed = False  # an apply said that it was complete
        self._offset = 0
        self._rest = b""

    def read(self, *, last: bool = False) -> Iterator[str]:
        """Yield the text of what came since the last call.

        Args:
            last: the command is over; a line without its end counts.
        """
        with self.path.open("rb") as file:
            file.seek(self._offset)
            while piece := file.read(_READ_BYTES):
                self._offset += len(piece)
                *lines, self._rest = (self._rest + piece).split(b"\n")
                for line in lines:
                    yield from self._text(line)
        if last and self._rest:
            rest, self._rest = self._rest, b""
            yield from self._text(rest)

    def _text(self, line: bytes) -> Iterator[str]:
        raise NotImplementedError

    def _keep(self, diagnostic: Diagnostic) -> None:
        if len(self.diagnostics) < _DIAGNOSTICS_MAX:
            self.diagnostics.append(diagnostic)


class TextStream(_Lines):
    """The output of a command that prints for people, such as init."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._found: dict[str, Any] | None = None

    def read(self, *, last: bool = False) -> Iterator[str]:
        yield from super().read(last=last)
        if last:
            self._finish()

    def _text(self, line: bytes) -> Iterator[str]:
        text = line.decode(errors="replace")
        yield text + "\n"
        words = _COLOUR.sub("", text).strip(" │╵╷|")
        if match := _ERROR.match(words):
            self._finish()
            self._found = {"severity": match.group(1).lower(), "summary": match.group(2)}
        elif self._found is not None and (match := _PLACE.match(words)):
            self._found |= {"filename": match.group("file"), "line": int(match.group("line"))}
        elif self._found is not None and words:
            self._found["detail"] = f"{self._found.get('detail', '')}\n{words}".strip()[:4000]

    def _finish(self) -> None:
        if self._found is not None:
            self._keep(Diagnostic(**self._found))
            self._found = None


class EventStream(_Lines):
    """The output of a `-json` command."""

    def _text(self, line: bytes) -> Iterator[str]:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or not isinstance(event.get("@message"), str):
            # Not one of Terraform's messages, for example a crash.
            if _DUMP in line:  # the disk was full, or Terraform was killed, within the state
                yield "Emergency state dump (cut off)\n"
            elif line.strip():
                yield line.decode(errors="replace") + "\n"
            return
        kind = event.get("type", "")
        if kind in {"apply_start", "ephemeral_op_start"}:
            self.acted = True
        if kind == "diagnostic":
            diagnostic = parse_diagnostic(event.get("diagnostic") or {})
            self._keep(diagnostic)
            yield render_diagnostic(diagnostic)
        elif kind == "provision_progress":
            hook = event.get("hook") or {}
            address = (hook.get("resource") or {}).get("addr", "")
            yield f"{address} ({hook.get('provisioner', '')}): {hook.get('output', '')}\n"
        elif kind == "change_summary":
            operation = (event.get("changes") or {}).get("operation")
            self.completed = self.completed or operation in {"apply", "destroy"}
            yield f"{_BOLD}{event['@message']}{_RESET}\n"
        elif kind not in _SILENT:
            # Of a dumped state only the message, never the state.
            yield event["@message"] + "\n"


def parse_diagnostic(document: dict[str, Any]) -> Diagnostic:
    """Return one of Terraform's diagnostics."""
    where = document.get("range") or {}
    snippet = document.get("snippet") or {}
    return Diagnostic(
        severity=document.get("severity") or "error",
        summary=document.get("summary") or "",
        detail=document.get("detail") or "",
        address=document.get("address") or "",
        filename=where.get("filename") or "",
        line=(where.get("start") or {}).get("line"),
        snippet=snippet.get("code") or "",
    )


def render_diagnostic(diagnostic: Diagnostic) -> str:
    """Return a diagnostic as Terraform prints it on a terminal, with its box."""
    colour = _RED if diagnostic.severity == "error" else _YELLOW
    lines = [f"{_BOLD}{diagnostic.severity.capitalize()}: {diagnostic.summary}{_RESET}"]
    if diagnostic.address:
        lines += ["", f"  with {diagnostic.address},"]
    if diagnostic.filename:
        lines.append(f"  on {diagnostic.filename} line {diagnostic.line}:")
        lines += [f"  {line}" for line in diagnostic.snippet.splitlines()]
    if diagnostic.detail:
        lines += ["", *diagnostic.detail.splitlines()]
    box = "\n".join(f"{colour}│{_RESET} {line}" for line in lines)
    return f"{colour}╷{_RESET}\n{box}\n{colour}╵{_RESET}\n"
