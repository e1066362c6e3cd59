"""Which images are alike, and which are like no strong one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from labelmend.weighting.appearance import appearance, standardised

NEIGHBOURS = 9
"""Images that a label is held against; where there are hardly more in all, those are all."""

_AT_ONCE = 1024


@dataclass(frozen=True)
class Likeness:
    """Which images of weak labels are alike, and how strange they are beside those of strong ones.

    Attributes:
        features: ``(samples, features)``; what is near is alike.
        strange: ``(samples,)``, the share of strong images that are less far from the other
            strong ones than this image is from them; below 1.
    """

    features: Tensor
    strange: Tensor

    def take(self, which: Tensor) -> Likeness:
        """Those of some samples, by a mask or by places."""
        return Likeness(self.features[which], self.strange[which])

    def nearby(self, values: Tensor, share: float = 0.5) -> Tensor:
        """The median of ``(samples,)`` or ``(samples, classes)`` values over the nearest images.

        Another ``share`` of them than a half may be below. NaN is no value; where all are, the
        result is. A sample is no neighbour of its own, but where it is the only one.

        >>> likeness = Likeness(torch.tensor([[0.0], [0.1], [9.0]]), torch.zeros(3))
        >>> likeness.nearby(torch.tensor([1.0, 2.0, 3.0]))
        tensor([2., 1., 1.])
        """
        if len(values) < 2:
            return values
        return values[self._nearest].nanquantile(share, 1, interpolation="lower")

    @cached_property
    def _nearest(self) -> Tensor:
        """The images nearest to every one, ``(samples, neighbours)``: all values ask for them."""
        many = len(self.features)
        found = []
        for first in range(0, many, _AT_ONCE):
            apart = _distances(self.features[first : first + _AT_ONCE], self.features)
            apart.diagonal(first).fill_(math.inf)
            found.append(apart.topk(min(NEIGHBOURS, many - 1), largest=False).indices)
        return torch.cat(found)


def appearances(image: Tensor) -> Tensor:
    """What images look like, ``(batch, features)`` float64 on the CPU.

    Args:
        image: ``(batch, channels, *space)``.

    Source: :func:`labelmend.weighting.appearance.appearance`, with its trap.

    >>> appearances(torch.rand(3, 2, 8, 8)).shape
    torch.Size([3, 28])
    """
    single = image.detach().cpu().double().numpy()
    return torch.from_numpy(np.stack([appearance(one) for one in single]))


def likeness(weak: Tensor, strong: Tensor) -> Likeness:
    """How images of weak labels look beside each other and beside those of strong labels.

    Every feature is divided by its deviation over all images, so images times a number, or plus
    one, are as alike. How far an image is from the nearest strong one is compared with how far
    strong ones are from the nearest that is not the same. So among images like the strong ones all
    shares are about equally frequent, however few strong ones there are, as of one minus a
    conformal p-value (Vovk, Gammerman and Shafer 2005).

    Args:
        weak: ``(weak, features)``, from :func:`appearances`.
        strong: ``(strong, features)``, likewise.

    >>> likeness(torch.tensor([[2.5], [9.0]]), torch.tensor([[1.0], [2.0], [4.0]])).strange
    tensor([0.0000, 0.7500])
    """
    own, trusted = map(torch.from_numpy, standardised(weak.numpy(), strong.numpy()))
    between = _distances(trusted, trusted)
    usual = torch.where(between > 0, between, math.inf).amin(1)
    far = _distances(own, trusted).amin(1)
    nearer = (usual < far.unsqueeze(1)).sum(1)
    return Likeness(own, nearer.to(own) / (len(trusted) + 1))


def _distances(one: Tensor, other: Tensor) -> Tensor:
    # By a product of matrices, as it is done for many, images that are the same are apart.
    return torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
