"""The trusted direction: how far its samples agree on it, and what was remembered of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.evidence import agreement
from labelmend.weighting.gradients import LossesOf, Parameters, mean_gradient_of


@dataclass(slots=True)
class FadingMean:
    """A fading average of g_S over weight steps, free of the bias of its start.

    Few strong samples, or a batch of them, give a gradient that is mostly chance; and as they are
    fitted it dies. An average keeps what the last ones had in common. The trap: it also lags
    behind, by ``1 / (1 - keep)`` weight steps.

    Attributes:
        keep: share of the average that stays at each step, from 0 (no memory) to below 1.
        mean: the average by name, before the correction; empty before the first.
        share: how much of it there is by now: ``1 - keep ** steps``.

    Raises:
        SettingsError: for a share that is not from 0 to below 1.

    >>> mean = FadingMean(keep=0.5)
    >>> mean.add({"w": torch.tensor([2.0])}), mean.add({"w": torch.tensor([8.0])})
    ({'w': tensor([2.])}, {'w': tensor([6.])})
    """

    keep: float
    mean: dict[str, Tensor] = field(default_factory=dict)
    share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.keep < 1:
            raise SettingsError(
                f"the share that is kept must be from 0 to below 1, not {self.keep}"
            )

    def add(self, gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take a gradient in; returns the average with it.

        Raises:
            ShapeError: when it has other names than the ones before.
        """
        if self.keep == 0:
            return dict(gradient)
        if self.mean and self.mean.keys() != gradient.keys():
            raise ShapeError(
                "gradients that are averaged must have the same names; the choice of parameters "
                "must stay as it was"
            )
        before = self.mean or {name: torch.zeros_like(value) for name, value in gradient.items()}
        self.mean = {
            name: self.keep * before[name].to(value) + (1 - self.keep) * value
            for name, value in gradient.items()
        }
        self.share = self.keep * self.share + 1 - self.keep
        return {name: value / self.share for name, value in self.mean.items()}

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint must keep; nothing where nothing is remembered."""
        if not self.mean:
            return {}
        share = torch.tensor(self.share, dtype=torch.float64)
        return {f"mean/{name}": value for name, value in self.mean.items()} | {"share": share}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        self.share = float(state.get("share", 0.0))
        self.mean = {
            name.removeprefix("mean/"): value.clone()
            for name, value in state.items()
            if name != "share"
        }


def trusted_gradient(
    halves: Sequence[tuple[int, Iterable[LossesOf]]], params: Parameters, different: int
) -> tuple[dict[str, Tensor], float]:
    """g_S, the mean gradient of all strong samples, and how far two halves of them agree.

    Args:
        halves: the number of samples of either half, and its batches.
        params: what is compared.
        different: how many different samples there are; few agreeing prove little.

    Raises:
        ShapeError: when there are no samples at all.

    The trap: a gradient of one sample has no second half, and an agreement of 0.

    >>> one, other = torch.tensor([1.0, 3.0]), torch.tensor([8.0])
    >>> halves = [(2, [lambda p: p["w"] * one]), (1, [lambda p: p["w"] * other])]
    >>> trusted_gradient(halves, {"w": torch.tensor(1.0)}, different=12)
    ({'w': tensor(4.)}, 0.75)
    """
    counts = [count for count, _ in halves if count]
    gradients = [mean_gradient_of(batches, params) for count, batches in halves if count]
    if not gradients:
        raise ShapeError("a trusted gradient needs at least one sample; there were none")
    if len(gradients) == 1:
        return gradients[0], 0.0
    one, other = gradients
    total = {n: (counts[0] * one[n] + counts[1] * other[n]) / sum(counts) for n in one}
    return total, agreement(one, other, different)
