"""A network that speaks in the units of its labels, whatever these are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Rescaled(nn.Module):
    """A network whose output of mean 0 and deviation 1 becomes values of continuous labels.

    Networks begin near 0 and take small steps: grey levels up to 255 they would hardly reach. Mean
    and deviation belong to the network, so whatever it is exported to says values of labels too.

    Args:
        network: ``image -> (batch, channels, *space)``.
        mean: of each channel.
        deviation: of each channel; 0, of a channel that is the same everywhere, counts as 1.

    Trap: a loss of such an output has the units of the labels, and so do gradients; see
    :func:`labelmend.losses.units.in_deviations`.

    >>> network = Rescaled(nn.Identity(), mean=[100.0], deviation=[20.0])
    >>> network(torch.tensor([[[0.0, 1.0, -1.0]]]))
    tensor([[[100., 120.,  80.]]])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float], deviation: Sequence[float]
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        spread = torch.tensor([width or 1.0 for width in deviation], dtype=torch.float32)
        self.register_buffer("deviation", spread)

    def forward(self, image: Tensor) -> Tensor:
        """Values in the units of labels, ``(batch, channels, *space)``."""
        found: Tensor = self.network(image)
        over = (-1, *[1] * (found.ndim - 2))
        return found * self.deviation.view(over) + self.mean.view(over)


def rescaled(network: nn.Module, facts: Mapping[str, Any]) -> nn.Module:
    """The network in the units of labels where a run's facts say these, else as it is.

    >>> rescaled(nn.Identity(), {})
    Identity()
    """
    scale = facts.get("label_scale")
    return network if scale is None else Rescaled(network, scale["mean"], scale["deviation"])
