"""Notices in words and as data: names, reasons, times, counts and links, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from pods_app.freeze.notices.facts import Fact
from pods_app.freeze.state import moment_words
from pods_app.states import NoticeKind

SUBJECT_MAX = 200
#: How many pools a subject names, and how many tasks a text lists.
_NAMES, _TASKS = 5, 20


def subject(facts: Sequence[Fact]) -> str:
    """Return one line. It always says when: what is told late says no more than what is true."""
    return " ".join(_WORDS[facts[0].kind][0](facts).split())[:SUBJECT_MAX]


def text(facts: Sequence[Fact]) -> str:
    """Return the message, with a link."""
    lines = [*_WORDS[facts[0].kind][1](facts)]
    if not facts[0].task:
        lines.append(facts[0].url)
    return "\n\n".join(filter(None, lines))


def data(facts: Sequence[Fact]) -> dict[str, Any]:
    """Return what programs get; what a kind does not have is left out."""
    first = facts[0]
    found = {
        "pools": _pools(facts),
        "window": first.window,
        "freeze": first.freeze,
        "since": _iso(first.since),
        "until": _iso(first.until),
        "reason": first.why,
        "by": first.by,
        "tasks": [
            {"task": fact.task, "pool": fact.pools[0], "url": fact.url}
            for fact in facts
            if fact.task
        ],
        "url": "" if first.task else first.url,
    }
    return {name: value for name, value in found.items() if value}


def _iso(moment: datetime | None) -> str:
    return moment.astimezone(UTC).isoformat() if moment else ""


def when(moment: datetime | None, zone: str) -> str:
    """Return a moment in its zone, and in UTC where that differs."""
    words = moment_words(moment, zone)
    if moment is None or zone == "UTC":
        return words
    return f"{words} ({moment.astimezone(UTC):%H:%M} UTC)"


def _pools(facts: Sequence[Fact]) -> list[str]:
    return sorted({name for fact in facts for name in fact.pools})


def _names(names: Sequence[str], most: int = _NAMES) -> str:
    left = len(names) - most
    return ", ".join(names[:most]) + (f" and {left} more" if left > 0 else "")


def _named(facts: Sequence[Fact]) -> str:
    """Return ``Pool prod is`` or ``Pools prod, staging are``."""
    names = _pools(facts)
    one = len(names) == 1
    return f"{'Pool' if one else 'Pools'} {_names(names, 50)} {'is' if one else 'are'}"


def _applies(facts: Sequence[Fact]) -> str:
    return "1 apply" if len(facts) == 1 else f"{len(facts)} applies"


def _tasks(facts: Sequence[Fact]) -> str:
    lines = [f"{one.task} in pool {one.pools[0]}: {one.url}" for one in facts[:_TASKS]]
    left = len(facts) - len(lines)
    return "\n".join([*lines, *([f"and {left} more"] if left else [])])


def _why(fact: Fact) -> str:
    return fact.why and f"Reason: {fact.why}"


def _ahead_subject(facts: Sequence[Fact]) -> str:
    one = facts[0]
    return f"Freeze from {when(one.at, one.zone)}: {_names(one.pools)}"


def _ahead_text(facts: Sequence[Fact]) -> list[str]:
    one = facts[0]
    return [
        f"“{one.window}” begins at {when(one.at, one.zone)}. Then nothing starts and pods are "
        "deleted:",
        "\n".join(one.lasts),
        _why(one),
        f"If it began now: {one.impact}",
    ]


def _began_subject(facts: Sequence[Fact]) -> str:
    one = facts[0]
    return f"Freeze began at {when(one.at, one.zone)}: {_names(_pools(facts))}"


def _began_text(facts: Sequence[Fact]) -> list[str]:
    one = facts[0]
    began = (
        f"{_named(facts)} frozen since {when(one.at, one.zone)}: nothing starts, pods are deleted."
    )
    return [began, f"{one.freeze}.", _why(one)]


def _ended_subject(facts: Sequence[Fact]) -> str:
    one = facts[0]
    return f"Freeze ended at {when(one.at, one.zone)}: {_names(_pools(facts))}"


def _ended_text(facts: Sequence[Fact]) -> list[str]:
    one = facts[0]
    lines = [f"{_named(facts)} frozen no more since {when(one.at, one.zone)}; pods come back."]
    if one.since:
        lines.append(f"The freeze had begun at {when(one.since, one.zone)}: {one.freeze}.")
    return lines


def _override_began_subject(facts: Sequence[Fact]) -> str:
    one = facts[0]
    return f"Override of freezes until {when(one.until, 'UTC')}: {one.pools[0]}"


def _override_began_text(facts: Sequence[Fact]) -> list[str]:
    one = facts[0]
    return [
        f"{one.by or 'Somebody'} lets pool {one.pools[0]} work in spite of its windows, from "
        f"{when(one.since, 'UTC')} until {when(one.until, 'UTC')}.",
        _why(one),
    ]


def _override_ended_subject(facts: Sequence[Fact]) -> str:
    return f"Override ended at {when(facts[0].at, 'UTC')}: {facts[0].pools[0]}"


def _override_ended_text(facts: Sequence[Fact]) -> list[str]:
    one = facts[0]
    return [
        f"The override of pool {one.pools[0]} that began at {when(one.since, 'UTC')} ended at "
        f"{when(one.until, 'UTC')}; its windows count again. Now: {one.freeze}.",
        one.why and f"Reason of the override: {one.why}",
    ]


def _interrupted_subject(facts: Sequence[Fact]) -> str:
    return f"{_applies(facts)} interrupted by a freeze: {_names([one.task for one in facts])}"


def _interrupted_text(facts: Sequence[Fact]) -> list[str]:
    return [
        f"A freeze interrupted {_applies(facts)}; the first at {when(facts[0].at, 'UTC')}. None is "
        "tried again. Look what each did, acknowledge it, then plan again.",
        _tasks(facts),
    ]


def _delayed_subject(facts: Sequence[Fact]) -> str:
    return f"{_applies(facts)} delayed by a freeze: {_names([one.task for one in facts])}"


def _delayed_text(facts: Sequence[Fact]) -> list[str]:
    one = facts[0]
    return [
        f"Confirmed, and held back by a freeze: {_applies(facts)}. {one.freeze}.",
        _tasks(facts),
    ]


def _channel_subject(facts: Sequence[Fact]) -> str:
    return "Notices of freezes come here"


def _channel_text(facts: Sequence[Fact]) -> list[str]:
    return [
        "Slipway tells here of freezes: 24 hours, 1 hour and 15 minutes ahead, when they begin and "
        "end, and of overrides, interrupted and delayed applies."
    ]


_Words = Callable[[Sequence[Fact]], Any]
_AHEAD = (_ahead_subject, _ahead_text)
#: Of every kind its subject and its text.
_WORDS: dict[NoticeKind, tuple[_Words, _Words]] = {
    NoticeKind.CHANNEL: (_channel_subject, _channel_text),
    NoticeKind.DAY_AHEAD: _AHEAD,
    NoticeKind.HOUR_AHEAD: _AHEAD,
    NoticeKind.QUARTER_AHEAD: _AHEAD,
    NoticeKind.BEGAN: (_began_subject, _began_text),
    NoticeKind.ENDED: (_ended_subject, _ended_text),
    NoticeKind.INTERRUPTED: (_interrupted_subject, _interrupted_text),
    NoticeKind.DELAYED: (_delayed_subject, _delayed_text),
    NoticeKind.OVERRIDE_BEGAN: (_override_began_subject, _override_began_text),
    NoticeKind.OVERRIDE_ENDED: (_override_ended_subject, _override_ended_text),
}
