"""All that training steps change, as groups of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from labelmend.training.averages import Averages
from labelmend.training.state import Groups, pack_optimiser, restore_network, unpack_optimiser


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """All that steps change: networks, the optimiser's memory, averages of networks."""

    networks: Mapping[str, nn.Module]
    optimiser: Optimizer
    averages: Averages | None

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """It by groups, a network's under its name; not copies."""
        groups = {name: dict(network.state_dict()) for name, network in self.networks.items()}
        groups["optimiser"] = pack_optimiser(self.optimiser, self._names)
        return groups if self.averages is None else groups | self.averages.state()

    def restore(self, groups: Groups) -> None:
        """Go back to what :meth:`tensors` gave, to the bit.

        Raises:
            RunError: when it is of other networks.
        """
        self.restore_networks(groups)
        unpack_optimiser(self.optimiser, self._names, groups.get("optimiser", {}))
        if self.averages is not None:
            self.averages.restore(groups)

    def restore_networks(self, groups: Groups) -> None:
        """The networks alone."""
        for name, network in self.networks.items():
            restore_network(network, name, groups[name])

    @property
    def _names(self) -> dict[Tensor, str]:
        return {
            parameter: f"{name}.{key}"
            for name, network in self.networks.items()
            for key, parameter in network.named_parameters()
        }
