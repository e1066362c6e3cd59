"""How much every sample counts: the update rules, and the table that remembers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labelmend.errors import NonFiniteError, unknown

UpdateRule = Callable[[Tensor, Tensor, float], Tensor]
"""``(weight, evidence, rate) -> weight``, each ``(samples,)``; the result lies in [0, 1]."""


def plain(weight: Tensor, evidence: Tensor, rate: float) -> Tensor:
    """γ_k ← γ_k + β g_Sᵀ H⁻¹ g_k, kept in [0, 1] (seed A, eq. 9, ¶40).

    The trap: similarities have no natural scale. They grow with the size of objects and shrink
    as the strong samples are fitted, so no rate suits a whole training.

    >>> plain(torch.tensor([0.5, 0.5]), torch.tensor([1.0, -9.0]), 0.1)
    tensor([0.6000, 0.0000])
    """
    return (weight + rate * evidence).clamp(0, 1)


def normalised(weight: Tensor, evidence: Tensor, rate: float) -> Tensor:
    """:func:`plain` with the evidence divided by its mean magnitude in this weight step.

    A sample of average evidence moves by ``rate``. The trap: when no sample is like the strong
    ones any more, noise is blown up to full size.

    >>> normalised(torch.tensor([0.5, 0.5]), torch.tensor([10.0, -30.0]), 0.1)
    tensor([0.5500, 0.3500])
    """
    scale = evidence.abs().mean()
    if scale == 0:
        return weight.clone()
    return plain(weight, evidence / scale, rate)


RULES: dict[str, UpdateRule] = {"normalised": normalised, "plain": plain}


def update_rule(name: str) -> UpdateRule:
    """The rule of a name.

    >>> update_rule("plan")
    Traceback (most recent call last):
    labelmend.errors.SettingsError: unknown update 'plan'; did you mean 'plain'?
    """
    if name not in RULES:
        raise unknown("update", name, RULES)
    return RULES[name]


@dataclass(slots=True)
class WeightTable:
    """Every sample's weight, by its place in the data set; strong samples stay at 1.

    Attributes:
        weight: ``(samples,)`` float64.
        similarity: ``(samples,)`` float64, the latest; NaN before the first.
        loss: ``(samples,)`` float64, the sample's own loss at its latest update; NaN before.
        updated: ``(samples,)`` int64, the training step of the latest update; -1 before.
        learns: ``(samples,)`` bool, True where the weight may change.

    >>> table = WeightTable.start(torch.tensor([True, False]), initial=0.5)
    >>> table.update(torch.tensor([1]), torch.tensor([2.0]), normalised, rate=0.1)
    >>> table.weight
    tensor([1.0000, 0.6000], dtype=torch.float64)
    """

    weight: Tensor
    similarity: Tensor
    loss: Tensor
    updated: Tensor
    learns: Tensor

    @classmethod
    def start(cls, strong: Tensor, initial: float) -> WeightTable:
        """A table in which weak samples begin at ``initial``; ``strong`` is ``(samples,)`` bool."""
        weight = torch.where(strong, 1.0, initial).to(torch.float64)
        unknown = torch.full_like(weight, torch.nan)
        never = torch.full(strong.shape, -1, dtype=torch.int64)
        return cls(weight, unknown, unknown.clone(), never, ~strong)

    def update(self, index: Tensor, evidence: Tensor, rule: UpdateRule, rate: float) -> None:
        """Move the weights of the samples at ``index``, ``(updated,)``, by a rule.

        Raises:
            NonFiniteError: when evidence is NaN or infinite; nothing has changed then.
        """
        if not torch.isfinite(evidence).all():
            bad = index[~torch.isfinite(evidence)].tolist()
            raise NonFiniteError(f"the evidence for samples {bad} is NaN or infinite")
        moved = rule(self.weight[index], evidence.to(self.weight), rate)
        self.weight[index] = torch.where(self.learns[index], moved, self.weight[index])

    def note(self, index: Tensor, similarity: Tensor, loss: Tensor, step: int) -> None:
        """Remember what the latest update of the samples at ``index`` rested on, and when."""
        self.similarity[index] = similarity.to(self.similarity)
        self.loss[index] = loss.to(self.loss)
        self.updated[index] = step

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must keep."""
        return {
            "weight": self.weight,
            "similarity": self.similarity,
            "loss": self.loss,
            "updated": self.updated,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        self.weight = state["weight"].clone()
        self.similarity = state["similarity"].clone()
        self.loss = state["loss"].clone()
        self.updated = state["updated"].clone()
