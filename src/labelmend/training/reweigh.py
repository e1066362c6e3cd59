"""The weight step: compare weak samples' gradients with the strong ones', and move weights."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from labelmend.data.dataset import SampleDataset, collate
from labelmend.data.sampling import Plan
from labelmend.errors import LabelmendError, NonFiniteError
from labelmend.losses import present
from labelmend.training.bend import Bend
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.training.turns import Turns
from labelmend.types import Batch, Draw, Loss
from labelmend.weighting.central import Step, along, find_step
from labelmend.weighting.choice import evaluating
from labelmend.weighting.cosine import gradient_cosine
from labelmend.weighting.direction import FadingMean, trusted_gradient
from labelmend.weighting.evidence import Evidence, Findings
from labelmend.weighting.gradients import (
    LossesOf,
    Parameters,
    Similarities,
    exact_or_slow,
    inner,
    own_precision,
)
from labelmend.weighting.rules import UpdateRule
from labelmend.weighting.weights import WeightTable

Mode = Literal["exact", "central", "cosine"]
"""How similarities are found: one forward-mode pass, two forward passes, or one by one."""


@dataclass(frozen=True, slots=True)
class Score:
    """How findings become moves.

    Attributes:
        fit: how badly a label fits a prediction, shaped as the loss.
        by_class: whether that is a value for every class.
        evidence: what the findings say.
        rule: how far evidence moves a weight.
        rate: times this.
    """

    fit: Loss
    by_class: bool
    evidence: Evidence
    rule: UpdateRule
    rate: float


@dataclass(frozen=True, slots=True)
class Search:
    """How similarities are found.

    Attributes:
        mode: by which passes.
        bend: which H⁻¹ turns g_S into the direction.
        names: the parameters that are compared.
        mean: g_S, averaged over weight steps where that is wanted.
    """

    mode: Mode
    bend: Bend
    names: tuple[str, ...]
    mean: FadingMean


@dataclass(frozen=True, slots=True)
class Weighing:
    """What a weight step says of itself: figures for the log, and words where there is need."""

    figures: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Answers:
    """What was found out about weak samples, each tensor flat over samples and classes."""

    index: Tensor
    loss: Tensor
    disagreement: Tensor
    similarity: Tensor
    present: Tensor
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Aim:
    """Where to look: the parameters compared, the direction, and the step where one is taken."""

    mode: Mode
    params: dict[str, Tensor]
    direction: dict[str, Tensor]
    agreement: float
    step: Step | None
    note: str


@dataclass(frozen=True, slots=True)
class Reweigher:
    """Seed A's weight step (¶46–67): g_S, v = H⁻¹ g_S, g_kᵀ v for every weak sample, update.

    Samples are neither augmented nor mixed, and the network is in evaluation mode. Every process
    computes g_S and v of all strong samples drawn (so that they are the same to the bit) and
    judges its share of the weak ones.

    Attributes:
        strong: plan that draws the strong samples of one weight step.
        weak: whose turn it is among the weak ones.
        chunk: samples per pass, and of the batch that the curvature is taken from.
        search: None where nobody asks for similarities.
        move: puts a batch on the device in the network's number type.
    """

    objective: Objective
    network: nn.Module
    samples: SampleDataset
    strong: Plan
    weak: Turns
    chunk: int
    search: Search | None
    score: Score
    processes: Processes
    move: Callable[[Batch], Batch]

    def __call__(
        self,
        table: WeightTable,
        number: int,
        step: int,
        optimiser: Optimizer,
        check: Callable[[], None],
    ) -> Weighing:
        """Weight step ``number`` (from 0) at a training step: changes the table, returns figures.

        ``check`` is called between passes on all processes alike and may raise to give up; table
        and averages are then as they were.
        """
        before = self.state()
        try:
            with evaluating(self.network):
                search = self.search
                aim = None if search is None else self._aim(search, number, optimiser, check)
                found = self._ask(aim, number, check)
        except BaseException:
            self.restore(before)
            raise
        self._refuse_bad_numbers(found, step)
        shape = (len(found.index), *table.weight.shape[1:])
        loss, apart, similarity, there = (
            values.reshape(shape)
            for values in (found.loss, found.disagreement, found.similarity, found.present)
        )
        alike = 0.0 if aim is None else aim.agreement
        evidence = self.score.evidence(Findings(similarity, loss, apart, alike, there > 0))
        table.update(found.index, evidence, self.score.rule, self.score.rate)
        figures = _figures(table)
        if aim is not None:
            # Classes add up to a sample, so that the figure means the same with and without them.
            whole = similarity.sum() / len(similarity)
            figures |= {"mean_similarity": whole.item(), "agreement": alike}
        else:
            similarity = torch.full_like(similarity, torch.nan)  # nobody asked
        table.note(found.index, similarity, loss, step)
        return Weighing(figures, found.notes)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the table."""
        return {} if self.search is None else self.search.mean.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        if self.search is not None:
            self.search.mean.restore(state)

    # ------------------------------------------------------------------ the strong side

    def _aim(
        self, search: Search, number: int, optimiser: Optimizer, check: Callable[[], None]
    ) -> _Aim:
        draws = self.strong.batch(number)
        every: dict[str, Tensor] = dict(self.network.named_parameters())
        params = {name: every[name] for name in search.names}
        gradient, alike = self._trusted(draws, params, check)
        mean = search.mean.add(gradient)
        check()
        batch = self._training_batch(draws, number)
        # In the precision of the parameters, not under autocast: similarities are small
        # differences, and forward mode under autocast fails in convolutions on the CPU.
        with own_precision(params):
            make = search.bend.make
            direction = make(self.objective, self.network, params, batch, optimiser)(mean)
        check()
        step = None
        if search.mode == "central":
            strong = self._losses_of_all(draws)
            step = find_step(strong, params, direction, inner(gradient, direction))
        said_nothing = search.bend.said_nothing(mean, direction)
        note = _BENDS_DOWN.format(search.bend.name) if said_nothing else ""
        return _Aim(search.mode, params, direction, alike, step, note)

    def _trusted(
        self, draws: list[Draw], params: Parameters, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], float]:
        """The mean gradient of the strong samples drawn, and how far two halves of them agree.

        The halves are of samples, not of draws: a sample drawn twice would agree with itself.
        """
        first = set(self.strong.strong[::2])
        halves = [[d for d in draws if (d.index in first) == one] for one in (True, False)]
        parts = [(len(half), self._passes(half, check)) for half in halves]
        return trusted_gradient(parts, params, len({draw.index for draw in draws}))

    def _passes(self, draws: list[Draw], check: Callable[[], None]) -> Iterator[LossesOf]:
        for batch in self._batches(draws):
            check()
            yield self.objective.losses_of(self.network, batch)

    def _losses_of_all(self, draws: list[Draw]) -> LossesOf:
        parts = [self.objective.losses_of(self.network, b) for b in self._batches(draws)]
        return lambda params: torch.cat([losses_of(params) for losses_of in parts])

    def _training_batch(self, draws: list[Draw], number: int) -> Batch:
        """Strong and weak samples in equal parts: the loss that bends is that of both."""
        half = max(self.chunk // 2, 1)
        (batch,) = self._batches([*draws[:half], *self.weak.draws(number)[:half]], size=2 * half)
        return batch

    # ------------------------------------------------------------------ the weak side

    def _ask(self, aim: _Aim | None, number: int, check: Callable[[], None]) -> _Answers:
        draws = self.weak.draws(number)
        found: list[Tensor] = []
        notes = {"" if aim is None else aim.note: None}
        error: LabelmendError | None = None
        places = list(range(self.processes.rank, len(draws), self.processes.world))
        # Shares differ by one sample: all processes must check equally often, or one waits.
        longest = -(-len(draws) // self.processes.world)
        for first in range(0, longest, self.chunk):
            check()
            part = places[first : first + self.chunk]
            if part and error is None:
                try:
                    (batch,) = self._batches([draws[place] for place in part])
                    rows, note = self._answers(aim, batch)
                    found.append(rows)
                    notes[note] = None
                except LabelmendError as caught:
                    error = caught
        self.processes.agree(error)
        whole = self._gathered(found, places, len(draws))
        index = torch.tensor([draw.index for draw in draws])
        said = tuple(note for note in notes if note)
        loss, apart, similarity, there = whole.flatten(1)
        return _Answers(index, loss, apart, similarity, there, said)

    def _gathered(self, found: list[Tensor], places: list[int], many: int) -> Tensor:
        """``(4, many, each)``, from what every process found for its share of the places."""
        mine = torch.cat(found, 1) if found else None
        each = self.processes.largest(0 if mine is None else mine.shape[2])
        whole = torch.zeros(4, many, each, dtype=torch.float64)
        if mine is not None:
            whole[:, places] = mine
        return self.processes.add(whole).cpu()

    def _answers(self, aim: _Aim | None, batch: Batch) -> tuple[Tensor, str]:
        """The four tensors of :class:`_Answers`, ``(4, batch, each)``, and a note."""
        judged_of = functools.partial(self.objective.judged_of, self.network, fit=self.score.fit)
        if aim is None:
            found = self._without_similarity(judged_of(batch))
        elif aim.mode == "cosine":  # each of its passes goes through all it is given
            found = _cosines(aim, [judged_of(one) for one in batch.split(1)])
        else:
            found = _found(aim, judged_of(batch))
        loss, apart = found.losses.reshape(2, len(batch), -1)
        similarity = found.similarity.reshape(2, len(batch), -1)[0]
        there = torch.ones_like(loss)
        if self.score.by_class:
            there = present(batch.label, batch.valid, loss.shape[1]).to(loss)
        return torch.stack([loss, apart, similarity, there]).cpu().double(), found.note

    def _without_similarity(self, of: LossesOf) -> Similarities:
        params = dict(self.network.named_parameters())
        with torch.no_grad(), own_precision(params):
            both = of(params)
        return Similarities(both, torch.zeros_like(both), "none")

    def _batches(self, draws: list[Draw], size: int | None = None) -> Iterator[Batch]:
        size = size or self.chunk
        for first in range(0, len(draws), size):
            part = draws[first : first + size]
            yield self.move(collate([self.samples[_bare(draw)] for draw in part]))

    def _refuse_bad_numbers(self, found: _Answers, step: int) -> None:
        numbers = (found.loss + found.disagreement + found.similarity).reshape(len(found.index), -1)
        bad = found.index[~torch.isfinite(numbers).all(1)].tolist()
        if bad:
            names = ", ".join(self.samples.data.samples[i].id for i in bad)
            raise NonFiniteError(
                f"the weight step at step {step} gave NaN or infinity; samples: {names}; "
                "lower optimiser.learning_rate or look at these files"
            )


_BENDS_DOWN = (
    "the loss bends downwards along the trusted gradient, where curvature {!r} leaves it as it is; "
    "gauss_newton does not"
)


def _found(aim: _Aim, of: LossesOf) -> Similarities:
    if aim.step is None:
        return exact_or_slow(of, aim.params, aim.direction)
    return along(aim.step, of, aim.params, aim.direction)


def _cosines(aim: _Aim, singles: list[LossesOf]) -> Similarities:
    found, cosines = [], []
    for of in singles:
        with torch.no_grad(), own_precision(aim.params):
            loss, apart = of(aim.params).reshape(2, -1)
        found.append(torch.stack([loss, apart]))
        losses_of = functools.partial(_first_half, of)
        cosines.append(gradient_cosine(losses_of, aim.params, aim.direction))
    cosine = torch.cat(cosines)
    both = torch.cat(found, 1).flatten()
    return Similarities(both, torch.cat([cosine, torch.zeros_like(cosine)]), "cosine")


def _first_half(of: LossesOf, params: Parameters) -> Tensor:
    both = of(params)
    return both[: len(both) // 2]


def _bare(draw: Draw) -> Draw:
    return Draw(draw.index, draw.key, augment=False)


def _figures(table: WeightTable) -> dict[str, float]:
    weights = table.weight[table.learns].flatten()
    return {
        "mean_weight": weights.mean().item(),
        "median_weight": statistics.median(weights.tolist()),
        "share_at_0": (weights <= 0).double().mean().item(),
        "share_at_1": (weights >= table.limits.highest).double().mean().item(),
    }
