"""Whose turn it is to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from labelmend.errors import SettingsError
from labelmend.order import order_of
from labelmend.types import Draw


@dataclass(frozen=True)
class Turns:
    """Weak samples in one fixed order, so many at every weight step, round and round.

    One order for all rounds, so that none waits longer than :attr:`longest_wait`; shuffled, so
    that neighbours in the data set are not judged against each other.

    Args:
        samples: their places in the data set.
        size: samples of a weight step, at most as many as there are.
        seed: decides the order.
        first: samples of the first weight step, not fewer; by default as of the others.

    Raises:
        SettingsError: for a weight step without samples, or with one of them twice.

    >>> turns = Turns((3, 4, 5), size=2, seed=0)
    >>> sorted(draw.index for number in range(3) for draw in turns.draws(number))
    [3, 3, 4, 4, 5, 5]
    >>> turns.longest_wait
    2
    """

    samples: tuple[int, ...]
    size: int
    seed: int
    first: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.size <= len(self.samples):
            raise SettingsError(
                f"a weight step wants from 1 to all {len(self.samples)} weak samples, got "
                f"{self.size}; set weighting.weak_samples"
            )
        if not self.size <= self._first <= len(self.samples):
            raise SettingsError(
                f"the first weight step wants from {self.size} to all {len(self.samples)} weak "
                f"samples, got {self.first}"
            )

    @property
    def longest_wait(self) -> int:
        """Weight steps from one judgement of a sample to the next, at most."""
        return -(-len(self.samples) // self.size)

    def draws(self, number: int) -> list[Draw]:
        """The samples of weight step ``number``, from 0, as they are without augmentation."""
        begin = 0 if number == 0 else self._first + (number - 1) * self.size
        size = self._first if number == 0 else self.size
        return [
            Draw(self._order[position % len(self.samples)], position, augment=False)
            for position in range(begin, begin + size)
        ]

    @property
    def _first(self) -> int:
        return self.size if self.first is None else self.first

    @cached_property
    def _order(self) -> list[int]:
        return [self.samples[place] for place in order_of(self.seed, len(self.samples))]
