"""How far evidence moves a weight, and what a weight may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from labelmend.errors import SettingsError, unknown

Memory = dict[str, Tensor]
"""What a rule keeps of every sample: tensors shaped like the weights, by name."""

UpdateRule = Callable[[Tensor, Memory], tuple[Tensor, Memory]]
"""``(evidence, memory) -> (move, memory)``, for the samples of one weight step.

γ ← γ + β · move. Nothing that is passed in changes; a rule that remembers nothing returns the
memory as it came.
"""

FADING = (0.9, 0.99)
"""How much of its averages :func:`adam` keeps from one update to the next."""

ROUNDING = 1e-6
"""Evidence that differs by less than this share of its size is equal: it comes from float32."""


def plain(evidence: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """The evidence itself: γ_k ← γ_k + β g_Sᵀ H⁻¹ g_k (seed A, eq. 9).

    The trap: similarities have no natural scale. They grow with the size of objects and shrink
    as the strong samples are fitted, so no rate suits a whole training.

    >>> plain(torch.tensor([1.0, -9.0]), {})[0]
    tensor([ 1., -9.])
    """
    return evidence, memory


def normalised(evidence: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """The evidence over its mean magnitude in this weight step.

    A sample of average evidence moves by the rate. The trap: when no sample is like the strong
    ones any more, noise is blown up to full size.

    >>> normalised(torch.tensor([10.0, -30.0]), {})[0]
    tensor([ 0.5000, -1.5000])
    """
    scale = evidence.abs().mean()
    return (evidence / scale if scale > 0 else torch.zeros_like(evidence)), memory


def centred(evidence: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """:func:`normalised` after the mean is taken away: what one label gains others lose.

    The mean weight stays where it began, up to what the limits cut off. Where all are judged
    alike, none moves. The trap: where all labels are good, half of them still lose.

    >>> centred(torch.tensor([30.0, 10.0]), {})[0]
    tensor([ 1., -1.])
    """
    apart = evidence - evidence.mean()
    # The mean of equal numbers is not quite that number, and what is left would be blown up.
    differ = apart.abs().mean() > ROUNDING * evidence.abs().mean()
    return normalised(torch.where(differ, apart, 0), memory)


def adam(evidence: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
    """Adam on γ: a fading mean of the evidence over the root of its fading mean square.

    Each label by itself moves by about the rate, as long as its evidence keeps its sign. Source:
    Kingma and Ba 2015, as the authors of the paper behind seed A later do. The trap: it knows
    signs and not sizes, so a label whose evidence is small but steady goes all the way.

    >>> adam(torch.tensor([10.0, -0.1]), {})[0].round(decimals=3)
    tensor([ 1., -1.])
    """
    zero = torch.zeros_like(evidence)
    first, second = FADING
    mean = first * memory.get("mean", zero) + (1 - first) * evidence
    square = second * memory.get("square", zero) + (1 - second) * evidence.square()
    count = memory.get("count", zero) + 1
    size = (square / (1 - second**count)).sqrt()
    move = torch.where(size > 0, mean / (1 - first**count) / size, 0)
    return move, {"mean": mean, "square": square, "count": count}


RULES: Mapping[str, UpdateRule] = {
    "adam": adam,
    "centred": centred,
    "normalised": normalised,
    "plain": plain,
}


def update_rule(name: str) -> UpdateRule:
    """The rule of a name.

    >>> update_rule("plan")
    Traceback (most recent call last):
    labelmend.errors.SettingsError: unknown update 'plan'; did you mean 'plain'?
    """
    if name not in RULES:
        raise unknown("update", name, RULES)
    return RULES[name]


@dataclass(frozen=True, slots=True)
class Limits:
    """What weights may be: from 0 to ``highest``, their mean in a band where one is given.

    Seed A keeps γ in [0, 1] (¶40); [0, 2] lets a label count for more than a strong one.

    Attributes:
        highest: 1 or 2 as a rule.
        mean: lowest and highest mean of the weights that learn; None leaves it free.

    Raises:
        SettingsError: for a band that no weights can be in.

    >>> Limits(highest=1.0, mean=(0.5, 0.5)).project(torch.tensor([0.0, 0.4]))
    tensor([0.3000, 0.7000])
    """

    highest: float = 1.0
    mean: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.highest < float("inf"):
            raise SettingsError(f"the highest weight must be above 0, not {self.highest:g}")
        if self.mean is not None and not 0 <= self.mean[0] <= self.mean[1] <= self.highest:
            raise SettingsError(
                f"the band of the mean weight must lie within 0 to {self.highest:g}, its lower "
                f"end first, not {list(self.mean)}"
            )

    def clamp(self, weight: Tensor) -> Tensor:
        """Each weight by itself brought into its range."""
        return weight.clamp(0, self.highest)

    def project(self, weight: Tensor) -> Tensor:
        """The nearest weights that keep both limits: all moved alike, then clamped.

        ``weight`` is all weights that learn; nothing but the limits moves them.
        """
        inside = self.clamp(weight)
        if self.mean is None or not inside.numel():
            return inside
        least, most = self.mean
        if inside.mean() < least:
            return self.clamp(weight + self._lifts(weight, least)[1])
        if inside.mean() > most:
            return self.clamp(weight + self._lifts(weight, most)[0])
        return inside

    def _lifts(self, weight: Tensor, wanted: float) -> tuple[float, float]:
        """Two neighbouring numbers: moved by the first the mean is not above, else not below."""
        low, high = -float(weight.max()), 2 * self.highest - float(weight.min())
        # The mean of clamped weights rises with the lift, after rounding too.
        while low < (middle := (low + high) / 2) < high:
            if self.clamp(weight + middle).mean() < wanted:
                low = middle
            else:
                high = middle
        return low, high
