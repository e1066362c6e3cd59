"""Pack everything a training remembers into tensors and JSON, and unpack it to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from labelmend.errors import RunError

Groups = Mapping[str, Mapping[str, Tensor]]
"""Tensors by group and name, as a checkpoint has them."""


@dataclass(slots=True)
class Progress:
    """How far a training has come. Everything else it needs is a function of the step.

    Attributes:
        step: optimiser steps taken.
        pending: what is due after this step and not done yet, in order.
        best: the best validation figure so far.
        best_step: the step it was reached at.
        stale: validations since then.
        done: no further steps will be taken.
        figure: the latest validation figure.
        first: that of the first of two endings.
        first_best: the best one up to the end of the first, until one of the two is chosen.
        first_best_step: the step it was reached at.
    """

    step: int = 0
    pending: list[str] = field(default_factory=list)
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    done: bool = False
    figure: float | None = None
    first: float | None = None
    first_best: float | None = None
    first_best_step: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)


class Remembers(Protocol):
    """A part of a training that has to go on as it was: it keeps groups of tensors."""

    def state(self) -> Mapping[str, Tensor]:
        """What a checkpoint must keep."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go back to a saved :meth:`state`, to the bit."""
        ...


def pack_optimiser(optimiser: Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """An optimiser's memory by parameter name, for example ``"main.conv.weight/exp_avg"``."""
    packed: dict[str, Tensor] = {}
    for parameter, memory in optimiser.state.items():
        for key, value in memory.items():
            packed[f"{names[parameter]}/{key}"] = value
    return packed


def unpack_optimiser(
    optimiser: Optimizer, names: Mapping[Tensor, str], packed: Mapping[str, Tensor]
) -> None:
    """Give an optimiser back what :func:`pack_optimiser` took, and nothing that it learned since.

    Raises:
        RunError: when the memory belongs to other parameters.
    """
    memory: dict[str, dict[str, Tensor]] = {}
    for place, value in packed.items():
        name, _, key = place.rpartition("/")
        memory.setdefault(name, {})[key] = value
    unknown = set(memory) - set(names.values())
    if unknown:
        raise RunError(
            f"the checkpoint's optimiser knows parameters that the network lacks, such as "
            f"{min(unknown)!r}; it was written with another network"
        )
    for parameter, name in names.items():
        optimiser.state.pop(parameter, None)
        if name in memory:
            # The counter of steps stays where it was saved (on the CPU); the rest follows.
            optimiser.state[parameter] = {
                key: value.clone() if value.ndim == 0 else value.clone().to(parameter.device)
                for key, value in memory[name].items()
            }


def restore_network(network: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Load a network's parameters and buffers.

    Raises:
        RunError: when names or shapes differ, naming the first.
    """
    try:
        network.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise RunError(
            f"the checkpoint does not fit network {name!r}: {first[0].strip()}"
        ) from error
