"""Do the next things in a thread while the last one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(do: Callable[[T], R], things: Iterable[T], many: int) -> Generator[R]:
    """What ``do`` gives for each thing, in their order; the next ``many`` are done meanwhile.

    One thread does them, one after the other. What ``do`` raises is raised here when its turn
    comes. The trap: what was done in vain, because nobody asked for it, is dropped as it is.

    >>> list(ahead(len, ["a", "bb", "ccc"], 2))
    [1, 2, 3]
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(1, "labelmend-ahead") as thread:
        try:
            for thing in things:
                waiting.append(thread.submit(do, thing))
                if len(waiting) > many:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
