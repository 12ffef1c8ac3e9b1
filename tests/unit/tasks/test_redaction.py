import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.redaction import MASK, Redactor, forms

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
