"""What the processes of one training tell each other, so that none waits for one that left."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import labelmend.errors
from labelmend.errors import LabelmendError

Thing = TypeVar("Thing")


class Processes:
    """All processes of a training, seen from one of them; with one process, nothing is sent."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank: int = fabric.global_rank
        self.world: int = fabric.world_size

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def add(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.world == 1:
            return tensor
        total: Tensor = self._fabric.all_reduce(tensor.clone(), reduce_op="sum")
        return total

    def largest(self, number: int) -> int:
        """The largest of one number per process."""
        if self.world == 1:
            return number
        tensor = torch.tensor(number, device=self._fabric.device)
        return int(self._fabric.all_reduce(tensor, reduce_op="max"))

    def gather(self, thing: Thing) -> list[Thing]:
        """Every process's thing, in order of rank."""
        if self.world == 1:
            return [thing]
        return [self._fabric.broadcast(thing, src=rank) for rank in range(self.world)]

    def from_first(self, thing: Thing) -> Thing:
        """The first process's thing, for all."""
        if self.world == 1:
            return thing
        shared: Thing = self._fabric.broadcast(thing, src=0)
        return shared

    @contextmanager
    def together(self) -> Generator[None]:
        """What one process does while the others only pass: all learn whether it worked.

        Raises:
            LabelmendError: on all processes what the body raised on any, as :meth:`agree` has it.
        """
        error: LabelmendError | None = None
        try:
            yield
        except LabelmendError as caught:
            error = caught
        self.agree(error)

    def agree(self, error: Exception | None) -> None:
        """Raise on all processes what went wrong on any, with the same words.

        Without this, one process would end and the others wait for its gradients for ever.
        """
        if self.world == 1:
            if error is not None:
                raise error
            return
        source = self.largest(0 if error is None else self.rank + 1)
        if source == 0:
            return
        told = None if error is None else (type(error).__name__, str(error))
        kind, text = self._fabric.broadcast(told, src=source - 1)
        if error is not None:
            raise error
        raise getattr(labelmend.errors, kind, LabelmendError)(f"process {source - 1}: {text}")


@contextmanager
def kept_local(fabric: Fabric, networks: Mapping[str, nn.Module], enabled: bool) -> Generator[None]:
    """Keep the gradients of all but the last part of a batch in this process."""
    with ExitStack() as stack:
        if enabled and fabric.world_size > 1:
            for network in networks.values():
                stack.enter_context(fabric.no_backward_sync(network))
        yield
