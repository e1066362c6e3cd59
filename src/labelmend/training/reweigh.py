"""The weight step: ask every judge about the weak labels whose turn it is, and move weights."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.optim import Optimizer

from labelmend.training.judge import Judge, Verdict
from labelmend.weighting.evidence import Evidence
from labelmend.weighting.rules import UpdateRule
from labelmend.weighting.weights import WeightTable


@dataclass(frozen=True, slots=True)
class Score:
    """How findings become moves.

    Attributes:
        evidence: what the findings say.
        rule: how far evidence moves a weight.
        rate: times this.
    """

    evidence: Evidence
    rule: UpdateRule
    rate: float


@dataclass(frozen=True, slots=True)
class Weighing:
    """What a weight step says of itself: figures for the log, and words where there is need."""

    figures: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reweigher:
    """Seed A's weight step (¶46–67): findings, evidence, update; one weight for every label.

    What moves a weight is the mean of all judges' evidence, each from findings of its own:
    similarities to different trusted directions have no common scale, evidence has.

    Attributes:
        judges: the main one first; figures and what the table notes are of its findings.
    """

    judges: tuple[Judge, ...]
    score: Score

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
        and averages are then as they were, and so they are after any other error.

        Raises:
            NonFiniteError: when any judge finds NaN or infinity, naming the samples.
        """
        before = self.state()
        try:
            verdicts = [judge(number, step, optimiser, check) for judge in self.judges]
            evidences = [self._evidence(verdict) for verdict in verdicts]
            evidence = torch.stack(evidences).mean(0)
            table.update(verdicts[0].index, evidence, self.score.rule, self.score.rate)
        except BaseException:
            self.restore(before)
            raise
        figures = _figures(table) | self._note(table, verdicts[0], step)
        if len(evidences) > 1:
            figures["judges_agree"] = _rank_correlation(*evidences[:2])
        notes = dict.fromkeys(note for verdict in verdicts for note in verdict.notes)
        return Weighing(figures, tuple(notes))

    def _evidence(self, verdict: Verdict) -> Tensor:
        found = verdict.found
        return self.score.evidence(found) if len(found.loss) else found.loss

    def _note(self, table: WeightTable, verdict: Verdict, step: int) -> dict[str, float]:
        """Write the main judge's findings into the table; returns its figures."""
        found, similarity, figures = verdict.found, verdict.found.similarity, {}
        if self.judges[0].search is None or not len(similarity):
            similarity = torch.full_like(similarity, torch.nan)  # nobody asked
        else:
            # Classes add up to a sample, so that the figure means the same with and without them.
            whole = similarity.sum() / len(similarity)
            figures = {"mean_similarity": whole.item(), "agreement": found.agreement}
        table.note(verdict.index, similarity, found.loss, step)
        return figures

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must keep besides the table: the main judge's under plain names."""
        main, *others = self.judges
        state = main.state()
        for judge in others:
            state |= {f"{judge.name}/{key}": value for key, value in judge.state().items()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        main, *others = self.judges
        left = dict(state)
        for judge in others:
            prefix = f"{judge.name}/"
            keys = [key for key in left if key.startswith(prefix)]
            judge.restore({key.removeprefix(prefix): left.pop(key) for key in keys})
        main.restore(left)


_NEAR = 1e-6
"""A weight so near an end counts as at it: several processes round otherwise than one does."""


def _figures(table: WeightTable) -> dict[str, float]:
    weights = table.weight[table.learns].flatten()
    return {
        "mean_weight": table.mean_of_weak,
        "median_weight": statistics.median(weights.tolist()),
        "share_at_0": (weights <= _NEAR).double().mean().item(),
        "share_at_1": (weights >= table.limits.highest - _NEAR).double().mean().item(),
    }


def _rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's; 0 where either has no order."""
    first, second = one.flatten().numpy(), other.flatten().numpy()
    if (first == first[:1]).all() or (second == second[:1]).all():
        return 0.0
    return float(spearmanr(first, second).statistic)
