from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks_app.exceptions import DecryptionFailed, InvalidInput
from tasks_app.ids import uuid7
from tasks_app.models import LogChunk, Task
from tasks_app.services.logs import append_log, complete_log, log_size, mask_log, read_log
from tests.support.factories import make_task
from tests.support.racing import race

pytestmark = pytest.mark.django_db
LEASE = uuid7()


@pytest.fixture
def task():
    return make_task()


def append(task, offset, data, lease=LEASE):
    return append_log(task=task, phase="plan", lease_id=lease, offset=offset, data=data)


def whole(task, limit=1000):
    offset, parts = 0, []
    while True:
        part = read_log(task, "plan", offset, limit)
        parts.append(part.data)
        if part.next_offset == offset:
            return b"".join(parts)
        offset = part.next_offset


def test_a_repeated_piece_is_ignored_and_a_gap_is_answered(task):
    assert append(task, 0, b"hello ") == 6
    assert append(task, 0, b"hello ") == 6
    assert append(task, 9, b"lost") == 6
    assert append(task, 3, b"lo world") == 11
    assert append(task, 2, b"l") == 11
    assert whole(task) == b"hello world"
    assert log_size(task, "plan") == 11
    assert log_size(task, "apply") == 0


@hypothesis_settings(max_examples=30)
@given(st.data())
def test_pieces_shuffled_and_repeated_make_the_log(django_db_blocker, data):
    task = make_task()
    text = data.draw(st.binary(min_size=1, max_size=60))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)) | {0, len(text)})
    pieces = list(pairwise(cuts))
    for start, end in data.draw(st.lists(st.sampled_from(pieces), max_size=12)):
        assert append(task, start, text[start:end]) <= len(text)
        assert text.startswith(whole(task))
    for start, end in pieces:
        append(task, start, text[start:end])
    assert whole(task, data.draw(st.integers(1, 70))) == text
    offset = data.draw(st.integers(0, len(text)))
    assert read_log(task, "plan", offset).data == text[offset:]


def test_a_new_lease_starts_the_log_anew(task):
    append(task, 0, b"first attempt")
    assert append(task, 0, b"second", uuid7()) == 6
    assert whole(task) == b"second"


def test_beyond_the_limit_bytes_are_acknowledged_and_not_stored(task, settings):
    settings.SLIPWAY = replace(settings.SLIPWAY, log_bytes_max=10)
    assert append(task, 0, b"x" * 8) == 8
    assert append(task, 8, b"y" * 8) == 16
    assert append(task, 16, b"z" * 8) == 24
    assert append(task, 8, b"y" * 8) == 16
    part = read_log(task, "plan")
    assert (part.data, part.truncated) == (b"x" * 8 + b"yy", True)


def test_an_offset_is_never_negative(task):
    with pytest.raises(InvalidInput):
        append(task, -1, b"x")


def test_reading_past_the_end_says_where_the_end_is(task):
    assert read_log(task, "plan", 5).next_offset == 0
    append(task, 0, b"hello")
    for offset in (5, 99):
        part = read_log(task, "plan", offset)
        assert (part.data, part.next_offset, part.complete) == (b"", 5, False)
    complete_log(task=task, phase="plan", truncated=False)
    assert not read_log(task, "plan", 0, 2).truncated
    assert read_log(task, "plan", 5).complete
    assert read_log(task, "plan", -3).data == b"hello"


def test_a_log_of_a_task_that_ended_is_complete(task):
    append(task, 0, b"hello")
    Task.objects.filter(pk=task.pk).update(status="failed")
    task.refresh_from_db()
    assert read_log(task, "plan").complete
    assert read_log(task, "apply").complete


def test_bytes_lie_encrypted_and_belong_to_their_place(task):
    append(task, 0, b"canary-one")
    append(task, 10, b"canary-two")
    one, two = LogChunk.objects.order_by("offset")
    assert b"canary" not in bytes(one.ciphertext)
    LogChunk.objects.filter(pk=one.pk).update(ciphertext=two.ciphertext)
    with pytest.raises(DecryptionFailed):
        read_log(task, "plan")


@given(st.integers(0, 29), st.integers(0, 30))
@hypothesis_settings(max_examples=20)
def test_what_turned_out_to_be_a_secret_is_masked_across_pieces(django_db_blocker, start, length):
    task = make_task()
    for offset in range(0, 30, 7):
        append(task, offset, b"abcdefg"[: min(7, 30 - offset)])
    before = whole(task)
    end = min(start + length, 30)
    mask_log(task=task, phase="plan", offset=start, length=length)
    assert whole(task) == before[:start] + b"*" * (end - start) + before[end:]


def test_many_tiny_pieces_are_read_page_by_page(task, django_assert_max_num_queries):
    for offset in range(600):
        append(task, offset, b"x")
    with django_assert_max_num_queries(3):
        first = read_log(task, "plan")
    assert 0 < first.next_offset < 600
    assert not first.complete
    assert whole(task) == b"x" * 600


@pytest.mark.django_db(transaction=True)
def test_the_same_piece_twice_at_once_is_stored_once():
    task = make_task()
    assert race([lambda: append(task, 0, b"hello")] * 4) == [5] * 4
    assert whole(task) == b"hello"
