import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_app.exceptions import DecryptionFailed
from tasks_app.keyring import KeyRing

OLD, NEW = b"o" * 32, b"n" * 32
RING = KeyRing({"new": NEW, "old": OLD})


@given(st.binary(max_size=200), st.text(max_size=20))
def test_what_was_encrypted_comes_back(plain, context):
    ciphertext = RING.encrypt(plain, context)
    assert RING.decrypt(ciphertext, "new", context) == plain
    assert RING.encrypt(plain, context) != ciphertext


@given(st.binary(min_size=1, max_size=60), st.integers(0, 10_000))
def test_a_flipped_bit_is_noticed(plain, bit):
    altered = bytearray(RING.encrypt(plain, "a"))
    altered[bit // 8 % len(altered)] ^= 1 << bit % 8
    with pytest.raises(DecryptionFailed):
        RING.decrypt(bytes(altered), "new", "a")


@pytest.mark.parametrize("rest", [b"", b"x", b"x" * 12, b"x" * 27])
def test_what_is_too_short_is_a_failure_with_a_name(rest):
    with pytest.raises(DecryptionFailed):
        RING.decrypt(rest, "new", "a")


def test_another_context_does_not_open_it():
    with pytest.raises(DecryptionFailed):
        RING.decrypt(RING.encrypt(b"x", "variable/1/1"), "new", "variable/1/2")


def test_keys_rotate():
    before = KeyRing({"old": OLD}).encrypt(b"x", "a")
    assert RING.decrypt(before, "old", "a") == b"x"
    assert RING.primary == "new"
    with pytest.raises(DecryptionFailed, match="old"):
        KeyRing({"new": NEW}).decrypt(before, "old", "a")


def test_signatures_hold_for_every_key_of_the_ring_and_for_nothing_else():
    before = KeyRing({"old": OLD}).sign("message")
    assert RING.verify("message", before)
    assert RING.verify("message", RING.sign("message"))
    for forged in ("", "new.", "new.0", "other." + before, before[:-1] + "é", "new.é"):
        assert not RING.verify("message", forged)
    assert not RING.verify("another", before)
    assert not KeyRing({"new": NEW}).verify("message", before)
