"""Which samples come next: a pure function of the step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from torch import Tensor

from labelmend.data.workers import Piece
from labelmend.errors import SettingsError
from labelmend.order import order_of
from labelmend.types import Draw

Weights = Sequence[float] | np.ndarray | Tensor
"""γ, ``(samples,)`` by place in ``DataSet.samples``, each at least 0; only their ratios matter."""

_POOLS = {"all": 0, "strong": 1, "weak": 2}

_SHIFTS = len(_POOLS)
"""Stands where orders have the number of a pool, so that shifts and orders share no bits."""

_GOLDEN = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio: its multiples modulo 2^64 never leave a large gap."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The make-up of every batch of a training, without any state that a restart could lose.

    Each pool (strong, weak, or all) is an endless stream of its samples, every pass over it in a
    new order. A batch takes the next stretch of each stream, so after any number of whole passes
    every sample of a pool was drawn equally often, whatever the number of processes.

    With weights (seed A, ¶77), weak samples are drawn in proportion to them instead: a pass is as
    long as before, and its draws are evenly spaced points on the line that the weights of the pool
    make end to end (systematic sampling, Madow 1949), from a start of its own and in the order
    that the pass has anyway. So while weights stay as they are, a sample is drawn in every pass
    its expected number of times, rounded up or down, and over a dozen passes at most twice too
    often or too seldom. Equal weights draw exactly what no weights draw.

    Args:
        strong: places of the strong training samples in ``DataSet.samples``.
        weak: places of the weak ones.
        size: samples per step over all processes.
        strong_share: share of strong samples in a batch, rounded, and at least one of each
            strictly between 0 and 1 where there are both; a pool without samples is filled from
            the other. None draws from all alike.
        seed: decides the orders.
        strong_from: the step from which on batches hold strong samples only, their stream going
            on where it stood; None for never.

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
    strong_from: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0 or self.size < 1:
            raise SettingsError(
                f"batch.size wants at least 1 and seed at least 0, got {self.size} and {self.seed}"
            )
        if not self.strong and not self.weak:
            raise SettingsError("at least one training sample is wanted, got none")
        if self.strong_from is not None and not self.strong:
            raise SettingsError(
                "batch.ending is of strong samples, and there are none; leave it as_is"
            )
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

    def ending(self, strong_from: int) -> Plan:
        """The same, but with strong samples only from that step on."""
        return replace(self, strong_from=strong_from)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every sample of the larger pool in use was drawn once."""
        length, taken = max((len(pool), taken) for _, pool, taken in self._usual())
        return -(-length // taken)

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each pool in a first batch: ``strong`` and ``weak``, or ``all``."""
        return self.counts_at(0)

    def counts_at(self, step: int, weights: Weights | None = None) -> dict[str, int]:
        """Samples of each pool in the batch of a step, drawn by weights if these are given.

        All are strong where no weak sample has a weight, and from ``strong_from`` on.
        """
        counts = {name: taken for name, _, _, taken in self._parts(step)}
        if weights is None or "weak" not in counts:
            return counts
        weighty = self._checked(weights)[_places(self.weak)].any()
        return counts if weighty else {"strong": self.size, "weak": 0}

    def batch(self, step: int, weights: Weights | None = None) -> list[Draw]:
        """The draws of a step, strong and weak ones spread evenly.

        The key of a draw is its place in its stream: unique in a training.

        Args:
            step: steps taken before, from 0.
            weights: how often weak samples are drawn, ``(samples,)`` by place in
                ``DataSet.samples``; what stands at strong places is not used: they count 1 where
                ``strong_share`` is None. A weight of 0, or under 2^-33 of the largest, is never
                drawn. Where every weak weight is 0, the weak places are filled with strong
                samples. None draws all weak samples alike.

        Raises:
            SettingsError: for a step below 0, weights that are none, or no sample left to draw.

        Trap: a weight that also multiplies the loss counts twice (seed A, ¶77 with eq. 11).

        >>> plan = Plan(strong=(), weak=(0, 1, 2), size=3, strong_share=None, seed=0)
        >>> sorted(draw.index for draw in plan.batch(0, weights=[0.5, 1.0, 0.0]))
        [0, 1, 1]
        """
        if step < 0:
            raise SettingsError(f"steps count from 0, got {step}")
        odds = None if weights is None else self._checked(weights)
        placed = [
            ((n + 0.5) / taken, name, draw)
            for name, pool, first, taken in self._parts(step)
            for n, draw in enumerate(self._draws(name, pool, first, taken, odds))
        ]
        return [draw for _, _, draw in sorted(placed, key=lambda item: item[:2])]

    def share(
        self,
        step: int,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        weights: Weights | None = None,
    ) -> list[Piece]:
        """What process ``rank`` of ``world`` draws in a step, in ``parts`` pieces.

        Together all processes and parts draw :meth:`batch`, each draw once, provided that all
        have the same weights.

        Raises:
            SettingsError: when a piece would be empty, for a rank that does not exist, or as
                :meth:`batch` does.
        """
        self.check(rank, world, parts)
        batch = self.batch(step, weights)
        return [batch[a:b] for a, b in borders(len(batch), rank, world, parts)]

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

    def _parts(self, step: int) -> list[tuple[str, tuple[int, ...], int, int]]:
        """Name and samples of every pool that a step uses, where its stream stands, how many."""
        if self.strong_from is None or step < self.strong_from:
            return [(name, pool, step * taken, taken) for name, pool, taken in self._usual()]
        before = sum(taken for name, _, taken in self._usual() if name == "strong")
        first = self.strong_from * before + (step - self.strong_from) * self.size
        return [("strong", self.strong, first, self.size)]

    def _usual(self) -> list[tuple[str, tuple[int, ...], int]]:
        """Name, samples and samples per batch of every pool in use, while weak ones are seen."""
        if self.strong_share is None:
            return [("all", self.strong + self.weak, self.size)]
        strong = int(self.size * self.strong_share + 0.5)
        if 0 < self.strong_share < 1:
            strong = min(max(strong, 1), self.size - 1)
        if not self.strong or not self.weak:
            strong = self.size if self.strong else 0
        taken = [("strong", self.strong, strong), ("weak", self.weak, self.size - strong)]
        return [part for part in taken if part[2]]

    def _draws(
        self, name: str, pool: tuple[int, ...], first: int, taken: int, odds: np.ndarray | None
    ) -> Iterator[Draw]:
        """``taken`` draws of a stream, from position ``first`` on."""
        ends = None
        if odds is not None and name != "strong":
            pool, ends = self._weighed(name, pool, odds)
        for position in range(first, first + taken):
            turn, place = divmod(position, len(pool))
            found = int(_order(self.seed, _POOLS[name], turn, len(pool))[place])
            if ends is not None:
                found = _locate(found, _shift(self.seed, _POOLS[name], turn), ends)
            yield Draw(pool[found], position * len(_POOLS) + _POOLS[name])

    def _weighed(
        self, name: str, pool: tuple[int, ...], odds: np.ndarray
    ) -> tuple[tuple[int, ...], np.ndarray | None]:
        """The samples that a pool is filled from, and where each ends on the line of weights."""
        odds = odds[_places(pool)]
        if name == "all":
            odds[: len(self.strong)] = 1.0
        if odds.any():
            return pool, _ends(odds)
        if not self.strong:
            raise SettingsError(
                f"a weight above 0 is wanted for at least one of {len(pool)} weak samples where "
                "there is no strong one, got 0 for all; give them weights, or a strong sample"
            )
        return self.strong, None

    def _checked(self, weights: Weights) -> np.ndarray:
        least = 1 + max(int(_places(pool).max()) for pool in (self.strong, self.weak) if pool)
        return vector_of(weights, least, or_more=True)


def borders(length: int, rank: int, world: int, parts: int) -> list[tuple[int, int]]:
    """From where to where process ``rank`` of ``world`` takes each of its ``parts`` pieces.

    >>> borders(10, rank=1, world=2, parts=2)
    [(5, 7), (7, 10)]
    """
    pieces = range(rank * parts, (rank + 1) * parts)
    return [(n * length // (world * parts), (n + 1) * length // (world * parts)) for n in pieces]


@lru_cache(maxsize=16)
def _order(seed: int, pool: int, turn: int, length: int) -> np.ndarray:
    """The order of one pass through a pool."""
    return order_of((seed, pool, turn), length)


@lru_cache(maxsize=16)
def _shift(seed: int, pool: int, turn: int) -> int:
    """Where a pass starts between two points, in 2^-64 of their distance.

    Over any number of passes the starts cover the distance evenly: a sample that is due in a
    third of a pass is drawn in every third one or nearly so, which chance alone would not do.
    """
    bits = np.random.PCG64(np.random.SeedSequence((seed, _SHIFTS, pool)))
    return (int(bits.random_raw()) + turn * _GOLDEN) % 2**64


@lru_cache(maxsize=4)
def _places(pool: tuple[int, ...]) -> np.ndarray:
    return np.array(pool, dtype=np.int64)


def vector_of(weights: Weights, samples: int, *, or_more: bool = False) -> np.ndarray:
    """Weights as float64, or the one error for what are none."""
    if isinstance(weights, Tensor):
        weights = weights.detach().cpu().double().numpy()
    vector = np.asarray(weights, dtype=np.float64)
    if vector.ndim != 1 or len(vector) < samples or (len(vector) > samples and not or_more):
        got = f"shape {vector.shape}"
    elif not (usable := np.isfinite(vector) & (vector >= 0)).all():
        place = int(np.argmin(usable))
        got = f"{vector[place]} at place {place}"
    else:
        return vector
    raise SettingsError(
        f"weights want one finite number of at least 0 for every sample of the data set, "
        f"{'at least ' if or_more else ''}{samples} in all, got {got}; "
        f"pass the weights of a table of this data set"
    )


def _ends(odds: np.ndarray) -> np.ndarray:
    """Where each sample ends when weights are laid end to end, in whole numbers.

    In 2^-32 of the power of two above the largest weight, which float64 reaches without rounding:
    sums are then exact, and no machine or order of adding can give another draw.
    """
    _, exponent = np.frexp(odds.max())
    units = np.rint(np.ldexp(odds, 32 - int(exponent)))
    return np.cumsum(units.astype(np.int64))


def _locate(point: int, shift: int, ends: np.ndarray) -> int:
    """The sample under one of ``len(ends)`` evenly spaced points on the line of weights."""
    place = ((point << 64) + shift) * int(ends[-1]) // (len(ends) << 64)
    return int(np.searchsorted(ends, place, side="right"))
