"""Where upper apps add to the pages and documents of this one, without being imported.

An admin panel is a template with a function that gives its context; an API field is a name
with a serializer field, which is also its type in the OpenAPI document; a filter narrows a
list. Upper apps register in their ``AppConfig.ready``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from tasks_app.actors import Actor


@dataclass(frozen=True)
class Panel:
    """A part of an object's admin page; ``shown`` is asked with the reader and the object."""

    title: str
    template: str
    context: Callable[[Any], dict[str, Any]]
    shown: Callable[[Any, Any], bool] = lambda user, obj: True


@dataclass(frozen=True)
class ApiField:
    """A field of an object's API document.

    Args:
        field: read from the object; copied for every serializer.
        prefetch: keeps lists at a constant number of queries.
        write: called with actor, object and the sent value after the object was created or
            changed, in the same transaction; without it the field is read-only.
        write_field: what may be sent; needed with ``write``.
        whole: only in the object's own document, not in lists; it may ask the database.
    """

    name: str
    field: serializers.Field
    prefetch: Callable[[QuerySet[Any]], QuerySet[Any]] = lambda queryset: queryset
    write: Callable[[Actor, Any, Any], None] | None = None
    write_field: serializers.Field | None = None
    whole: bool = False


@dataclass(frozen=True)
class ApiFilter:
    """A query parameter of a list."""

    name: str
    help_text: str
    apply: Callable[[QuerySet[Any], str], QuerySet[Any]]


_panels: dict[str, list[Panel]] = {}
_fields: dict[str, list[ApiField]] = {}
_filters: dict[str, list[ApiFilter]] = {}


def add_panel(model: str, panel: Panel) -> None:
    """Add a panel to the admin page of ``model`` ("task", "workspace")."""
    _panels.setdefault(model, []).append(panel)


def add_field(model: str, field: ApiField) -> None:
    """Add a field to the API document of ``model``."""
    _fields.setdefault(model, []).append(field)


def add_filter(model: str, api_filter: ApiFilter) -> None:
    """Add a filter to the API list of ``model``."""
    _filters.setdefault(model, []).append(api_filter)


def panels(model: str) -> list[Panel]:
    """Return the panels of ``model``'s admin page."""
    return _panels.get(model, [])


def fields(model: str) -> list[ApiField]:
    """Return the fields that upper apps add to ``model``."""
    return _fields.get(model, [])


def filters(model: str) -> list[ApiFilter]:
    """Return the filters that upper apps add to ``model``'s list."""
    return _filters.get(model, [])


def with_fields(model: str, queryset: QuerySet[Any]) -> QuerySet[Any]:
    """Return ``queryset`` with what the added fields of ``model`` read."""
    for field in fields(model):
        queryset = field.prefetch(queryset)
    return queryset
