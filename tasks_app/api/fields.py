"""Fields that upper apps added, in serializers and filters."""

from __future__ import annotations

import copy
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.datastructures import MultiValueDict
from rest_framework import serializers

from tasks_app import registry
from tasks_app.actors import Actor
from tasks_app.api.base import Input


class ExtendedSerializer(serializers.ModelSerializer[Any]):
    """A document with the fields of the registry for ``extended_model``."""

    extended_model = ""
    #: The object's own document, not a row of a list.
    whole = False

    def get_fields(self) -> dict[str, serializers.Field]:
        """Return the own fields, then the added ones."""
        found = super().get_fields()
        for field in registry.fields(self.extended_model):
            if self.whole or not field.whole:
                found[field.name] = copy.deepcopy(field.field)
        return found


class ExtendedInput(Input):
    """Input that also takes the writable fields of the registry."""

    extended_model = ""

    def get_fields(self) -> dict[str, serializers.Field]:
        """Return the own fields, then the added ones."""
        found = super().get_fields()
        for field in registry.fields(self.extended_model):
            if field.write_field is not None:
                found[field.name] = copy.deepcopy(field.write_field)
        return found


def pop_extra(model: str, values: dict[str, Any]) -> dict[str, Any]:
    """Take the added fields' values out of ``values``."""
    names = {field.name for field in registry.fields(model)}
    return {name: values.pop(name) for name in names & set(values)}


def write_extra(model: str, actor: Actor, row: Any, values: dict[str, Any]) -> None:
    """Give the added fields' values to those who keep them."""
    for field in registry.fields(model):
        if field.name in values and field.write is not None:
            field.write(actor, row, values[field.name])


class _YesNoField(forms.Field):
    widget = forms.TextInput

    def to_python(self, value: Any) -> bool | None:
        if value in {"", None}:
            return None
        if value not in {"true", "false"}:
            raise ValidationError("This must be true or false.")
        return bool(value == "true")


class YesNoFilter(django_filters.BooleanFilter):
    """``true`` or ``false``; the library takes anything else for no filter at all."""

    field_class = _YesNoField


class ExtendedFilterSet(django_filters.FilterSet):
    """Filters with those of the registry for ``extended_model``; unknown ones are refused."""

    extended_model = ""
    #: Query parameters that are not filters.
    _OTHER = {"cursor", "page_size"}

    def __init__(self, data: Any = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(MultiValueDict() if data is None else data, *args, **kwargs)

    @classmethod
    def get_filters(cls) -> dict[str, django_filters.Filter]:
        """Return the own filters, then the added ones."""
        found: dict[str, django_filters.Filter] = super().get_filters()
        for extra in registry.filters(cls.extended_model):
            found[extra.name] = django_filters.CharFilter(
                label=extra.help_text, help_text=extra.help_text, method=_method(extra)
            )
        return found

    def is_valid(self) -> bool:
        """Whether every parameter is known and says something."""
        valid: bool = super().is_valid()
        for name in sorted(set(self.data) - self._OTHER):
            if name not in self.filters:
                text = "There is no filter “%(name)s”."
            elif "" in self.data.getlist(name):
                text = "The filter “%(name)s” is empty; leave it out."
            else:
                continue
            self.form.add_error(None, ValidationError(text, params={"name": name}))
            valid = False
        return valid


def _method(extra: registry.ApiFilter) -> Any:
    def apply(queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return extra.apply(queryset, value)

    return apply
