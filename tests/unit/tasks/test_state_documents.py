import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.exceptions import InvalidInput, TooLarge
from tasks_app.services.state_documents import parse_state, with_serial
from tests.support.state import LINEAGE, document


def test_the_facts_of_a_state():
    content = json.loads(document(7))
    content["resources"] = [
        {"mode": "managed", "instances": [{"attributes": {"serial": 1}}, {}]},
        {"mode": "data", "instances": [{}]},
    ]
    facts = parse_state(json.dumps(content).encode())
    assert (facts.serial, facts.lineage, facts.terraform_version) == (7, LINEAGE, "1.11.4")
    assert facts.resource_count == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 3},
        {"version": None},
        {"serial": None},
        {"serial": -1},
        {"serial": "1"},
        {"serial": True},
        {"serial": 2**62},
        {"lineage": ""},
        {"lineage": None},
        {"lineage": "x" * 65},
        {"lineage": "a\0b"},
    ],
)
def test_what_is_no_state_names_its_field(changes):
    with pytest.raises(InvalidInput) as refusal:
        parse_state(json.dumps({**json.loads(document(1)), **changes}).encode())
    assert refusal.value.field in changes


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_document(content):
    with pytest.raises(InvalidInput):
        parse_state(content)


def test_a_state_above_the_limit(settings):
    from dataclasses import replace

    settings.SLIPWAY = replace(settings.SLIPWAY, state_bytes_max=10)
    with pytest.raises(TooLarge):
        parse_state(document(1))


@given(st.integers(0, 2**40), st.text(max_size=30), st.booleans())
def test_another_serial_changes_no_other_byte(serial, text, compact):
    inner = {"serial": 5, "text": text, "deep": [{"serial": 6}]}
    content = json.dumps(
        {"outputs": inner, "version": 4, "lineage": LINEAGE, "serial": 41, "x": 0.10},
        separators=(",", ":") if compact else None,
    ).encode()
    changed = with_serial(content, serial)
    assert parse_state(changed).serial == serial
    assert with_serial(changed, 41) == content


def test_numbers_that_python_would_round_stay_as_they_are():
    content = document(1).replace(b'"outputs": {}', b'"outputs": {"n": 1.00000000000000000001e400}')
    assert b"1.00000000000000000001e400" in with_serial(content, 2)
