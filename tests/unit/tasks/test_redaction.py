import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.redaction import MASK, Redactor, forms, secrets_in

secrets = st.text(min_size=8, max_size=40).filter(lambda s: len(s.strip()) >= 8)


def stream(redactor, data, cuts):
    pieces, start = [], 0
    for cut in [*sorted(cuts), len(data)]:
        pieces.append(redactor.feed(data[start:cut]))
        start = max(start, cut)
    return b"".join(pieces) + redactor.flush()


@given(secrets, st.lists(st.integers(0, 300), max_size=8), st.binary(max_size=60))
def test_a_secret_is_found_wherever_the_stream_is_cut(secret, cuts, noise):
    data = noise + secret.encode() + noise + secret.encode()
    cuts = [min(cut, len(data)) for cut in cuts]
    redacted = stream(Redactor([secret]), data, cuts)
    assert secret.encode() not in redacted.replace(MASK, b"\0")
    assert MASK in redacted


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_what_holds_no_secret_is_unchanged(data, cuts):
    redactor = Redactor(["an-unlikely-secret-4711"])
    assert stream(redactor, data, [min(cut, len(data)) for cut in cuts]) == data


@given(st.text(min_size=12, max_size=40), st.binary(max_size=5), st.binary(max_size=5))
def test_base64_is_found_at_any_alignment(secret, before, after):
    if len(secret.strip()) < 12:
        return
    encoded = base64.b64encode(before + secret.encode() + after)
    assert MASK in stream(Redactor([secret]), encoded, [])


@pytest.mark.parametrize(
    "secret", ['p"ass\\word', "a<b>&c d/e+f", "line one\nline two is longer", "über-geheim"]
)
def test_written_forms_are_found(secret):
    redactor = Redactor([secret])
    for written in (
        secret,
        json.dumps(secret),
        json.dumps(secret, ensure_ascii=False),
        quote(secret, safe=""),
    ):
        assert redactor.finds(written.encode()), written


def test_short_secrets_have_no_forms():
    assert forms("abc") == set()
    assert Redactor(["abc"]).redact("abc") == "abc"


def test_the_longest_of_two_secrets_wins():
    assert Redactor(["secret", "secret-and-more"]).redact("a secret-and-more b") == "a [redacted] b"


few = st.text("abx", min_size=4, max_size=7)


@given(st.lists(few, min_size=1, max_size=4), st.text("abxy", max_size=80), st.data())
def test_the_output_does_not_depend_on_how_the_stream_is_cut(some, text, data):
    whole = text.encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=20))
    expected = Redactor(some).redact(text).encode()
    assert stream(Redactor(some), whole, cuts) == expected
    assert stream(Redactor(some), whole, range(len(whole))) == expected
    for secret in some:
        assert secret.encode() not in expected.replace(MASK, b"\0")


@given(st.lists(secrets, min_size=1, max_size=3), st.data())
def test_secrets_of_any_kind_in_any_chunking(some, data):
    parts = data.draw(st.lists(st.sampled_from(some) | st.text(max_size=20), max_size=6))
    whole = "".join(parts).encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole)), max_size=10))
    assert stream(Redactor(some), whole, cuts) == Redactor(some).redact("".join(parts)).encode()


def test_only_what_could_begin_a_secret_is_held_back():
    key = "-----BEGIN KEY-----\n" + "0123456789abcdef\n" * 200
    redactor = Redactor([key, "hunter2hunter2"])
    assert redactor.feed(b"creating...\n") == b"creating...\n"
    assert redactor.feed(b"password hunt") == b"password "
    assert redactor.feed(b"ing season\n") == b"hunting season\n"
    assert redactor.feed(b"hunter2hun") == b""
    assert redactor.feed(b"ter2!") == MASK + b"!"


def test_the_texts_in_a_structure_are_secrets_and_its_keys_are_not():
    value = '{ password = "hunter2!", "user" = "ada-l", nested = ["to\\nken", "no"] }'
    found = secrets_in(value, hcl=True)
    assert found == [value, "hunter2!", "ada-l", "to\nken"]
    assert secrets_in('{"private_key": "a\\nb c"}')[1:] == ["a\nb c"]
    assert secrets_in("plain text") == ["plain text"]


@pytest.mark.parametrize("count", [1, 1000])
def test_many_secrets_are_found_too(count):
    many = [f"secret-{number:05}-{'x' * (number % 7)}" for number in range(count)]
    redactor = Redactor(many)
    for secret in many[:: max(count // 50, 1)]:
        assert redactor.redact(f"<{secret}>") == "<[redacted]>"
