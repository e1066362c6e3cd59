"""Averages of networks over training: steadier teachers than the networks themselves."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from labelmend.training.state import restore_network


class Averages:
    """An exponential average of every network, kept beside it (mean teacher: Tarvainen 2017).

    Args:
        networks: those to follow.
        keep: the share of itself that an average keeps at every step. Of the first steps it keeps
            less, ``(1 + step) / (10 + step)``: else it would teach what a network knew at random.

    The trap: buffers are copied, not averaged; an average of running variances is none.

    >>> network = nn.Linear(1, 1, bias=False)
    >>> averages = Averages({"main": network}, keep=0.9)
    >>> before = network.weight.detach().clone()
    >>> _ = nn.init.zeros_(network.weight)
    >>> averages.follow(step=1000)
    >>> torch.allclose(averages.networks["main"].weight, 0.9 * before)
    True
    """

    def __init__(self, networks: Mapping[str, nn.Module], keep: float) -> None:
        self.followed = dict(networks)
        self.keep = keep
        self.networks = {name: _still(network) for name, network in networks.items()}

    def join(self) -> None:
        """Move to where the networks are by now, and to their number type."""
        for name, network in self.followed.items():
            self.networks[name].to(next(network.parameters()))

    def follow(self, step: int) -> None:
        """Take a step after the networks, after their optimiser step ``step`` (from 1)."""
        keep = min(self.keep, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, network in self.followed.items():
                average = self.networks[name]
                for mean, latest in zip(average.parameters(), network.parameters(), strict=True):
                    mean.lerp_(latest, 1 - keep)
                for kept, now in zip(average.buffers(), network.buffers(), strict=True):
                    kept.copy_(now)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint must keep, as groups of tensors."""
        return {f"{name}_average": net.state_dict() for name, net in self.networks.items()}

    def restore(self, groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go back to a saved :meth:`state`, to the bit.

        Raises:
            RunError: when the groups are of other networks.
        """
        for name, network in self.networks.items():
            restore_network(network, f"{name}_average", groups.get(f"{name}_average", {}))


def _still(network: nn.Module) -> nn.Module:
    """A copy that nothing trains, and that predicts as in use: no dropout, running statistics."""
    return copy.deepcopy(network).requires_grad_(False).eval()
