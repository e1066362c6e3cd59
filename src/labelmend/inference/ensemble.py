"""Several networks predict as one: the mean of what they predict."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelmend.types import Task


class Ensemble(nn.Module):
    """The mean of several networks' predictions, in the form in which one network gives its own.

    For segmentation probabilities are averaged and their logarithm is returned, so that softmax
    gives the mean back and the largest score is the most probable class; for regression the
    outputs are averaged. Each network counts alike. The trap: a mean of scores would be another
    thing, in which the network with the larger ones has its way.

    Args:
        networks: from ``(batch, channels, *space)`` to ``(batch, scores, *space)`` each.
        task: what the scores are.

    >>> sure, not_so = nn.Conv1d(2, 2, 1), nn.Conv1d(2, 2, 1)
    >>> image = torch.randn(1, 2, 5)
    >>> both = Ensemble([sure, not_so], "segmentation")(image).softmax(1)
    >>> torch.allclose(both, (sure(image).softmax(1) + not_so(image).softmax(1)) / 2)
    True
    """

    def __init__(self, networks: Sequence[nn.Module], task: Task) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        """The mean prediction, ``(batch, scores, *space)``."""
        return _mean([network(image) for network in self.networks], self.task)


class Both(nn.Module):
    """Two networks asked for the same image: what one or both predict, then what each says.

    The first scores of the output are, to the last bit, those of the network that predicts, or of
    the :class:`Ensemble` of both; behind them stand the main and the auxiliary network's own,
    unless they are the first already.

    Args:
        main: from ``(batch, channels, *space)`` to ``(batch, classes, *space)``.
        auxiliary: likewise.
        model: which of them predicts.

    >>> main, auxiliary, image = nn.Conv1d(1, 2, 1), nn.Conv1d(1, 2, 1), torch.randn(1, 1, 5)
    >>> both = Both(main, auxiliary, "auxiliary")(image)
    >>> torch.equal(both[:, :2], auxiliary(image)), torch.equal(both[:, 2:], main(image))
    (True, True)
    """

    def __init__(self, main: nn.Module, auxiliary: nn.Module, model: str) -> None:
        super().__init__()
        self.main = main
        self.auxiliary = auxiliary
        self.model = model

    @property
    def parts(self) -> int:
        """How many times as many scores come out as there are classes."""
        return 3 if self.model == "ensemble" else 2

    def forward(self, image: Tensor) -> Tensor:
        """``(batch, parts * classes, *space)``."""
        said = [self.main(image), self.auxiliary(image)]
        if self.model == "ensemble":
            said = [_mean(said, "segmentation"), *said]
        return torch.cat(said[::-1] if self.model == "auxiliary" else said, 1)


def _mean(said: Sequence[Tensor], task: Task) -> Tensor:
    scores = torch.stack(list(said))
    if task == "regression":
        return scores.mean(0)
    # In logarithms throughout: a probability too small for its number type is still above 0.
    return F.log_softmax(scores, 2).logsumexp(0) - math.log(len(said))
