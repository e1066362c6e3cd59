"""What one network says of the weak labels whose turn it is, by gradients of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from labelmend.data.dataset import SampleDataset, collate
from labelmend.data.plan import Plan
from labelmend.errors import LabelmendError, NonFiniteError
from labelmend.losses import present
from labelmend.training.bend import Bend
from labelmend.training.objective import Objective
from labelmend.training.processes import Processes
from labelmend.training.turns import Turns
from labelmend.types import Batch, Draw, Loss
from labelmend.weighting.alike import appearances, likeness
from labelmend.weighting.ambient import own_precision
from labelmend.weighting.central import along, find_step
from labelmend.weighting.choice import evaluating
from labelmend.weighting.cosine import gradient_cosine
from labelmend.weighting.direction import FadingMean, trusted_gradient
from labelmend.weighting.evidence import Findings
from labelmend.weighting.fit import says_something
from labelmend.weighting.gradients import (
    LossesOf,
    Parameters,
    Similarities,
    exact_or_slow,
    inner,
)

Mode = Literal["exact", "central", "cosine"]
"""How similarities are found: one forward-mode pass, two forward passes, or one by one."""


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
class Case:
    """What is put before every judge: which samples, and what is asked of them.

    Samples are neither augmented nor mixed.

    Attributes:
        objective: whose loss has the gradients that are compared.
        samples: where draws are looked up.
        strong: plan that draws the strong samples of one weight step.
        weak: whose turn it is among the weak ones.
        chunk: samples per pass, and of the batch that the curvature is taken from.
        fit: how badly a label fits a prediction, shaped as the loss.
        by_class: whether loss and fit are a value for every class.
        processes: they share the weak samples out.
        move: puts a batch on the device in the networks' number type.
        alike: whether to find out which images are alike.
    """

    objective: Objective
    samples: SampleDataset
    strong: Plan
    weak: Turns
    chunk: int
    fit: Loss
    by_class: bool
    processes: Processes
    move: Callable[[Batch], Batch]
    alike: bool = False

    def batches(self, draws: list[Draw], size: int | None = None) -> Iterator[Batch]:
        """The samples of these draws, so many at a time; by default :attr:`chunk`."""
        size = size or self.chunk
        for first in range(0, len(draws), size):
            part = draws[first : first + size]
            yield self.move(collate([self.samples[_bare(draw)] for draw in part]))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge found out about the weak samples of a turn.

    Attributes:
        index: ``(judged,)`` places of the samples in the data set. Those of which nothing is
            valid in what was looked at are left out.
        found: of each of them, or of each of their classes; without similarities, those are 0.
        notes: what went otherwise than asked.
    """

    index: Tensor
    found: Findings
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Aim:
    """Where to look: the parameters compared and the direction, and how to find similarities."""

    mode: Mode
    params: dict[str, Tensor]
    direction: dict[str, Tensor]
    agreement: float
    similarities: Callable[[LossesOf], Similarities]
    note: str


@dataclass(frozen=True, slots=True)
class Judge:
    """One network in a weight step (seed A, ¶46–67): g_S, v = H⁻¹ g_S, g_kᵀ v for all weak samples.

    The network is in evaluation mode meanwhile. Every process computes g_S and v of all strong
    samples drawn (so that they are the same to the bit) and judges its share of the weak ones.
    The trap: each call takes g_S into the average of ``search``; whoever gives a weight step up
    must put that back by :meth:`restore`.

    Attributes:
        name: of the network.
        search: None where nobody asks for similarities.
    """

    name: str
    network: nn.Module
    search: Search | None
    case: Case

    def __call__(
        self, number: int, step: int, optimiser: Optimizer, check: Callable[[], None]
    ) -> Verdict:
        """The findings of weight step ``number`` (from 0) at a training step, on all processes.

        ``check`` is called between passes on all processes alike and may raise to give up.

        Raises:
            NonFiniteError: for NaN or infinity, naming the samples.
        """
        with evaluating(self.network):
            search = self.search
            aim = None if search is None else self._aim(search, number, optimiser, check)
            verdict = self._ask(aim, number, check)
        self._refuse_bad_numbers(verdict, step)
        return verdict

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep of this judge."""
        return {} if self.search is None else self.search.mean.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        if self.search is not None:
            self.search.mean.restore(state)

    # ------------------------------------------------------------------ the strong side

    def _aim(
        self, search: Search, number: int, optimiser: Optimizer, check: Callable[[], None]
    ) -> _Aim:
        draws = self.case.strong.batch(number)
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
            direction = make(self.case.objective, self.network, params, batch, optimiser)(mean)
        check()
        similarities = self._similarities(search.mode, draws, params, gradient, direction)
        said_nothing = search.bend.said_nothing(mean, direction)
        note = _BENDS_DOWN.format(search.bend.name) if said_nothing else ""
        return _Aim(search.mode, params, direction, alike, similarities, note)

    def _similarities(
        self,
        mode: Mode,
        draws: list[Draw],
        params: Parameters,
        gradient: Parameters,
        direction: Parameters,
    ) -> Callable[[LossesOf], Similarities]:
        """What gives the similarities of a batch; a central difference is checked here, once."""
        if mode != "central":
            return lambda losses_of: exact_or_slow(losses_of, params, direction)
        strong = self._losses_of_all(draws)
        step = find_step(strong, params, direction, inner(gradient, direction))
        return along(step, params, direction)

    def _trusted(
        self, draws: list[Draw], params: Parameters, check: Callable[[], None]
    ) -> tuple[dict[str, Tensor], float]:
        """The mean gradient of the strong samples drawn, and how far two halves of them agree.

        The halves are of samples, not of draws: a sample drawn twice would agree with itself.
        """
        first = set(self.case.strong.strong[::2])
        halves = [[d for d in draws if (d.index in first) == one] for one in (True, False)]
        parts = [(len(half), self._passes(half, check)) for half in halves]
        return trusted_gradient(parts, params, len({draw.index for draw in draws}))

    def _passes(self, draws: list[Draw], check: Callable[[], None]) -> Iterator[LossesOf]:
        for batch in self.case.batches(draws):
            check()
            yield self.case.objective.losses_of(self.network, batch)

    def _losses_of_all(self, draws: list[Draw]) -> LossesOf:
        parts = [self.case.objective.losses_of(self.network, b) for b in self.case.batches(draws)]
        return lambda params: torch.cat([losses_of(params) for losses_of in parts])

    def _training_batch(self, draws: list[Draw], number: int) -> Batch:
        """Strong and weak samples in equal parts: the loss that bends is that of both."""
        half = max(self.case.chunk // 2, 1)
        (batch,) = self.case.batches(
            [*draws[:half], *self.case.weak.draws(number)[:half]], size=2 * half
        )
        return batch

    # ------------------------------------------------------------------ the weak side

    def _ask(self, aim: _Aim | None, number: int, check: Callable[[], None]) -> Verdict:
        case = self.case
        draws = case.weak.draws(number)
        found: list[Tensor] = []
        looks: list[Tensor] = []
        notes = {"" if aim is None else aim.note: None}
        error: LabelmendError | None = None
        places = list(range(case.processes.rank, len(draws), case.processes.world))
        # Shares differ by one sample: all processes must check equally often, or one waits.
        longest = -(-len(draws) // case.processes.world)
        for first in range(0, longest, case.chunk):
            check()
            part = places[first : first + case.chunk]
            if part and error is None:
                try:
                    (batch,) = case.batches([draws[place] for place in part])
                    rows, note = self._answers(aim, batch)
                    found.append(rows)
                    looks += [appearances(batch.image).unsqueeze(0)] if case.alike else []
                    notes[note] = None
                except LabelmendError as caught:
                    error = caught
        case.processes.agree(error)
        whole = self._gathered(5, found, places, len(draws))
        told = (whole[4] > 0).any(1)
        read = self._read(whole[:4], aim).take(told)
        if case.alike:
            (weak,) = self._gathered(1, looks, places, len(draws))
            read = replace(read, likeness=likeness(weak[told], self._strong_looks(number)))
        index = torch.tensor([draw.index for draw in draws])
        return Verdict(index[told], read, tuple(note for note in notes if note))

    def _strong_looks(self, number: int) -> Tensor:
        """What the strong images look like that are drawn, one row for each."""
        drawn = {draw.index: draw for draw in self.case.strong.batch(number)}
        batches = self.case.batches(list(drawn.values()))
        return torch.cat([appearances(batch.image) for batch in batches])

    def _gathered(self, rows: int, found: list[Tensor], places: list[int], many: int) -> Tensor:
        """``(rows, many, each)``, from what every process found for its share of the places."""
        mine = torch.cat(found, 1) if found else None
        each = self.case.processes.largest(0 if mine is None else mine.shape[2])
        whole = torch.zeros(rows, many, each, dtype=torch.float64)
        if mine is not None:
            whole[:, places] = mine
        return self.case.processes.add(whole).cpu()

    def _read(self, whole: Tensor, aim: _Aim | None) -> Findings:
        rows = whole if self.case.by_class else whole.squeeze(2)
        loss, apart, similarity, there = rows
        alike = 0.0 if aim is None else aim.agreement
        return Findings(similarity, loss, apart, alike, there > 0)

    def _answers(self, aim: _Aim | None, batch: Batch) -> tuple[Tensor, str]:
        """Loss, disagreement, similarity, presence, and whether there is anything to judge by.

        Together ``(5, batch, each)``; and a note.
        """
        objective, fit = self.case.objective, self.case.fit
        judged_of = functools.partial(objective.judged_of, self.network, fit=fit)
        if aim is None:
            found = self._without_similarity(judged_of(batch))
        elif aim.mode == "cosine":  # each of its passes goes through all it is given
            found = _cosines(aim, [judged_of(one) for one in batch.split(1)])
        else:
            found = aim.similarities(judged_of(batch))
        loss, apart = found.losses.reshape(2, len(batch), -1)
        similarity = found.similarity.reshape(2, len(batch), -1)[0]
        there = torch.ones_like(loss)
        if self.case.by_class:
            there = present(batch.label, batch.valid, loss.shape[1]).to(loss)
        told = says_something(batch.label, batch.valid).to(loss).unsqueeze(1).expand_as(loss)
        return torch.stack([loss, apart, similarity, there, told]).cpu().double(), found.note

    def _without_similarity(self, of: LossesOf) -> Similarities:
        params = dict(self.network.named_parameters())
        with own_precision(params), torch.no_grad():
            both = of(params)
        return Similarities(both, torch.zeros_like(both), "none")

    def _refuse_bad_numbers(self, verdict: Verdict, step: int) -> None:
        found = verdict.found
        numbers = found.loss + found.disagreement + found.similarity
        whole = numbers.unsqueeze(-1).isfinite().flatten(1).all(1)
        bad = verdict.index[~whole].tolist()
        if bad:
            names = ", ".join(self.case.samples.name(i) for i in bad)
            raise NonFiniteError(
                f"the weight step at step {step} gave NaN or infinity; samples: {names}; "
                "lower optimiser.learning_rate or look at these files"
            )


_BENDS_DOWN = (
    "the loss bends downwards along the trusted gradient, where curvature {!r} leaves it as it is; "
    "gauss_newton does not"
)


def _cosines(aim: _Aim, singles: list[LossesOf]) -> Similarities:
    found, cosines = [], []
    for of in singles:
        with own_precision(aim.params), torch.no_grad():
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
