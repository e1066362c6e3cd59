"""The weight step: compare weak samples' gradients with the strong ones', and move weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelmend.data.dataset import SampleDataset, collate
from labelmend.data.sampling import Plan
from labelmend.errors import NonFiniteError
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.types import Batch, Draw
from labelmend.weighting.curvature import Curvature
from labelmend.weighting.evidence import Evidence, Findings, cosine
from labelmend.weighting.gradients import exact, mean_gradient_of
from labelmend.weighting.weights import UpdateRule, WeightTable


@dataclass(frozen=True, slots=True)
class Reweigher:
    """Seed A's weight step (¶46–67): g_S, v = H⁻¹ g_S, g_kᵀ v for every weak sample, update.

    Strong and weak samples come in turn from endless shuffles, so that the whole of both sets is
    seen however few are judged at a time. Samples are neither augmented nor mixed, and the
    network is in evaluation mode. Every process computes g_S of all strong samples drawn (so
    that it is the same to the bit) and judges its share of the weak ones.

    Attributes:
        strong: plan that draws the strong samples of one weight step.
        weak: plan that draws the weak ones.
        chunk: samples per pass.
        move: puts a batch on the device in the network's number type.
    """

    objective: Objective
    network: nn.Module
    samples: SampleDataset
    strong: Plan
    weak: Plan
    chunk: int
    evidence: Evidence
    rule: UpdateRule
    rate: float
    curvature: Curvature
    processes: Processes
    move: Callable[[Batch], Batch]

    def __call__(
        self, table: WeightTable, number: int, step: int, check: Callable[[], None]
    ) -> dict[str, float]:
        """Weight step ``number`` (from 0) at a training step: changes the table, returns figures.

        ``check`` is called between passes on all processes alike and may raise to give up; the
        table is then as it was.
        """
        was_training = self.network.training
        self.network.eval()
        try:
            # In the precision of the parameters, not under autocast: similarities are small
            # differences, and forward mode under autocast fails in convolutions on the CPU.
            gradient, agreement = self._trusted(number, check)
            direction = self.curvature(gradient)
            index, loss, similarity = self._judge(direction, number, check)
        finally:
            self.network.train(was_training)
        self._refuse_bad_numbers(index, loss + similarity, step)
        evidence = self.evidence(Findings(similarity, loss, agreement))
        table.update(index, evidence, self.rule, self.rate)
        table.note(index, similarity, loss, step)
        return _figures(table, similarity) | {"agreement": agreement}

    def _refuse_bad_numbers(self, index: Tensor, numbers: Tensor, step: int) -> None:
        bad = index[~torch.isfinite(numbers)].tolist()
        if bad:
            names = ", ".join(self.samples.data.samples[i].id for i in bad)
            raise NonFiniteError(
                f"the weight step at step {step} gave NaN or infinity; samples: {names}; "
                "lower optimiser.learning_rate or look at these files"
            )

    def _parameters(self) -> dict[str, Tensor]:
        return {n: p for n, p in self.network.named_parameters() if p.requires_grad}

    def _trusted(self, number: int, check: Callable[[], None]) -> tuple[dict[str, Tensor], float]:
        """The mean gradient of the strong samples drawn, and how far two halves of them agree.

        The halves are of samples, not of draws: a sample drawn twice would agree with itself.
        """
        first = set(self.strong.strong[::2])
        draws = self.strong.batch(number)
        halves = [[d for d in draws if (d.index in first) == one] for one in (True, False)]
        gradients = [self._mean_gradient(half, check) for half in halves if half]
        counts = [len(half) for half in halves if half]
        if len(gradients) == 1:
            return gradients[0], 0.0
        one, other = gradients
        total = {
            name: (counts[0] * one[name] + counts[1] * other[name]) / len(draws) for name in one
        }
        return total, cosine(one, other)

    def _mean_gradient(self, draws: list[Draw], check: Callable[[], None]) -> dict[str, Tensor]:
        def passes() -> Iterator[Callable[..., Tensor]]:
            for batch in self._batches(draws):
                check()
                yield self.objective.losses_of(self.network, batch)

        return mean_gradient_of(passes(), self._parameters())

    def _judge(
        self, direction: dict[str, Tensor], number: int, check: Callable[[], None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        draws = self.weak.batch(number)
        loss = torch.zeros(len(draws), dtype=torch.float64)
        similarity = torch.zeros(len(draws), dtype=torch.float64)
        mine = range(self.processes.rank, len(draws), self.processes.world)
        params = self._parameters()
        # Shares differ by one sample: all processes must check equally often, or one waits.
        longest = -(-len(draws) // self.processes.world)
        for first in range(0, longest, self.chunk):
            check()
            part = list(mine[first : first + self.chunk])
            if part:
                batch = self.move(collate([self.samples[_bare(draws[i])] for i in part]))
                of = self.objective.losses_of(self.network, batch)
                one, other = exact(of, params, direction)
                loss[part] = one.double().cpu()
                similarity[part] = other.double().cpu()
        index = torch.tensor([draw.index for draw in draws])
        return index, self.processes.add(loss), self.processes.add(similarity)

    def _batches(self, draws: list[Draw]) -> Iterator[Batch]:
        for first in range(0, len(draws), self.chunk):
            part = draws[first : first + self.chunk]
            yield self.move(collate([self.samples[_bare(draw)] for draw in part]))


def _bare(draw: Draw) -> Draw:
    return Draw(draw.index, draw.key, augment=False)


def _figures(table: WeightTable, similarity: Tensor) -> dict[str, float]:
    weights = table.weight[table.learns]
    return {
        "mean_weight": weights.mean().item(),
        "median_weight": statistics.median(weights.tolist()),
        "share_at_0": (weights <= 0).double().mean().item(),
        "share_at_1": (weights >= 1).double().mean().item(),
        "mean_similarity": similarity.mean().item(),
    }
