"""Which two samples are mixed with each other: two plans, side by side."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal

from labelmend.data.plan import Plan, Weights, borders
from labelmend.data.workers import Piece
from labelmend.errors import SettingsError
from labelmend.order import order_of
from labelmend.types import Draw


@dataclass(frozen=True, slots=True)
class PairPlan:
    """The pairs of every batch: sample ``k`` of ``first`` with sample ``k`` of ``second``.

    Where draws go by weight, only the first sample of a pair does (seed A, ¶77); the second is
    drawn uniformly from its pools. Get one from :meth:`of`.

    >>> plan = PairPlan.of(Plan((0, 1), (2, 3, 4, 5), size=4, strong_share=0.5, seed=0))
    >>> [draw.index for draw in plan.batch(0)]  # two firsts, then their seconds
    [1, 2, 5, 0]
    >>> plan.counts
    {'strong': 2, 'weak': 2}
    """

    first: Plan
    second: Plan

    @classmethod
    def of(cls, plan: Plan, pairs: Literal["alike", "strong_first"] = "alike") -> PairPlan:
        """Pairs out of the samples of a plan.

        Args:
            plan: its size counts the samples of all pairs.
            pairs: both samples drawn as the plan says, or a strong first and a weak second one.

        Raises:
            SettingsError: where the plan's batch cannot be made of such pairs.
        """
        of_both = 0 < (plan.strong_share or 0) < 1 and plan.strong and plan.weak
        wanted = 4 if pairs == "alike" and of_both else 2
        if plan.size % 2 or plan.size < wanted:
            raise SettingsError(
                f"mixed images are made of pairs: batch.size wants an even number from {wanted} "
                f"on, got {plan.size}"
            )
        # From one seed the two would draw each sample beside itself.
        half, other = plan.size // 2, plan.seed + 2**31
        if pairs == "alike":
            return cls(replace(plan, size=half), replace(plan, size=half, seed=other))
        if not plan.strong or not plan.weak:
            raise SettingsError(
                f"mixing.pairs = 'strong_first' wants strong and weak samples, and with "
                f"batch.strong_share = {plan.strong_share} there are {len(plan.strong)} and "
                f"{len(plan.weak)}; take 'alike'"
            )
        return cls(
            replace(plan, weak=(), size=half, strong_share=1.0),
            replace(plan, size=half, strong_share=0.0, seed=other),
        )

    def ending(self, strong_from: int) -> PairPlan:
        """The same, but with strong samples only from that step on, as firsts and as seconds."""
        return PairPlan(self.first.ending(strong_from), self.second.ending(strong_from))

    @property
    def strong(self) -> tuple[int, ...]:
        """Places of the strong samples."""
        return self.first.strong or self.second.strong

    @property
    def weak(self) -> tuple[int, ...]:
        """Places of the weak samples."""
        return self.second.weak or self.first.weak

    @property
    def size(self) -> int:
        """Samples per step over all processes, two for every pair."""
        return self.first.size + self.second.size

    @property
    def steps_per_epoch(self) -> int:
        """Steps until as many samples were drawn as the larger pool in use has.

        Firsts and seconds go through their pools by themselves: some samples have then been drawn
        as both and some as neither.
        """
        both = max(self.first.steps_per_epoch, self.second.steps_per_epoch)
        return both if self.first.weak != self.second.weak else -(-both // 2)

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each pool in a first batch: ``strong`` and ``weak``, or ``all``."""
        return self.counts_at(0)

    def counts_at(self, step: int, weights: Weights | None = None) -> dict[str, int]:
        """Samples of each pool in the batch of a step, drawn by weights if these are given."""
        first, second = self.first.counts_at(step, weights), self.second.counts_at(step)
        return dict(Counter(first) + Counter(second))

    def batch(self, step: int, weights: Weights | None = None) -> list[Draw]:
        """The draws of a step: the firsts of all pairs, then their seconds.

        Raises:
            SettingsError: as :meth:`Plan.batch` does.
        """
        firsts, seconds = self._draws(step, weights)
        return firsts + seconds

    def share(
        self,
        step: int,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        weights: Weights | None = None,
    ) -> list[Piece]:
        """What process ``rank`` of ``world`` draws in a step, in ``parts`` pieces of whole pairs.

        Raises:
            SettingsError: as :meth:`Plan.share` does.
        """
        self.check(rank, world, parts)
        firsts, seconds = self._draws(step, weights)
        mine = borders(len(firsts), rank, world, parts)
        return [firsts[a:b] + seconds[a:b] for a, b in mine]

    def check(self, rank: int, world: int, parts: int) -> None:
        """Refuse a division of batches that leaves someone without a pair.

        Raises:
            SettingsError: saying which sizes would do.
        """
        if self.size < 2 * world * parts:
            raise SettingsError(
                f"batch.size wants at least {2 * world * parts} samples, two for every pair, for "
                f"{world} processes with {parts} parts (batch.accumulate) each, got {self.size}"
            )
        self.first.check(rank, world, parts)

    def _draws(self, step: int, weights: Weights | None) -> tuple[list[Draw], list[Draw]]:
        """Firsts and seconds. Keys are doubled: the two count their draws apart."""
        firsts, seconds = self.first.batch(step, weights), self.second.batch(step)
        # Both plans have strong and weak samples at the same places; in this order any can meet.
        order = order_of((self.second.seed, step), len(seconds))
        return (
            [replace(draw, key=2 * draw.key) for draw in firsts],
            [replace(seconds[place], key=2 * seconds[place].key + 1) for place in order],
        )
