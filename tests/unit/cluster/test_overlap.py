"""Requests that overlap: how many, in which thread what happens, and what an error stops."""

import threading
from functools import partial

import pytest

from pods_app.cluster.errors import Unreachable
from pods_app.cluster.overlap import AT_ONCE, carry_out, overlap

PATIENCE = 60


def answers(ask, items, **options):
    return {item: future.result() for item, future in overlap(ask, items, **options)}


def test_as_many_as_allowed_are_asked_at_once_and_no_more():
    all_at_once, lock = threading.Barrier(4), threading.Lock()
    now, most = 0, 0

    def ask(number):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        all_at_once.wait(PATIENCE)
        with lock:
            now -= 1
        return number * 2

    assert answers(ask, range(12), at_once=4) == {number: number * 2 for number in range(12)}
    assert most == 4


def test_the_next_is_asked_while_the_caller_is_busy_with_an_answer():
    asked = threading.Semaphore(0)

    def ask(number):
        asked.release()

    for seen, _ in enumerate(overlap(ask, range(9), at_once=2)):
        # With the first answer the third is asked, and one more with each that follows.
        for _ in range(3 if seen == 0 else 1 if seen < 7 else 0):
            assert asked.acquire(timeout=PATIENCE)


@pytest.mark.parametrize("at_once", [1, 3])
def test_one_that_fails_is_told_with_its_error_and_stops_no_other(at_once):
    def ask(number):
        if number == 2:
            raise ValueError("two")
        return number

    found = dict(overlap(ask, range(6), at_once))
    assert str(found.pop(2).exception()) == "two"
    assert {item: future.result() for item, future in found.items()} == {
        number: number for number in range(6) if number != 2
    }


def test_one_at_a_time_is_asked_in_the_callers_thread():
    me = threading.get_ident()
    assert set(answers(lambda _: threading.get_ident(), range(3), at_once=1).values()) == {me}
    assert me not in answers(lambda _: threading.get_ident(), range(3)).values()


def test_what_is_done_beside_the_requests_happens_in_the_callers_thread():
    me, threads = threading.get_ident(), []
    all_at_once = threading.Barrier(AT_ONCE)

    def request():
        all_at_once.wait(PATIENCE)
        return threading.get_ident()

    def work(number):
        threads.append(threading.get_ident())
        asked = yield request
        assert asked != me
        threads.append(threading.get_ident())

    def without_request():
        threads.append(threading.get_ident())
        return
        yield

    carry_out([*(work(number) for number in range(2 * AT_ONCE)), without_request()])
    assert threads == [me] * (4 * AT_ONCE + 1)


def fail(error):
    raise error


def test_an_error_that_is_handled_stops_nothing():
    told = []

    def work(number):
        try:
            yield partial(fail, Unreachable(str(number)))
        except Unreachable as error:
            told.append(error.detail)

    carry_out(work(number) for number in range(20))
    assert sorted(told, key=int) == [str(number) for number in range(20)]


@pytest.mark.parametrize("early", [True, False], ids=["before its request", "its request"])
def test_an_error_ends_what_is_under_way_and_begins_nothing_more(early):
    begun, ended = [], []

    def work(number):
        begun.append(number)
        if number == 5:
            if early:
                raise ValueError("five")
            yield partial(fail, ValueError("five"))
        yield partial(str, number)
        ended.append(number)

    with pytest.raises(ValueError, match="five"):
        carry_out(work(number) for number in range(1000))
    assert len(begun) < 100
    assert sorted(ended) == [number for number in begun if number != 5]
