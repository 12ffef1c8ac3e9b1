"""Where upper apps add to the admin besides panels (`tasks_app/registry.py`).

The start page asks every app what needs attention and for its gauges; a model's page shows
operations of upper apps; a list shows their filters and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks_app.admin.operations import Operation


@dataclass(frozen=True)
class Attention:
    """Something a person should look at; ``url`` is the filtered list or the object."""

    tone: str  # bad, ask
    icon: str
    count: int
    text: str
    url: str
    detail: str = ""


_attentions: list[Callable[[Any], Iterable[Attention]]] = []
_operations: dict[str, list[Operation]] = {}
_list_filters: dict[str, list[Any]] = {}


def add_attention(function: Callable[[Any], Iterable[Attention]]) -> None:
    """Add a source of attention; it gets the user whose start page it is."""
    _attentions.append(function)


def add_operation(model: str, operation: Operation) -> None:
    """Add an operation to the page of ``model`` ("workspace")."""
    _operations.setdefault(model, []).append(operation)


def add_list_filter(model: str, list_filter: Any) -> None:
    """Add a filter to the list of ``model``."""
    _list_filters.setdefault(model, []).append(list_filter)


def attentions(user: Any) -> list[Attention]:
    """Return what needs attention now, what is worst first."""
    found = [item for function in _attentions for item in function(user) if item.count]
    return sorted(found, key=lambda item: item.tone != "bad")


def operations(model: str) -> list[Operation]:
    return _operations.get(model, [])


def list_filters(model: str) -> list[Any]:
    return _list_filters.get(model, [])
