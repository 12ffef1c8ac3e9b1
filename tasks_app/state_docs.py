"""Writes docs/states.md from the transition table: `python -m tasks_app.state_docs`."""

from collections.abc import Mapping
from typing import Any

from tasks_app.states import (
    FINAL,
    OCCUPYING,
    RUNNING,
    TRANSITIONS,
    WARMUP_TRANSITIONS,
    Status,
)

_HEAD = """# Task states

Generated from `tasks_app/states.py` by `python -m tasks_app.state_docs > docs/states.md`;
a test compares them. Only `tasks_app/transitions.py` writes a status, by an UPDATE guarded by
the current one, together with its audit row.

| From | To | When |
|---|---|---|
"""
_WARMUPS = """
## Warm-ups

What lies ready for the apply of a plan that waits for a person, on the task as
`warmup_status`; only `tasks_app/services/warmups.py` writes it. A task that is over has none.

| From | To | When |
|---|---|---|
"""


def _rows(table: Mapping[Any, Mapping[Any, str]]) -> str:
    return "".join(
        f"| {source} | {target} | {cause} |\n"
        for source, targets in table.items()
        for target, cause in targets.items()
    )


def render() -> str:
    """Return the page."""
    groups: dict[str, list[str]] = {
        "Final": sorted(status.value for status in FINAL),
        "Running (a filter and a count, not a status)": sorted(status.value for status in RUNNING),
        "A plan_and_apply occupies its workspace while": [Status(s).value for s in OCCUPYING],
    }
    tail = [
        f"\n{title}: {', '.join(f'`{s}`' for s in group)}.\n" for title, group in groups.items()
    ]
    return _HEAD + _rows(TRANSITIONS) + "".join(tail) + _WARMUPS + _rows(WARMUP_TRANSITIONS)


if __name__ == "__main__":
    print(render(), end="")
