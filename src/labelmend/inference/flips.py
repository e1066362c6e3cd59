"""Predict mirrored images too and take the mean; compute in half the bits."""

from __future__ import annotations

import math
from itertools import chain, combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelmend.types import Task


class Flipped(nn.Module):
    """A network that also sees its input mirrored along every axis: the mean of what it says.

    For segmentation the mean of probabilities, given as their logarithm, so that softmax gives it
    back; for regression the mean of the outputs. All ``2 ** dims`` mirror images are predicted, so
    it takes 2, 4 or 8 times as long. The trap: where direction means something, as in a recording,
    a mirrored image is another one, which the network never saw.

    >>> image = torch.randn(1, 2, 4, 6)
    >>> network = Flipped(nn.Conv2d(2, 2, 3, padding=1), "segmentation")
    >>> once, mirrored = network(image), network(image.flip(-1)).flip(-1)
    >>> torch.allclose(once, mirrored, atol=1e-6)
    True
    """

    def __init__(self, network: nn.Module, task: Task) -> None:
        super().__init__()
        self.network = network
        self.task = task

    def forward(self, image: Tensor) -> Tensor:
        """The mean prediction, ``(batch, scores, *space)``."""
        axes = range(2, image.ndim)
        mirrors = list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))
        total: Tensor | None = None
        for mirror in mirrors:
            scores = self.network(image.flip(mirror) if mirror else image)
            scores = scores.flip(mirror) if mirror else scores
            if self.task == "regression":
                total = scores if total is None else total + scores
                continue
            scores = F.log_softmax(scores.float(), 1)
            total = scores if total is None else torch.logaddexp(total, scores)
        if total is None:
            raise AssertionError("there is always the image itself")
        if self.task == "regression":
            return total / len(mirrors)
        return total - math.log(len(mirrors))


class HalfBits(nn.Module):
    """A network that computes in bfloat16 where that is safe, its parameters as they were.

    Quicker on GPUs and CPUs that have it; scores agree to two or three digits.

    >>> HalfBits(nn.Linear(2, 2))(torch.ones(1, 2)).dtype
    torch.float32
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """The network's output, float32."""
        with torch.autocast(image.device.type, dtype=torch.bfloat16):
            scores: Tensor = self.network(image)
        return scores.float()
