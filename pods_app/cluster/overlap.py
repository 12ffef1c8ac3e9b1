"""Requests to a cluster that may be slow, some at the same time.

Threads ask, and do nothing else: what is done about the answers, in the database too, the caller
does, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from typing import Any, TypeVar

#: So many requests at the same time: a hundred pods at one second each take a quarter of a minute.
AT_ONCE = 8

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Request = Callable[[], Any]
#: Something to do that needs answers: it yields its requests, and gets the answer or the error.
Work = Generator[Request, Any, None]


def overlap(
    ask: Callable[[Item], Answer], items: Iterable[Item], at_once: int = AT_ONCE
) -> Iterator[tuple[Item, Future[Answer]]]:
    """Yield each item with the answer to it, or with what was raised, in the order of the answers.

    Args:
        ask: called in a thread, which has no connection to the database; if only one may be
            asked at a time, in the caller's.
        items: the next is taken when there is room for it, by the caller's thread.
        at_once: so many are asked at the same time at most.
    """
    if at_once == 1:
        for item in items:
            yield item, _asked(ask, item)
        return
    with ThreadPoolExecutor(at_once, thread_name_prefix="cluster requests") as threads:
        rest, under_way = iter(items), dict[Future[Answer], Item]()
        done: list[tuple[Item, Future[Answer]]] = []
        while True:
            for item in islice(rest, at_once - len(under_way)):
                under_way[threads.submit(ask, item)] = item
            # After that, so that others are asked while the caller is busy with an answer.
            yield from done
            if not under_way:
                return
            first = wait(under_way, return_when=FIRST_COMPLETED).done.pop()
            done = [(under_way.pop(first), first)]


def carry_out(works: Iterable[Work]) -> None:
    """Do all of it: requests overlap, and what is done between them happens here, one by one.

    Args:
        works: each makes one request at most; begun in this order.

    Raises:
        Exception: the first that one of them does not handle. No other is begun after that, and
            those that are under way are brought to their end before.
    """
    errors: list[Exception] = []

    def go_on(step: Callable[[], Request]) -> Request | None:
        try:
            return step()
        except StopIteration:
            return None
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)
            return None

    def begun() -> Iterator[tuple[Work, Request]]:
        for work in works:
            if request := go_on(partial(next, work)):
                yield work, request
            if errors:
                return

    for (work, _), answer in overlap(lambda one: one[1](), begun()):
        if error := answer.exception():
            more = go_on(partial(work.throw, error))
        else:
            more = go_on(partial(work.send, answer.result()))
        assert more is None, "one request at most"
    if errors:
        raise errors[0]


def _asked(ask: Callable[[Item], Answer], item: Item) -> Future[Answer]:
    future: Future[Answer] = Future()
    try:
        future.set_result(ask(item))
    except Exception as error:  # noqa: BLE001  the caller gets it
        future.set_exception(error)
    return future
