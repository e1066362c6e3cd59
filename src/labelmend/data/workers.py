"""Processes that load batches ahead of need, and that cannot die or hang unnoticed."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import queue
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch

from labelmend.data.dataset import SampleDataset, collate
from labelmend.errors import LabelmendError, WorkerError
from labelmend.types import Batch, Draw

Piece = list[Draw]

AHEAD = 2
"""Pieces asked of every process at a time: one to work on and one to go on with."""

START_SECONDS = 120.0
"""Least patience with a process that has yet to start: it imports everything first."""


def load_piece(dataset: SampleDataset, piece: Piece) -> Batch:
    """The batch of some draws.

    Raises:
        LabelmendError: as the data set does.
        WorkerError: for any other failure, naming the samples.
    """
    try:
        return collate([dataset[draw] for draw in piece])
    except LabelmendError:
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise WorkerError(f"loading {name_samples(dataset, piece)} failed: {reason}") from error


def load_in_processes(
    dataset: SampleDataset, pieces: Iterable[Piece], workers: int, timeout: float
) -> Generator[Batch]:
    """The batches of ``pieces``, in their order, loaded by ``workers`` processes.

    Piece ``n`` goes to process ``n % workers``. The processes are started afresh (never forked
    from this one, which may have threads), load on one thread each, and are gone when the
    generator ends, is closed, or this process ends in any way.

    torch's own DataLoader is not used here: with a time-out it notices a killed process only when
    the time is up, a stopped one survives it, and it does not say which samples were asked for.

    Raises:
        WorkerError: when a process dies, or needs longer than ``timeout`` seconds for a piece.
        LabelmendError: as the data set raised it in a process.

    Trap: as with every process that is not forked, a script that calls this needs
    ``if __name__ == "__main__":`` around what it does.
    """
    crew = _Crew(dataset, workers)
    try:
        asked: deque[tuple[_Worker, Piece]] = deque()
        for number, piece in enumerate(pieces):
            worker = crew.workers[number % workers]
            worker.ask(piece)
            asked.append((worker, piece))
            if len(asked) == workers * AHEAD:
                yield _answer(dataset, *asked.popleft(), timeout)
        while asked:
            yield _answer(dataset, *asked.popleft(), timeout)
    finally:
        crew.close()


def name_samples(dataset: SampleDataset, piece: Piece) -> str:
    """The samples of a piece for a message: the first four by name."""
    names = list(dict.fromkeys(dataset.name(draw.index) for draw in piece))
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way to the training process; its class must be one of ours to travel."""

    kind: type[LabelmendError]
    text: str


class _Started:
    """What a process says first."""


class _Gone:
    """What is left when a process is no more."""


class _Worker:
    """One process, and a thread that takes what it sends.

    The thread, because taking half a message from a process that was stopped in the middle of
    sending never ends; so it does not end in a thread that can be given up.
    """

    def __init__(self, process: Any, connection: Connection) -> None:
        self.process = process
        self._connection = connection
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.started = False
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def ask(self, piece: Piece) -> None:
        """Send a request; if nobody is there any more, the answer will say so."""
        with contextlib.suppress(OSError):
            self._connection.send(piece)

    def answer(self, timeout: float) -> Any:
        """What it sends next; raises queue.Empty when time is up."""
        if not self.started:
            first = self._inbox.get(timeout=max(timeout, START_SECONDS))
            if isinstance(first, _Gone):
                return first
            self.started = True
        return self._inbox.get(timeout=timeout)

    def close(self) -> None:
        """End the process, whatever it is doing; it keeps nothing that could be lost."""
        self.process.kill()
        self.process.join()
        self._thread.join(5)  # ends by itself: nobody is left to send
        self._connection.close()

    def _receive(self) -> None:
        try:
            while True:
                self._inbox.put(self._connection.recv())
        except (EOFError, OSError):
            self._inbox.put(_Gone())


class _Crew:
    """All processes of one loader."""

    def __init__(self, dataset: SampleDataset, workers: int) -> None:
        context: Any = multiprocessing.get_context(_start_method())
        if _start_method() == "forkserver":
            context.set_forkserver_preload([__name__])  # import once, not once per process
        self.workers: list[_Worker] = []
        # before multiprocessing's own ending, which waits for processes that ignore its request
        atexit.register(self.close)
        try:
            for _ in range(workers):
                self.workers.append(_start(context, dataset))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        atexit.unregister(self.close)
        for worker in self.workers:
            worker.process.kill()  # all at once, then wait for each
        while self.workers:
            self.workers.pop().close()


def _start_method() -> str:
    return "forkserver" if sys.platform.startswith("linux") else "spawn"


def _start(context: Any, dataset: SampleDataset) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(dataset, theirs), daemon=True)
    process.start()
    theirs.close()  # so that its end is the end of the connection
    return _Worker(process, ours)


def _serve(dataset: SampleDataset, connection: Connection) -> None:
    """Answer requests until the other side is gone. Runs in a process of its own."""
    # Ctrl-C and SIGTERM go to the whole group; how training ends is the training process's to say
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)
    try:
        connection.send(_Started())
        while True:
            connection.send(_attempt(dataset, connection.recv()))
    except (EOFError, OSError):
        return


def _attempt(dataset: SampleDataset, piece: Piece) -> Any:
    try:
        batch = load_piece(dataset, piece)
    except LabelmendError as error:
        return _Failure(type(error), str(error))
    # as arrays: torch would pass them through shared memory, which containers have little of
    sent = (batch.image, batch.label, batch.valid, batch.index, batch.pose)
    return tuple(t.numpy() for t in sent if t is not None)


def _answer(dataset: SampleDataset, worker: _Worker, piece: Piece, timeout: float) -> Batch:
    samples = name_samples(dataset, piece)
    try:
        answer = worker.answer(timeout)
    except queue.Empty:
        raise WorkerError(
            f"the loading process asked for {samples} did not answer for {timeout:g} s; "
            f"look at these files, or raise input.timeout"
        ) from None
    if isinstance(answer, _Gone):
        worker.process.join(5)
        if not worker.started:
            raise WorkerError(
                f"a loading process {_how(worker.process.exitcode)} while starting, and printed "
                f"why; a script that loads with workers wants if __name__ == '__main__': around it"
            )
        raise WorkerError(
            f"the loading process asked for {samples} {_how(worker.process.exitcode)}; "
            f"look at these files, or lower input.workers or input.cache_mb if memory ran out"
        )
    if isinstance(answer, _Failure):
        raise answer.kind(answer.text)
    return Batch(*(torch.from_numpy(array) for array in answer))


def _how(status: int | None) -> str:
    if status is None or status >= 0:
        return f"ended early with status {status}"
    return f"was killed by {signal.Signals(-status).name}"
