"""Networks and samples to measure similarities of gradients on, and the ways others take."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.func import grad, vmap

from labelmend.losses import dice_ce
from labelmend.networks.build import build_network
from labelmend.weighting.calls import call_with
from labelmend.weighting.choice import choose
from labelmend.weighting.cosine import with_lengths

TRAINED = 12
"""Steps of training before anything is measured: fresh networks flatter a central difference."""
CASES = {
    f"{network}-{dims}d-{side}": (network, dims, side, batch)
    for network in ("unet", "dynunet")
    for dims, side, batch in ((2, 64, 16), (2, 128, 8), (2, 256, 4), (3, 32, 4))
}


class Problem:
    """A network after a little training, weak and strong samples, and a direction."""

    def __init__(self, case: str, batch: int = 0, steps: int = TRAINED) -> None:
        name, self.dims, self.side, usual = CASES[case]
        self.batch = batch or usual
        self.generator = torch.Generator().manual_seed(0)
        self.network = build_network(name, self.dims, 1, 2, seed=0)
        self.weak, self.strong = self.draw(self.batch), self.draw(self.batch)
        self.train(steps)
        self.network.eval()
        self.params = choose(self.network)
        self.last = choose(self.network, "last", self.weak[0])
        self.decoder = choose(self.network, "decoder", self.weak[0])
        self.direction = {n: p.detach().clone() for n, p in self.params.items()}
        self.wrapped: dict[Any, Any] = {}

    def draw(self, count: int) -> tuple[Any, Any]:
        """Images of noisy squares with their labels."""
        label = torch.zeros(count, *(self.side,) * self.dims, dtype=torch.long)
        for number in range(count):
            first = torch.randint(0, self.side // 2, (self.dims,), generator=self.generator)
            label[(number, *(slice(f, f + self.side // 2) for f in first.tolist()))] = 1
        noise = torch.randn(label[:, None].shape, generator=self.generator)
        return label[:, None] + 0.7 * noise, label

    def train(self, steps: int) -> None:
        """A few steps on the strong samples."""
        optimiser = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        for _ in range(steps):
            self.losses_of(*self.strong)(dict(self.network.named_parameters())).mean().backward()
            optimiser.step()
            optimiser.zero_grad()

    def losses_of(self, image: Any, label: Any, network: Any = None) -> Callable[..., Any]:
        """The losses of some samples as a function of parameters."""
        valid = torch.ones_like(label, dtype=torch.bool)
        network = network or self.network

        def losses(params: Any) -> Any:
            return dice_ce(call_with(network, params, image), label, valid)

        return losses

    def part(self, names: Any) -> dict[str, Any]:
        """The direction in some of the parameters."""
        return {name: self.direction[name] for name in names}


@contextmanager
def frozen(network: Any) -> Iterator[None]:
    """Within it no parameter of a network keeps a graph, as one writes it for a part of them."""
    wanted = [p.requires_grad for p in network.parameters()]
    network.requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for parameter, want in zip(network.parameters(), wanted, strict=True):
            parameter.requires_grad_(want)


def loop(problem: Problem, params: Any = None) -> Any:
    """One forward and one backward pass for every sample alone: what one writes first."""
    params = problem.params if params is None else params
    leaves = {name: p.detach().clone().requires_grad_() for name, p in params.items()}
    found = []
    with frozen(problem.network):
        for number in range(problem.batch):
            of = problem.losses_of(*(t[number : number + 1] for t in problem.weak))
            gradients = torch.autograd.grad(of(leaves).sum(), list(leaves.values()))
            pairs = zip(leaves, gradients, strict=True)
            found.append(sum((problem.direction[n] * g).sum() for n, g in pairs))
    return torch.stack(found)


def lengths(problem: Problem, chunk: int) -> Any:
    """Similarities together with the lengths that a cosine needs, in chunks."""
    found = []
    for first in range(0, problem.batch, chunk):
        of = problem.losses_of(*(t[first : first + chunk] for t in problem.weak))
        found.append(with_lengths(of, problem.params, problem.direction)[1])
    return torch.cat(found)


def vmapped(problem: Problem, params: Any = None) -> Any:
    """All samples' gradients at once by torch.func."""
    params = {n: p.detach() for n, p in (problem.params if params is None else params).items()}

    def loss(values: Any, image: Any, label: Any) -> Any:
        return problem.losses_of(image[None], label[None])(values).sum()

    with frozen(problem.network):
        gradients = vmap(grad(loss), (None, 0, 0))(params, *problem.weak)
    return sum((gradients[n] * problem.direction[n]).flatten(1).sum(1) for n in params)


def opacus(problem: Problem, names: Any = None) -> Any:
    """All samples' gradients at once by hooks; not a dependency, measured where it is installed."""
    names = problem.params if names is None else names
    key = tuple(names)
    if key not in problem.wrapped:
        network = copy.deepcopy(problem.network)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in names)
        problem.wrapped[key] = _hooked(network)
    wrapped = problem.wrapped[key]
    image, label = problem.weak
    dice_ce(wrapped(image), label, torch.ones_like(label, dtype=torch.bool)).sum().backward()
    params = [(n, p) for n, p in wrapped._module.named_parameters() if n in names]
    found = sum((p.grad_sample * problem.direction[n]).flatten(1).sum(1) for n, p in params)
    wrapped.zero_grad()
    return found


def _hooked(network: Any) -> Any:
    """A network as Opacus needs it."""
    from opacus import GradSampleModule

    class EachLayerOnce(GradSampleModule):
        """DynUNet lists its blocks twice, and two hooks on one layer fail."""

        def iterate_submodules(self, module: Any) -> Any:
            return dict.fromkeys(super().iterate_submodules(module))

    warnings.filterwarnings("ignore", "Full backward hook is firing")  # of its own making
    for layer in network.modules():
        if hasattr(layer, "inplace"):
            layer.inplace = False
    # In training mode, or its hooks keep nothing; no layer here does anything else in it.
    return EachLayerOnce(network.train(), loss_reduction="sum")
