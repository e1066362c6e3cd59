from __future__ import annotations

import pytest
import torch
from torch.func import functional_call

from labelmend.errors import SettingsError, ShapeError
from labelmend.losses import dice_ce
from labelmend.networks.build import build_network
from labelmend.weighting.gradients import (
    gradient_similarity,
    loss_and_similarity,
    mean_gradient,
    mean_gradient_of,
)

from . import oracle_gradients as oracle


def _case(dims: int, batch: int, seed: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    network = build_network("unet", dims, 1, 3, width=4, depth=2, seed=seed).to(dtype).eval()
    space = (16,) * dims
    image = torch.randn(batch, 1, *space, generator=generator, dtype=dtype)
    label = torch.randint(0, 3, (batch, *space), generator=generator)
    valid = torch.rand(batch, *space, generator=generator) > 0.2
    params = {n: p.detach() for n, p in network.named_parameters()}

    def losses_of(values):
        return dice_ce(functional_call(network, values, (image,)), label, valid)

    return losses_of, params


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_one_pass_equals_a_loop_of_backward_passes(dims: int) -> None:
    losses_of, params = _case(dims, batch=3, seed=dims)
    direction = mean_gradient(losses_of, params)
    fast = gradient_similarity(losses_of, params, direction)
    slow = oracle.similarities(losses_of, params, direction)
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-12)


def test_float32_is_right_to_1e_5() -> None:
    losses_of, params = _case(2, batch=4, seed=9, dtype=torch.float32)
    direction = mean_gradient(losses_of, params)
    fast = gradient_similarity(losses_of, params, direction)
    slow = oracle.similarities(losses_of, params, direction)
    assert (fast - slow).abs().max() <= 1e-5 * slow.abs().max()


def test_mean_similarity_along_the_mean_gradient_is_its_squared_length() -> None:
    losses_of, params = _case(2, batch=4, seed=1)
    direction = mean_gradient(losses_of, params)
    length = sum((g * g).sum() for g in direction.values())
    mean = gradient_similarity(losses_of, params, direction).mean()
    torch.testing.assert_close(mean, length, rtol=1e-10, atol=0)


def test_batches_of_different_size_give_the_mean_over_samples() -> None:
    x = torch.arange(1.0, 8.0, dtype=torch.float64)

    def of(part):
        return lambda p: torch.exp(p["w"] * part)

    params = {"w": torch.tensor(0.1, dtype=torch.float64)}
    whole = mean_gradient(of(x), params)["w"]
    parts = mean_gradient_of([of(x[:2]), of(x[2:3]), of(x[3:])], params)["w"]
    torch.testing.assert_close(whole, parts, rtol=1e-14, atol=0)


def test_the_pass_that_gives_similarities_gives_the_losses_too() -> None:
    losses_of, params = _case(1, batch=3, seed=4)
    loss, _ = loss_and_similarity(losses_of, params, mean_gradient(losses_of, params))
    torch.testing.assert_close(loss, losses_of(params), rtol=0, atol=0)


def test_nothing_behind_the_function_changes() -> None:
    losses_of, params = _case(2, batch=2, seed=5)
    before = {n: p.clone() for n, p in params.items()}
    gradient_similarity(losses_of, params, mean_gradient(losses_of, params))
    for name, value in params.items():
        assert torch.equal(value, before[name])
        assert value.grad is None
        assert not value.requires_grad


def test_a_mean_is_refused() -> None:
    params = {"w": torch.ones(())}
    with pytest.raises(ShapeError, match="one loss per sample"):
        mean_gradient(lambda p: p["w"] * 2, params)


def test_an_operation_without_forward_rule_is_named_with_a_way_out() -> None:
    class OnlyReverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    def losses_of(p):
        return OnlyReverse.apply(p["w"]) * torch.ones(2)

    params = {"w": torch.ones(())}
    with pytest.raises((SettingsError), match="weighting.method"):
        gradient_similarity(losses_of, params, params)
