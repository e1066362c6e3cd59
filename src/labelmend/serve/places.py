"""How many requests may wait, how much memory they may take together, and who is sent away."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext

from fastapi import HTTPException

from labelmend.serve.counts import Counts
from labelmend.web.guard import Scope

PREDICT = "/v1/predict"
LONGEST_PAUSE = 60
"""Most seconds after which somebody is asked to come again."""


class Places:
    """A bounded number of requests from the first byte of a body to the last of its answer.

    Used in one thread, the event loop's. Memory: so many times the largest body.
    """

    def __init__(self, many: int, counts: Counts) -> None:
        """``many``: requests that may be here at once, those that are predicted among them."""
        self.many = many
        self.taken = 0
        self.closed = False
        self._counts = counts

    def admit(self, scope: Scope) -> AbstractContextManager[object]:
        """A place for a request, given back when that is answered; only predictions need one.

        Raises:
            HTTPException: 429 where all are taken, 503 once the server is ending; at once.
        """
        if scope["path"] != PREDICT or scope["method"] != "POST":
            return nullcontext()
        if self.closed:
            raise closing()
        if self.taken >= self.many:
            text = f"{self.taken} requests are waiting already; send it again later"
            raise HTTPException(429, text, {"Retry-After": str(self.pause)})
        return self._held()

    @property
    def pause(self) -> int:
        """Whole seconds until those who are here now will be done, as things go."""
        return min(LONGEST_PAUSE, max(1, math.ceil(self.taken * self._counts.pace)))

    @contextmanager
    def _held(self) -> Iterator[None]:
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


def closing() -> HTTPException:
    """What is said of requests while the server ends."""
    return HTTPException(503, "the server is ending; send it to another one", {"Retry-After": "10"})


class Room:
    """Bytes of memory that are shared; who does not fit waits for others to leave.

    Used as ``async with room.of(size):``, in one event loop.

    >>> Room(2**30).taken
    0
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self._change = asyncio.Condition()

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Room for ``size`` bytes; one alone gets it in any case."""
        async with self._change:
            await self._change.wait_for(lambda: not self.taken or self.taken + size <= self.size)
            self.taken += size
        try:
            yield
        finally:
            self.taken -= size
            await self._tell()

    async def _tell(self) -> None:
        async with self._change:
            self._change.notify_all()
