"""The loading that follows a plan: the same batches however many processes do it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import Protocol

from torch import Tensor

from labelmend.data.dataset import SampleDataset
from labelmend.data.plan import Weights, vector_of
from labelmend.data.workers import AHEAD, Piece, load_in_processes, load_piece
from labelmend.errors import SettingsError
from labelmend.types import Batch


def ahead(workers: int, parts: int = 1) -> int:
    """How many steps drawing runs ahead of training, at most.

    While the batches of a step are asked of :func:`load`, and until those of the next step are,
    no step more than this many later has been drawn up, nor have its weights been asked for. It
    does so from the first step on.

    >>> ahead(workers=0), ahead(workers=1), ahead(workers=4), ahead(workers=4, parts=3)
    (0, 1, 7, 3)
    """
    return 1 + (workers * AHEAD - 2) // parts if workers else 0


class Shared(Protocol):
    """Batches that processes can share: a plan, or one of pairs."""

    def check(self, rank: int, world: int, parts: int) -> None:
        """Refuse a division that leaves someone without samples."""
        ...

    def share(
        self, step: int, rank: int, world: int, parts: int, weights: Weights | None
    ) -> list[Piece]:
        """What a process draws in a step, in pieces."""
        ...


def load(
    dataset: SampleDataset,
    plan: Shared,
    *,
    steps: range,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
    workers: int = 0,
    timeout: float = 120.0,
    weights: Callable[[int], Tensor | None] | None = None,
) -> Generator[list[Batch]]:
    """The batches of every step in ``steps``: a list of ``parts`` batches per step.

    Order and content are the same, to the last bit, for every number of ``workers`` and from
    whichever step one begins. Close the iterator, or run it out, to end the processes.

    Args:
        dataset: where draws are looked up.
        plan: which draws.
        steps: which steps, for example ``range(done, total)`` after a restart.
        rank: this process among ``world``.
        world: processes that train together.
        parts: batches a process divides its share of a step into.
        workers: loading processes; 0 loads here, where a hanging file cannot be noticed.
        timeout: seconds after which a loading process hangs.
        weights: the weights that a step is drawn by, ``(samples,)``, or None for none; called
            once per step, when its pieces are drawn up. Loading processes work ahead, up to
            ``workers * AHEAD`` pieces of ``data.workers``: so it must be a function of the step
            that gives the same weights from :func:`ahead` steps before it on, and again after a
            restart.

    Raises:
        SettingsError: for a division that leaves a piece empty, at once; for weights that are
            none, or not one per sample of the data set, when they are asked for.
        WorkerError: when a loading process dies, hangs or fails, naming the samples.
        DataError, NonFiniteError: as the data set raises them, wherever it happened.
    """
    plan.check(rank, world, parts)
    if workers < 0 or timeout <= 0:
        raise SettingsError(
            f"input.workers wants at least 0 and input.timeout more than 0, got {workers} and "
            f"{timeout}"
        )

    def drawn_up() -> Iterator[Piece]:
        for step in steps:
            given = None if weights is None else weights(step)
            odds = None if given is None else vector_of(given, len(dataset))
            yield from plan.share(step, rank, world, parts, odds)

    pieces = drawn_up()
    if workers:
        batches = load_in_processes(dataset, pieces, workers, timeout)
    else:
        batches = (load_piece(dataset, piece) for piece in pieces)
    return _grouped(batches, parts)


def _grouped(batches: Generator[Batch], parts: int) -> Generator[list[Batch]]:
    try:
        while group := list(islice(batches, parts)):
            yield group
    finally:
        batches.close()
