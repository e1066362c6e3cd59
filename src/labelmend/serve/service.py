"""One request from its bytes to its answer: read, wait for the network, encode; or give up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from fastapi import HTTPException

from labelmend.errors import DataError
from labelmend.inference.large import GIB, memory_in_one
from labelmend.inference.predictor import Predictor
from labelmend.serve.answers import Prediction, Reply, read, reply
from labelmend.serve.asked import Question
from labelmend.serve.counts import Counts, memory_in_use
from labelmend.serve.looks import Look, Looks
from labelmend.serve.network import Network
from labelmend.serve.places import Places, Room, closing
from labelmend.serve.worker import Predict, Worker
from labelmend.types import Raster

T = TypeVar("T")

THREADS = 2
"""Files that are decoded, or labels that are encoded, at once."""
GRACE = 20.0
"""Seconds that requests have to be finished once the server is told to end."""
GAIN = 8
"""How many times larger than the largest body an image may become by being decoded."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken on.

    Attributes:
        waiting: requests that may wait.
        batch: images that the network is given at once; 1 is to the bit what ``labelmend predict``
            writes, more is equal up to rounding.
        patience: seconds after which a request is given up.
        largest: MiB of a body.
        memory: GiB that all images which are being predicted may take together, without the
            network; one that would take more by itself is refused.
    """

    waiting: int = 64
    batch: int = 1
    patience: float = 60.0
    largest: float = 64.0
    memory: float = 2.0

    @property
    def body(self) -> int:
        """Bytes of the largest body."""
        return int(self.largest * MIB)


@dataclass(slots=True, eq=False)
class _Ticket:
    """How far a request has come."""

    scores: Future[np.ndarray] | None = field(default=None)

    def withdraw(self) -> bool:
        """Whether the network never sees it: a future decides once for all threads."""
        return self.scores is None or self.scores.cancel()


class Service:
    """A run's network, answering.

    Every request is one coroutine that holds its bytes, then its image, then its scores; nothing
    is looked up by number, so no answer can reach another request. A few threads decode and
    encode; the network has one of its own.
    """

    def __init__(
        self, predictor: Predictor, limits: Limits | None = None, *, predict: Predict | None = None
    ) -> None:
        """``predict``: in place of the run's network, for tests."""
        self.predictor = predictor
        self.limits = limits or Limits()
        self.counts = Counts()
        self.places = Places(self.limits.waiting + self.limits.batch, self.counts)
        self.looks = Looks()
        network = predict or Network(predictor, self.limits.batch)
        self._worker = Worker(network, self.counts, batch=self.limits.batch)
        self._room = Room(int(self.limits.memory * GIB))
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="files")
        self._decoding = asyncio.Semaphore(THREADS)
        self._over = asyncio.Event()
        self._deadline: float | None = None
        self.counts.gauges |= {
            "waiting": ("Requests that are here, waiting or running.", lambda: self.places.taken),
            "places": ("Requests that may be here at once.", lambda: self.places.many),
            "network_busy_seconds": ("For how long it is at one batch.", lambda: self._worker.busy),
            "resident_memory_bytes": ("Memory that the process holds.", memory_in_use),
        }

    @property
    def ready(self) -> bool:
        """Whether a request that comes now can be expected to be answered."""
        return not self.places.closed and self._worker.busy < self.limits.patience

    async def answer(
        self, question: Question, body: bytes, gone: Callable[[], Awaitable[object]]
    ) -> Reply | None:
        """The answer to a request; None where nobody waits for it any more.

        Args:
            question: what is asked.
            body: the file.
            gone: returns when the client has left. A request that still waits is then taken out
                and never predicted; one that is running is finished, and forgotten.

        Raises:
            HTTPException: 503 when it took too long, or the server is ending.
            LabelmendError: when the image cannot be predicted; whatever the network raised.
        """
        ticket = _Ticket()
        work = asyncio.ensure_future(self._work(question, body, ticket))
        left, over = asyncio.ensure_future(gone()), asyncio.ensure_future(self._over.wait())
        try:
            done, _ = await asyncio.wait(
                {work, left, over},
                timeout=self.limits.patience,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work in done and not work.cancelled():  # cancelled: the worker has ended
                return work.result()
            if left in done:
                work.cancel()  # nothing is handed on from here
                self.counts.gone("waiting" if ticket.withdraw() else "running")
                return None
            raise closing() if done else self._late()
        finally:
            for task in (work, left, over):
                task.cancel()
            await asyncio.gather(work, left, over, return_exceptions=True)

    def finished(self) -> bool:
        """Take nothing new; whether all that was begun is done, or its time is over."""
        if self._deadline is None:
            self.places.closed = True
            self._deadline = time.monotonic() + GRACE
        if self.places.taken and time.monotonic() < self._deadline:
            return False
        self._over.set()
        self._worker.end()
        return True

    def close(self) -> None:
        """End the threads; what they have begun is not waited for."""
        self._worker.end()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self, question: Question, body: bytes, ticket: _Ticket) -> Reply:
        async with AsyncExitStack() as stack:
            async with self._decoding:
                raster = await self._thread(lambda: self._read(question, body))
                await stack.enter_async_context(self._room.of(self._need(raster)))
            ticket.scores = self._worker.submit(raster, flips=question.flips)
            scores = await asyncio.wrap_future(ticket.scores)
            return await self._thread(lambda: self._reply(question, raster, scores))

    def _read(self, question: Question, body: bytes) -> Raster:
        raster = read(question, body, self.predictor.spec, GAIN * self.limits.body)
        need = self._need(raster)
        if need > self.limits.memory * GIB:
            raise DataError(
                f"{question.name}: takes about {need / GIB:.1f} GiB to predict, more than the "
                f"server's {self.limits.memory:g}; predict it with labelmend predict, which "
                "divides it, or start the server with a larger --memory"
            )
        return raster

    def _need(self, raster: Raster) -> int:
        array = raster.array
        return memory_in_one(self.predictor, array.shape, array.itemsize, raster.spacing)

    def _reply(self, question: Question, raster: Raster, scores: np.ndarray) -> Reply:
        found = Prediction(question, raster, scores, self.predictor)
        look = self.looks.keep(Look.of(found)) if question.look else None
        return reply(found, look=look)

    async def _thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _late(self) -> HTTPException:
        self.counts.count("late")
        text = (
            f"not answered within {self.limits.patience:g} s, and given up; send it again later, "
            "or start the server with a larger --patience"
        )
        return HTTPException(503, text, {"Retry-After": str(self.places.pause)})
