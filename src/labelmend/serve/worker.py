"""The one thread that owns the network: takes what waits, predicts it, answers each its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from labelmend.errors import LabelmendError, WorkerError
from labelmend.serve.counts import Counts
from labelmend.types import Raster

Predict = Callable[[Sequence[Raster], bool], "list[np.ndarray | LabelmendError]"]
"""Images of one size and whether mirror images are predicted too → scores of each, or why there are
none."""

JOINED = 2**22
"""Positions up to which images are predicted together; larger ones fill the device alone."""

_log = logging.getLogger("labelmend.serve")


@dataclass(slots=True, eq=False)
class Job:
    """An image that waits, and where its scores will be.

    A job and its future are one thing, so no answer can reach another request. Cancelling the
    future before it runs takes the job out: the network never sees it.
    """

    image: Raster
    flips: bool
    scores: Future[np.ndarray] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[tuple[int, ...], bool]:
        """What jobs that are predicted together have in common."""
        return self.image.array.shape, self.flips


class Worker:
    """Runs jobs in the order in which they came; jobs of one size with the first one, if they wait.

    Nothing is waited for to fill a batch. A job that makes its batch fail is found by running the
    others of it again, one by one. A thread that ends for any reason answers what it had begun
    with :class:`~labelmend.errors.WorkerError`, and the next one goes on with what waits.
    """

    def __init__(self, predict: Predict, counts: Counts, *, batch: int = 1) -> None:
        """``batch``: how many images are predicted together at most."""
        self._predict = predict
        self._batch = batch
        self._counts = counts
        self._waiting: deque[Job] = deque()
        self._change = threading.Condition()
        self._begun: list[Job] = []
        self._since: float | None = None
        self._ended = False
        self._begin()

    def submit(self, image: Raster, *, flips: bool = False) -> Future[np.ndarray]:
        """The scores of an image, some time.

        Raises:
            WorkerError: after :meth:`end`.
        """
        job = Job(image, flips)
        with self._change:
            if self._ended:
                raise WorkerError("the server is ending; send it to another one")
            self._waiting.append(job)
            self._change.notify()
        return job.scores

    @property
    def busy(self) -> float:
        """Seconds for which the network has been at what it does now; 0 where it rests."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def end(self) -> None:
        """Begin nothing more; what waits is cancelled, what has begun is finished."""
        with self._change:
            self._ended = True
            waiting, self._waiting = self._waiting, deque()
            self._change.notify_all()
        for job in waiting:
            job.scores.cancel()

    def _begin(self) -> None:
        threading.Thread(target=self._live, name="network", daemon=True).start()

    def _live(self) -> None:
        try:
            while self._next():
                self._together(self._begun)
        except BaseException as error:
            self._die(error)

    def _die(self, error: BaseException) -> None:
        """Leave nobody waiting, and a thread behind."""
        self._counts.count("deaths")
        _log.error("the thread under the network ended; another one goes on", exc_info=error)
        text = f"the network's thread ended ({type(error).__name__}); send the image again"
        self._since, begun = None, self._begun
        self._begun = []
        self._begin()
        for job in begun:
            if not job.scores.done():
                job.scores.set_exception(WorkerError(text))

    def _next(self) -> bool:
        """Take the jobs that are predicted next; False at the end."""
        self._begun, self._since = [], None
        with self._change:
            while not self._begun:
                self._change.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return False
                self._take()
        self._since = time.monotonic()
        return True

    def _take(self) -> None:
        kind = self._waiting[0].kind
        most = max(1, min(self._batch, JOINED // int(np.prod(kind[0][1:]))))
        left: deque[Job] = deque()
        while self._waiting:
            job = self._waiting.popleft()
            if len(self._begun) == most or job.kind != kind:
                left.append(job)
            elif job.scores.set_running_or_notify_cancel():
                self._begun.append(job)
        self._waiting = left

    def _together(self, jobs: list[Job]) -> None:
        start = time.monotonic()
        self._counts.begun(len(jobs))
        try:
            found = self._predict([job.image for job in jobs], jobs[0].flips)
        except Exception as error:
            self._fail(jobs, error)
            return
        self._counts.worked(time.monotonic() - start, len(jobs))
        for job, scores in zip(jobs, found, strict=True):
            if isinstance(scores, np.ndarray):
                job.scores.set_result(scores)
            else:
                job.scores.set_exception(scores)

    def _fail(self, jobs: list[Job], error: Exception) -> None:
        if len(jobs) > 1:
            for job in jobs:
                self._together([job])
            return
        self._counts.count("failures")
        if not isinstance(error, LabelmendError):
            _log.error("the network failed", exc_info=error)
        jobs[0].scores.set_exception(error)
