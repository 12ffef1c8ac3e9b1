"""A sound check of HCL expressions: what it refuses, Terraform refuses too.

It looks at what can be judged without a grammar: strings, templates, heredocs and brackets that
are not closed, quotes HCL does not know, and a single bare word. Everything else is left to
Terraform, whose diagnostics the plan shows. No Django.
"""

from __future__ import annotations

import re

_CLOSING = {"(": ")", "[": "]", "{": "}", "${": "}", "%{": "}"}
_SPACE = re.compile(r"(?:\s|#[^\n]*|//[^\n]*|/\*.*?\*/)+", re.DOTALL)
_WORD = re.compile(r"[^\W\d][\w-]*")
_HEREDOC = re.compile(r"<<-?([^\W\d][\w-]*)\r?\n")
_LITERALS = {"true", "false", "null"}


def fault(expression: str) -> str:
    """Return what is wrong with an expression, with the remedy; "" if nothing is seen.

    Never refuses an expression that Terraform accepts.
    """
    text = expression.strip()
    bare = _SPACE.sub(" ", text).strip()
    if not bare:
        return 'The expression is empty; write null or "".'
    if _WORD.fullmatch(bare) and bare not in _LITERALS:
        return f'A text must be in quotes: "{bare[:60]}". Or turn HCL off.'
    return _Scanner(text).fault()


class _Scanner:
    """Walks over an expression with a stack of what is open."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[tuple[str, int]] = []

    def fault(self) -> str:
        while self._at < len(self._text):
            inside_string = bool(self._open) and self._open[-1][0] == '"'
            found = self._string() if inside_string else self._code()
            if found:
                return found
        if self._open:
            what, position = self._open[-1]
            return f"“{what}” in line {self._line(position)} is not closed."
        return ""

    def _line(self, position: int) -> int:
        return self._text.count("\n", 0, position) + 1

    def _push(self, what: str) -> str:
        self._open.append((what, self._at))
        self._at += len(what)
        return ""

    def _string(self) -> str:
        """One step inside a quoted string."""
        rest = self._text[self._at : self._at + 3]
        if rest[0] == "\\":
            self._at += 2
        elif rest in ("$${", "%%{"):
            self._at += 3
        elif rest[:2] in ("${", "%{"):
            return self._push(rest[:2])
        elif rest[0] == '"':
            self._open.pop()
            self._at += 1
        elif rest[0] == "\n":
            _, position = self._open[-1]
            return (
                f"The string in line {self._line(position)} is not closed in its line; write \\n "
                "for a line break, or use a heredoc."
            )
        else:
            self._at += 1
        return ""

    def _code(self) -> str:
        """One step outside of strings."""
        text, at = self._text, self._at
        if space := _SPACE.match(text, at):
            self._at = space.end()
        elif text.startswith("/*", at):
            return f"The comment in line {self._line(at)} is not closed."
        elif heredoc := _HEREDOC.match(text, at):
            return self._heredoc(heredoc)
        elif text[at] in '"([{':
            return self._push(text[at])
        elif text[at] in ")]}":
            if not self._open or _CLOSING[self._open[-1][0]] != text[at]:
                return f"“{text[at]}” in line {self._line(at)} closes nothing."
            self._open.pop()
            self._at += 1
        elif text[at] in "'`;":
            return (
                f"“{text[at]}” in line {self._line(at)} is not HCL; strings are in double quotes."
            )
        else:
            self._at += 1
        return ""

    def _heredoc(self, start: re.Match[str]) -> str:
        ending = re.compile(rf"^[ \t]*{re.escape(start[1])}[ \t]*\r?$", re.MULTILINE)
        end = ending.search(self._text, start.end())
        if end is None:
            return f"The heredoc in line {self._line(start.start())} needs a line “{start[1]}”."
        self._at = end.end()
        return ""
