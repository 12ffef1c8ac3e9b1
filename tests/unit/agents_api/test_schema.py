"""Every message survives the way through JSON whole, and nothing slips in or out unseen."""

from __future__ import annotations

import inspect
import types
import typing
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from agents_app import schema

MESSAGES = [
    kind
    for _, kind in inspect.getmembers(schema, inspect.isclass)
    if issubclass(kind, schema.Message) and kind is not schema.Message
]
by_message = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)

_TEXT = st.characters(exclude_categories=["Cs"])  # lone surrogates are not JSON


def of_annotation(annotation: Any) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(of_annotation, arguments))
    if origin is list:
        return st.lists(of_annotation(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(*map(of_annotation, arguments), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return of_message(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from(list(annotation))
    return {
        str: st.text(_TEXT, max_size=40),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        UUID: st.uuids(),
        type(None): st.none(),
        datetime: st.datetimes(timezones=st.just(UTC)),
    }[annotation]


def of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    limits: dict[str, Any] = {}
    for rule in field.metadata:
        for name in ("pattern", "min_length", "max_length", "ge", "le"):
            if getattr(rule, name, None) is not None:
                limits[name] = getattr(rule, name)
    if "pattern" in limits:
        return st.from_regex(limits["pattern"], fullmatch=True).filter(
            lambda text: not text.endswith("\n")
        )
    if field.annotation is str:
        return st.text(
            _TEXT,
            min_size=limits.get("min_length", 0),
            max_size=min(limits.get("max_length", 40), 40),
        )
    if field.annotation is int and limits:
        return st.integers(limits.get("ge"), limits.get("le"))
    if field.annotation is float and limits:
        return st.floats(limits.get("ge"), limits.get("le"))
    return of_annotation(field.annotation)


def of_message(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    fields = {name: of_field(field) for name, field in kind.model_fields.items()}
    return st.fixed_dictionaries(fields).map(lambda values: kind(**values))


@by_message
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_message_survives_json(kind: type[schema.Message], data: st.DataObject) -> None:
    message = data.draw(of_message(kind))
    again = kind.model_validate_json(message.model_dump_json())
    assert again == message
    assert again.model_dump() == message.model_dump()
    assert set(message.model_dump()) == set(kind.model_fields)


@by_message
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_field_more_is_refused(kind: type[schema.Message], data: st.DataObject) -> None:
    document = data.draw(of_message(kind)).model_dump(mode="json")
    with pytest.raises(ValidationError, match="not_a_field"):
        kind.model_validate({**document, "not_a_field": 1})


@by_message
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_a_required_field_less_is_refused(kind: type[schema.Message], data: st.DataObject) -> None:
    document = data.draw(of_message(kind)).model_dump(mode="json")
    for name, field in kind.model_fields.items():
        if field.is_required():
            short = {key: value for key, value in document.items() if key != name}
            with pytest.raises(ValidationError, match=name):
                kind.model_validate(short)


def test_a_problem_may_have_members_of_its_own() -> None:
    document = {"type": "urn:slipway:x", "title": "t", "status": 409, "next_offset": 7}
    problem = schema.Problem.model_validate(document)
    assert problem.model_dump()["next_offset"] == 7


def test_a_message_cannot_be_changed() -> None:
    reply = schema.LogReply(next_offset=1)
    with pytest.raises(ValidationError, match="frozen"):
        reply.next_offset = 2  # type: ignore[misc]
