"""What was made last is kept, and made by one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from labelmend.data.cache import Cache

Value = TypeVar("Value")


class Shelf(Generic[Value]):
    """Things that are slow to make, for any number of threads, in bounded memory.

    What many ask for at once is made once. What is larger than all that may be kept is made again
    every time.

    Args:
        limit: bytes to keep.
        size: how many bytes a thing takes.
        making: held while something is made; shelves that share it make one thing at a time.

    >>> shelf = Shelf(100, len, threading.RLock())
    >>> shelf.take(("a",), lambda: "first"), shelf.take(("a",), lambda: "second")
    ('first', 'first')
    """

    def __init__(self, limit: float, size: Callable[[Value], int], making: threading.RLock) -> None:
        self._held: Cache[Value] = Cache(limit)
        self._size, self._making = size, making
        self._keeping = threading.Lock()

    def take(self, key: tuple[str, ...], make: Callable[[], Value]) -> Value:
        """What is kept for ``key``, or made now."""
        found = self._look(key)
        if found is not None:
            return found
        with self._making:
            found = self._look(key)  # somebody may have made it meanwhile
            if found is None:
                found = make()
                with self._keeping:
                    self._held.put(key, found, self._size(found))
            return found

    def _look(self, key: tuple[str, ...]) -> Value | None:
        with self._keeping:
            return self._held.get(key)
