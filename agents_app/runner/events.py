"""Terraform's `-json` stream as text for people, and what Slipway learns from it.

Message types: https://developer.hashicorp.com/terraform/internals/machine-readable-ui
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents_app.schema import Diagnostic

_BOLD, _RED, _YELLOW, _RESET = "\x1b[1m", "\x1b[31m", "\x1b[33m", "\x1b[0m"
#: A plan lists every change again in its text; these would only repeat it.
_SILENT = {"version", "planned_change", "resource_drift", "outputs"}
_READ_BYTES = 1 << 20


@dataclass
class EventStream:
    """Reads the growing output of a `-json` command by offset."""

    path: Path
    diagnostics: list[Diagnostic] = field(default_factory=list)
    acted: bool = False  # a resource action began
    _offset: int = 0
    _rest: bytes = b""

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
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict) or "@message" not in event:
            # Not one of Terraform's messages, for example a crash or a dumped state.
            if line.strip():
                yield line.decode(errors="replace") + "\n"
            return
        kind = event.get("type", "")
        if kind in {"apply_start", "ephemeral_op_start"}:
            self.acted = True
        if kind == "diagnostic":
            diagnostic = parse_diagnostic(event["diagnostic"])
            self.diagnostics.append(diagnostic)
            yield render_diagnostic(diagnostic)
        elif kind == "provision_progress":
            hook = event.get("hook", {})
            address = hook.get("resource", {}).get("addr", "")
            yield f"{address} ({hook.get('provisioner', '')}): {hook.get('output', '')}\n"
        elif kind == "change_summary":
            yield f"{_BOLD}{event['@message']}{_RESET}\n"
        elif kind not in _SILENT:
            yield event["@message"] + "\n"


def parse_diagnostic(document: dict[str, Any]) -> Diagnostic:
    """Return one of Terraform's diagnostics."""
    where = document.get("range") or {}
    snippet = document.get("snippet") or {}
    return Diagnostic(
        severity=document.get("severity", "error"),
        summary=document.get("summary", ""),
        detail=document.get("detail", ""),
        address=document.get("address", ""),
        filename=where.get("filename", ""),
        line=(where.get("start") or {}).get("line"),
        snippet=snippet.get("code", ""),
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


_ERROR = re.compile(r"^\W*(Error|Warning): (?P<summary>.+)$")
_PLACE = re.compile(r"^\W*on (?P<file>\S+) line (?P<line>\d+)")


def diagnostics_of_text(text: str) -> list[Diagnostic]:
    """Return the diagnostics in the plain output of a command such as init."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if match := _ERROR.match(line):
            severity = match.group(1).lower()
            found.append({"severity": severity, "summary": match.group("summary"), "detail": []})
        elif found and (match := _PLACE.match(line)):
            found[-1] |= {"filename": match.group("file"), "line": int(match.group("line"))}
        elif found and (words := line.strip(" │╵╷|")):
            found[-1]["detail"].append(words)
    return [Diagnostic(**{**row, "detail": "\n".join(row["detail"])[:4000]}) for row in found]
