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
        scores = torch.stack([network(image) for network in self.networks])
        if self.task == "regression":
            return scores.mean(0)
        # In logarithms throughout: a probability too small for its number type is still above 0.
        return F.log_softmax(scores, 2).logsumexp(0) - math.log(len(self.networks))
