"""Requests to a cluster that may be slow, some at the same time.

Threads ask, and do nothing else: what is done about the answers, in the database too, the caller
does, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

#: So many requests at the same time: a hundred pods at one second each take a quarter of a minute.
AT_ONCE = 8

Item = TypeVar("Item")
Answer = TypeVar("Answer")


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


def _asked(ask: Callable[[Item], Answer], item: Item) -> Future[Answer]:
    future: Future[Answer] = Future()
    try:
        future.set_result(ask(item))
    except Exception as error:  # noqa: BLE001  the caller gets it
        future.set_exception(error)
    return future
