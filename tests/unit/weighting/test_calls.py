"""A network called with other parameters, and left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from labelmend.errors import SettingsError
from labelmend.losses import cross_entropy, l2
from labelmend.types import Batch
from labelmend.weighting.calls import call_with, gauss_newton_of, losses_of
from labelmend.weighting.gradients import exact, mean_gradient

from .similarity_cases import WORKS, Case


class Tied(nn.Module):
    """One kernel in two layers, and one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv1d(2, 2, 1), nn.Conv1d(2, 2, 1)
        self.second.weight = self.first.weight
        self.third = self.again = nn.Conv1d(2, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.third(torch.tanh(self.again(torch.tanh(self.second(self.first(x))))))


def every_place(network: nn.Module) -> list[tuple[str, int]]:
    """What lies under every name, as the optimiser and as the layers see it."""
    named = [(n, id(p)) for n, p in network.named_parameters(remove_duplicate=False)]
    layers = dict(network.named_modules(remove_duplicate=False))
    seen = [
        (f"{path}.{name}", id(getattr(layer, name)))
        for path, layer in layers.items()
        for name in layer._parameters
    ]
    return [*named, *seen]


def scaled(network: nn.Module) -> tuple[dict[str, torch.Tensor], nn.Module]:
    """Other values for all parameters, and a copy of the network that has them for good."""
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9).add_(0.01)
    return {n: p.detach().clone() for n, p in other.named_parameters()}, other


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_every_network_is_called_and_left_as_it_was(name, dims) -> None:
    case = Case(name, dims, dtype=torch.float32)
    before = every_place(case.network)
    values, other = scaled(case.network)
    assert torch.equal(call_with(case.network, values, case.image), other(case.image))
    assert every_place(case.network) == before


def test_what_is_shared_is_replaced_wherever_it_is() -> None:
    network, image = Tied(), torch.randn(3, 2, 5)
    before = every_place(network)
    values, other = scaled(network)
    assert len(values) == 5
    assert torch.equal(call_with(network, values, image), other(image))
    assert every_place(network) == before


def test_the_gradient_of_what_is_shared_is_that_of_all_its_places() -> None:
    network = Tied()
    label = torch.randint(0, 2, (3, 5), generator=torch.Generator().manual_seed(1))
    batch = Batch(
        torch.randn(3, 2, 5), label, torch.ones_like(label, dtype=torch.bool), label[:, 0]
    )
    params = dict(network.named_parameters())
    found = mean_gradient(losses_of(network, cross_entropy, batch), params)
    cross_entropy(network(batch.image), batch.label, batch.valid).mean().backward()
    for name, parameter in network.named_parameters():
        assert torch.allclose(found[name], parameter.grad, atol=1e-7), name


@pytest.mark.parametrize("ours", [mean_gradient, lambda of, p: exact(of, p, p)])
def test_an_optimiser_still_moves_the_network_afterwards(ours) -> None:
    """Layers that are reached by two names once kept plain tensors, which nothing moves."""
    case = Case("dynunet", 2, dtype=torch.float32)
    label, valid = case.label.clamp(max=2), case.valid
    batch = Batch(case.image, label, valid, torch.arange(case.batch))
    ours(losses_of(case.network, cross_entropy, batch), dict(case.network.named_parameters()))
    optimiser = torch.optim.SGD(case.network.parameters(), lr=1.0)
    before = case.network(case.image).detach()
    cross_entropy(case.network(case.image), label, valid).mean().backward()
    assert all(p.grad is not None for p in case.network.parameters())
    optimiser.step()
    assert not torch.allclose(case.network(case.image), before)


def test_only_the_given_parameters_are_replaced() -> None:
    network, image = nn.Linear(2, 1), torch.tensor([[1.0, 1.0]])
    found = call_with(network, {"weight": torch.zeros(1, 2)}, image)
    assert torch.equal(found, network.bias.detach()[None])


def test_a_name_that_the_network_has_not_is_refused() -> None:
    with pytest.raises(SettingsError, match="unknown parameter 'weigth'; did you mean 'weight'"):
        call_with(nn.Linear(2, 1), {"weigth": torch.zeros(1)}, torch.zeros(1, 2))


@pytest.mark.parametrize("continuous", [False, True])
def test_gauss_newton_is_the_matrix_of_its_definition(continuous) -> None:
    """Jᵀ (∂²ℓ/∂z²) J by whole matrices, of a network with one layer."""
    network = nn.Conv1d(1, 2, 1).double()
    image = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    label = torch.tensor([[0, 1, 1], [1, 0, 1]])
    target = image.repeat(1, 2, 1) if continuous else label
    valid = torch.ones_like(label, dtype=torch.bool)
    params = dict(network.named_parameters())
    batch = Batch(image, target, valid, torch.arange(2))
    sizes = [p.numel() for p in params.values()]

    def predict(flat):
        parts = [
            v.reshape(p.shape) for v, p in zip(flat.split(sizes), params.values(), strict=True)
        ]
        return call_with(network, dict(zip(params, parts, strict=True)), image)

    here = torch.cat([p.detach().flatten() for p in params.values()])
    jacobian = torch.autograd.functional.jacobian(predict, here).reshape(-1, len(here))
    judge = l2 if continuous else cross_entropy
    bend = torch.autograd.functional.hessian(
        lambda z: judge(z.reshape(2, 2, 3), target, valid).mean(), predict(here).flatten()
    )
    matrix = jacobian.T @ bend @ jacobian
    along = torch.arange(1.0, len(here) + 1, dtype=torch.float64)
    given = [v.reshape(p.shape) for v, p in zip(along.split(sizes), params.values(), strict=True)]
    found = gauss_newton_of(network, params, batch)(dict(zip(params, given, strict=True)))
    flat = torch.cat([found[n].flatten() for n in params])
    assert torch.allclose(flat, matrix @ along, rtol=1e-10)
