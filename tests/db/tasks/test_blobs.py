import hashlib

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks_app import blobs
from tasks_app.exceptions import DecryptionFailed, TooLarge
from tasks_app.models import Blob, BlobChunk

pytestmark = pytest.mark.django_db
PLAN = Blob.Retention.PLAN


@hypothesis_settings(max_examples=20)
@given(st.lists(st.integers(0, 1_500_000), max_size=4))
def test_any_pieces_come_back_as_one_content(django_db_blocker, sizes):
    pieces = [bytes([number % 251]) * size for number, size in enumerate(sizes)]
    whole = b"".join(pieces)
    blob = blobs.store(pieces, PLAN)
    assert (blob.size, blob.digest) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert blobs.read_all(blob) == whole
    rows = BlobChunk.objects.filter(blob=blob)
    assert rows.count() == -(-len(whole) // blobs.CHUNK_BYTES)
    assert all(len(piece) <= blobs.CHUNK_BYTES for piece in blobs.read(blob))


def test_nothing_is_stored_of_what_is_too_large():
    with pytest.raises(TooLarge):
        blobs.store(iter([b"x" * 600_000] * 4), PLAN, limit=2_000_000)
    assert not Blob.objects.exists()
    assert not BlobChunk.objects.exists()
    assert blobs.store([b"x" * 10], PLAN, limit=10).size == 10


def test_nothing_readable_lies_in_the_table():
    blobs.store([b"canary-4711" * 100], PLAN)
    assert b"canary" not in bytes(BlobChunk.objects.get().ciphertext)


def swap_parts(blob):
    one, two = blob.chunks.order_by("number")
    BlobChunk.objects.filter(pk=one.pk).update(ciphertext=two.ciphertext)


def drop_a_part(blob):
    blob.chunks.filter(number=1).delete()


def take_anothers_part(blob):
    other = blobs.store([b"x" * (blobs.CHUNK_BYTES + 1)], PLAN)
    BlobChunk.objects.filter(blob=other).exclude(number=0).delete()
    BlobChunk.objects.filter(blob=blob, number=0).delete()
    BlobChunk.objects.filter(blob=other).update(blob=blob)


@pytest.mark.parametrize("damage", [swap_parts, drop_a_part, take_anothers_part])
def test_damage_is_a_failure_never_another_content(damage):
    blob = blobs.store([b"y" * (blobs.CHUNK_BYTES + 1)], PLAN)
    damage(blob)
    with pytest.raises(DecryptionFailed):
        blobs.read_all(blob)


def test_an_old_key_decrypts_and_the_new_one_encrypts(settings):
    from dataclasses import replace

    slipway = settings.SLIPWAY
    old = {"old1": slipway.encryption_keys["old1"]}
    settings.SLIPWAY = replace(slipway, encryption_keys=old)
    before = blobs.store([b"content"], PLAN)
    settings.SLIPWAY = slipway
    after = blobs.store([b"content"], PLAN)
    assert (before.chunks.get().key_id, after.chunks.get().key_id) == ("old1", "new1")
    assert blobs.read_all(before) == blobs.read_all(after) == b"content"
