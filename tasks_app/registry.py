"""Where upper apps add to the pages and documents of this one, without being imported.

An admin panel is a template with a function that gives its context; an API field is a name
with a function of the object and a type for the OpenAPI document; a filter narrows a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers


@dataclass(frozen=True)
class Panel:
    """A part of an object's admin page."""

    title: str
    template: str
    context: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class ApiField:
    """A field of an object's API document; ``prefetch`` keeps lists at constant queries."""

    name: str
    field: serializers.Field
    prefetch: Callable[[QuerySet[Any]], QuerySet[Any]] = lambda queryset: queryset


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
    return _panels.get(model, [])


def fields(model: str) -> list[ApiField]:
    return _fields.get(model, [])


def filters(model: str) -> list[ApiFilter]:
    return _filters.get(model, [])
