"""Which samples come next: a pure function of the step, and the loading that follows it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from labelmend.data.dataset import SampleDataset
from labelmend.data.workers import Piece, load_in_processes, load_piece
from labelmend.errors import SettingsError
from labelmend.types import Batch, Draw

_POOLS = {"all": 0, "strong": 1, "weak": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """The make-up of every batch of a training, without any state that a restart could lose.

    Each pool (strong, weak, or all) is an endless stream of its samples, every pass over it in a
    new order. A batch takes the next stretch of each stream, so after any number of whole passes
    every sample of a pool was drawn equally often, whatever the number of processes.

    Args:
        strong: places of the strong training samples in ``DataSet.samples``.
        weak: places of the weak ones.
        size: samples per step over all processes.
        strong_share: share of strong samples in a batch, rounded, and at least one of each
            strictly between 0 and 1 where there are both; a pool without samples is filled from
            the other. None draws from all alike.
        seed: decides the orders.

    Raises:
        SettingsError: for a batch that cannot be made.

    Trap: a small strong pool comes round often: its samples are seen ``steps * strong per batch /
    len(strong)`` times.

    >>> plan = Plan(strong=(0, 1), weak=(2, 3, 4, 5), size=3, strong_share=0.33, seed=0)
    >>> sorted(draw.index for step in range(2) for draw in plan.batch(step))
    [0, 1, 2, 3, 4, 5]
    >>> plan.steps_per_epoch
    2
    """

    strong: tuple[int, ...]
    weak: tuple[int, ...]
    size: int
    strong_share: float | None
    seed: int

    def __post_init__(self) -> None:
        if self.seed < 0 or self.size < 1:
            raise SettingsError(
                f"batch.size wants at least 1 and seed at least 0, got {self.size} and {self.seed}"
            )
        if not self.strong and not self.weak:
            raise SettingsError("at least one training sample is wanted, got none")
        share = self.strong_share
        if share is None:
            return
        if not 0 <= share <= 1:
            raise SettingsError(f"batch.strong_share is a share from 0 to 1, not {share}")
        if (share == 1 and not self.strong) or (share == 0 and not self.weak):
            raise SettingsError(
                f"batch.strong_share = {share:g} leaves no sample to train on: there are "
                f"{len(self.strong)} strong and {len(self.weak)} weak ones"
            )
        if 0 < share < 1 and self.strong and self.weak and self.size < 2:
            raise SettingsError(
                "batch.size wants at least 2 for a strong and a weak sample in every step, got 1; "
                "or leave batch.strong_share out"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every sample of the larger pool in use was drawn once."""
        length, taken = max((len(pool), taken) for _, pool, taken in self._parts())
        return -(-length // taken)

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each pool in every batch: ``strong`` and ``weak``, or ``all``."""
        return {name: taken for name, _, taken in self._parts()}

    def batch(self, step: int) -> list[Draw]:
        """The draws of a step, strong and weak ones spread evenly.

        The key of a draw is its place in its stream: unique in a training.

        Raises:
            SettingsError: for a step below 0.
        """
        if step < 0:
            raise SettingsError(f"steps count from 0, got {step}")
        placed = [
            ((n + 0.5) / taken, name, self._draw(name, pool, step * taken + n))
            for name, pool, taken in self._parts()
            for n in range(taken)
        ]
        return [draw for _, _, draw in sorted(placed, key=lambda item: item[:2])]

    def share(self, step: int, rank: int = 0, world: int = 1, parts: int = 1) -> list[Piece]:
        """What process ``rank`` of ``world`` draws in a step, in ``parts`` pieces.

        Together all processes and parts draw :meth:`batch`, each draw once.

        Raises:
            SettingsError: when a piece would be empty, or for a rank that does not exist.
        """
        self.check(rank, world, parts)
        batch, pieces = self.batch(step), world * parts
        borders = [n * len(batch) // pieces for n in range(pieces + 1)]
        mine = range(rank * parts, (rank + 1) * parts)
        return [batch[borders[n] : borders[n + 1]] for n in mine]

    def check(self, rank: int, world: int, parts: int) -> None:
        """Refuse a division of batches that leaves someone without samples.

        Raises:
            SettingsError: saying which sizes would do.
        """
        if world < 1 or parts < 1 or not 0 <= rank < world:
            raise SettingsError(
                f"a rank from 0 below world and at least one part are wanted, got rank {rank}, "
                f"world {world}, parts {parts}"
            )
        if self.size < world * parts:
            raise SettingsError(
                f"batch.size wants at least {world * parts} samples for {world} processes with "
                f"{parts} parts (batch.accumulate) each, got {self.size}"
            )

    def _parts(self) -> list[tuple[str, tuple[int, ...], int]]:
        """Name, samples and samples per batch of every pool in use."""
        if self.strong_share is None:
            return [("all", self.strong + self.weak, self.size)]
        strong = int(self.size * self.strong_share + 0.5)
        if 0 < self.strong_share < 1:
            strong = min(max(strong, 1), self.size - 1)
        if not self.strong or not self.weak:
            strong = self.size if self.strong else 0
        taken = [("strong", self.strong, strong), ("weak", self.weak, self.size - strong)]
        return [part for part in taken if part[2]]

    def _draw(self, name: str, pool: tuple[int, ...], position: int) -> Draw:
        turn, place = divmod(position, len(pool))
        order = _order(self.seed, _POOLS[name], turn, len(pool))
        return Draw(pool[order[place]], position * len(_POOLS) + _POOLS[name])


@lru_cache(maxsize=16)
def _order(seed: int, pool: int, turn: int, length: int) -> np.ndarray:
    """A permutation that only these numbers decide, in every version of numpy.

    Sorted raw bits, which numpy promises never to change; ``permutation`` has no such promise.
    """
    bits = np.random.PCG64(np.random.SeedSequence((seed, pool, turn))).random_raw(length)
    return np.argsort(bits, kind="stable")


def load(
    dataset: SampleDataset,
    plan: Plan,
    *,
    steps: range,
    rank: int = 0,
    world: int = 1,
    parts: int = 1,
    workers: int = 0,
    timeout: float = 120.0,
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

    Raises:
        SettingsError: for a division that leaves a piece empty, at once.
        WorkerError: when a loading process dies, hangs or fails, naming the samples.
        DataError, NonFiniteError: as the data set raises them, wherever it happened.
    """
    plan.check(rank, world, parts)
    if workers < 0 or timeout <= 0:
        raise SettingsError(
            f"input.workers wants at least 0 and input.timeout more than 0, got {workers} and "
            f"{timeout}"
        )
    pieces = (piece for step in steps for piece in plan.share(step, rank, world, parts))
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
