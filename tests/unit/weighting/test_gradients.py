from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.func import functional_call

from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.gradients import (
    exact,
    exact_or_slow,
    gradient_similarity,
    inner,
    mean_gradient,
    mean_gradient_of,
    slow,
)

from . import oracle_gradients as oracle
from .oracle_gradients import off
from .similarity_cases import WORKS, Case

# ---------------------------------------------------------------- exactness


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_one_pass_equals_a_loop_over_single_samples(name: str, dims: int) -> None:
    case = Case(name, dims)
    direction = mean_gradient(case.losses_of, case.params)
    losses, found = exact(case.losses_of, case.params, direction)
    assert off(found, oracle.alone(case.each(), case.params, direction)) <= 1e-10
    torch.testing.assert_close(losses, case.losses_of(case.params), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "dims"), WORKS)
def test_float32_is_right_to_1e_5(name: str, dims: int) -> None:
    case = Case(name, dims, dtype=torch.float32)
    direction = mean_gradient(case.losses_of, case.params)
    found = gradient_similarity(case.losses_of, case.params, direction)
    assert off(found, oracle.alone(case.each(), case.params, direction)) <= 1e-5


def test_any_direction_will_do() -> None:
    case = Case()
    direction = case.some_direction()
    found = gradient_similarity(case.losses_of, case.params, direction)
    assert off(found, oracle.alone(case.each(), case.params, direction)) <= 1e-10


def test_mean_similarity_along_the_mean_gradient_is_its_squared_length() -> None:
    case = Case(batch=4)
    direction = mean_gradient(case.losses_of, case.params)
    mean = gradient_similarity(case.losses_of, case.params, direction).mean().item()
    assert mean == pytest.approx(inner(direction, direction), rel=1e-10)


def test_batches_of_different_size_give_the_mean_over_samples() -> None:
    x = torch.arange(1.0, 8.0, dtype=torch.float64)

    def of(part):
        return lambda p: torch.exp(p["w"] * part)

    params = {"w": torch.tensor(0.1, dtype=torch.float64)}
    whole = mean_gradient(of(x), params)["w"]
    parts = mean_gradient_of([of(x[:2]), of(x[2:3]), of(x[3:])], params)["w"]
    torch.testing.assert_close(whole, parts, rtol=1e-14, atol=0)


def test_a_parameter_that_takes_no_part_adds_nothing() -> None:
    params = {"w": torch.ones(()), "idle": torch.ones(3)}
    x = torch.tensor([1.0, -3.0])
    for mode in (exact, slow):
        assert torch.equal(mode(lambda p: p["w"] * x, params, params)[1], x)
        assert torch.equal(mode(lambda p: x, params, params)[1], torch.zeros(2))
        idle = {"idle": params["idle"]}
        inside = torch.ones((), requires_grad=True)  # a parameter held fixed
        assert torch.equal(mode(lambda p, w=inside: w * x, idle, idle)[1], torch.zeros(2))


def test_nothing_behind_the_function_changes() -> None:
    case = Case()
    case.network = nn.Sequential(case.network, nn.BatchNorm2d(3).double()).eval()
    case.params = {n: p.detach() for n, p in case.network.named_parameters()}
    before = copy.deepcopy(case.network.state_dict())
    direction = mean_gradient(case.losses_of, case.params)
    for mode in (exact, slow):
        mode(case.losses_of, case.params, direction)
    assert before.keys() == case.network.state_dict().keys()
    assert all(torch.equal(v, before[n]) for n, v in case.network.state_dict().items())
    assert all(p.grad is None for p in case.network.parameters())
    assert not any(p.requires_grad for p in case.params.values())


# ---------------------------------------------------------------- what does not fit


def test_a_mean_is_refused() -> None:
    params = {"w": torch.ones(())}
    for refuses in (mean_gradient, lambda of, p: exact(of, p, p), lambda of, p: slow(of, p, p)):
        with pytest.raises(ShapeError, match="one loss per sample"):
            refuses(lambda p: p["w"] * 2, params)


@pytest.mark.parametrize("mode", [exact, slow])
def test_a_direction_of_other_names_or_shapes_is_refused(mode) -> None:
    params = {"w": torch.ones(2)}
    with pytest.raises(ShapeError, match="only one has: v, w"):
        mode(lambda p: p["w"], params, {"v": torch.ones(2)})
    with pytest.raises(ShapeError, match=r"'w' must be shaped \(2,\).*not \(3,\)"):
        mode(lambda p: p["w"], params, {"w": torch.ones(3)})


# ---------------------------------------------------------------- the slow way


@pytest.mark.parametrize(("name", "dims"), [("unet", 1), ("dynunet", 2), ("segresnet", 3)])
def test_the_slow_way_is_as_exact(name: str, dims: int) -> None:
    case = Case(name, dims)
    direction = mean_gradient(case.losses_of, case.params)
    losses, found = slow(case.losses_of, case.params, direction)
    assert off(found, oracle.alone(case.each(), case.params, direction)) <= 1e-10
    assert torch.equal(losses, case.losses_of(case.params))


class OnlyReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class Once(OnlyReverse):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


class WrongTwice(OnlyReverse):
    """Its backward pass leaves the tape, as hand-written kernels do."""

    @staticmethod
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g.detach()


def _custom(function):
    x = torch.tensor([[1.0, 2.0], [-1.0, 3.0], [0.5, 0.0]], dtype=torch.float64)
    params = {"w": torch.tensor([0.3, -0.7], dtype=torch.float64), "b": torch.ones(2).double()}
    return lambda p: function.apply(x * p["w"]).sum(1) + (x * p["b"]).sum(1), params


def _attention():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 5, 4, generator=generator)

    def losses_of(p):
        mixed = nn.functional.scaled_dot_product_attention(x * p["q"], x, x)
        return mixed.square().sum((1, 2, 3))

    return losses_of, {"q": torch.randn(4, generator=generator)}


def _recurrent():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    network = nn.LSTM(4, 3, batch_first=True)
    x = torch.randn(3, 6, 4, generator=generator)
    params = {n: p.detach() for n, p in network.named_parameters()}
    return lambda p: functional_call(network, p, (x,))[0].square().sum((1, 2)), params


def _resampled():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 1, 6, 6, generator=generator)
    at = torch.rand(3, 4, 4, 2, generator=generator) * 2 - 1

    def losses_of(p):
        moved = nn.functional.grid_sample(x * p["w"], at + p["shift"], align_corners=False)
        return moved.square().sum((1, 2, 3))

    return losses_of, {"w": torch.ones(()), "shift": torch.tensor([0.1, -0.05])}


WITHOUT_RULE = {
    "reverse only": lambda: _custom(OnlyReverse),
    "once": lambda: _custom(Once),
    "wrong twice": lambda: _custom(WrongTwice),
    "attention": _attention,
    "LSTM": _recurrent,
    "grid_sample": _resampled,
}


@pytest.mark.parametrize("kind", WITHOUT_RULE)
def test_an_operation_without_forward_rule_goes_the_slow_way_and_says_so(kind: str) -> None:
    losses_of, params = WITHOUT_RULE[kind]()
    direction = {n: torch.full_like(p, 0.5) for n, p in params.items()}
    found = exact_or_slow(losses_of, params, direction)
    assert found.mode == "slow"
    assert "forward" in found.note and "\n" not in found.note
    assert off(found.similarity, oracle.similarities(losses_of, params, direction)) <= 2e-6
    torch.testing.assert_close(found.losses, losses_of(params))


def test_an_operation_without_forward_rule_is_refused_with_a_way_out() -> None:
    losses_of, params = _custom(OnlyReverse)
    with pytest.raises(SettingsError, match="weighting.method") as caught:
        gradient_similarity(losses_of, params, params)
    assert "\n" not in str(caught.value)


def test_other_errors_of_the_network_are_not_hidden() -> None:
    params = {"w": torch.ones(2)}
    for mode in (exact, exact_or_slow, slow):
        with pytest.raises(RuntimeError, match="size of tensor"):
            mode(lambda p: p["w"] * torch.ones(3), params, params)


def test_with_a_rule_there_is_nothing_to_say() -> None:
    case = Case(dims=1)
    direction = mean_gradient(case.losses_of, case.params)
    found = exact_or_slow(case.losses_of, case.params, direction)
    assert (found.mode, found.note) == ("exact", "")
    assert torch.equal(
        found.similarity, gradient_similarity(case.losses_of, case.params, direction)
    )


# ---------------------------------------------------------------- surroundings


@pytest.mark.parametrize("mode", [exact, slow])
def test_ambient_autocast_changes_nothing(mode) -> None:
    case = Case(dtype=torch.float32)
    direction = mean_gradient(case.losses_of, case.params)
    plain = mode(case.losses_of, case.params, direction)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        direction_too = mean_gradient(case.losses_of, case.params)
        inside = mode(case.losses_of, case.params, direction)
        assert torch.is_autocast_enabled("cpu")
    assert all(torch.equal(a, b) for a, b in zip(plain, inside, strict=True))
    assert all(torch.equal(direction[n], direction_too[n]) for n in direction)


def test_autocast_of_the_losses_own_is_as_exact_as_half_precision() -> None:
    case = Case(dtype=torch.float32)
    direction = mean_gradient(case.losses_of, case.params)

    def half(values):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = functional_call(case.network, dict(values), (case.image,))
        return nn.functional.cross_entropy(logits.float(), case.label, reduction="none").mean(
            (1, 2)
        )

    right = oracle.similarities(half, case.params, direction)
    assert off(exact(half, case.params, direction)[1], right) <= 5e-2
    assert off(slow(half, case.params, direction)[1], right) <= 5e-2


@pytest.mark.parametrize("mode", [exact, slow])
def test_channels_last_gives_the_same(mode) -> None:
    case = Case("dynunet")
    direction = mean_gradient(case.losses_of, case.params)
    plain = mode(case.losses_of, case.params, direction)[1]
    case.network.to(memory_format=torch.channels_last)
    case.image = case.image.to(memory_format=torch.channels_last)
    params = {n: p.detach() for n, p in case.network.named_parameters()}
    assert off(mode(case.losses_of, params, direction)[1], plain) <= 1e-10


@pytest.mark.parametrize("mode", [exact, slow])
def test_a_compiled_network_gives_the_same(mode) -> None:
    case = Case(dims=1)
    direction = mean_gradient(case.losses_of, case.params)
    plain = mode(case.losses_of, case.params, direction)[1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own internals
        # The generator of machine code is torch's matter (and slow); what it is handed, is ours.
        compiled = torch.compile(case.network, backend="aot_eager")
        of = case.part(slice(None), compiled)
        params = {n: p.detach() for n, p in compiled.named_parameters()}
        along = {f"_orig_mod.{n}": v for n, v in direction.items()}
        of(params)
        assert off(mode(of, params, along)[1], plain) <= 1e-10


def test_dropout_in_evaluation_mode_is_as_none() -> None:
    case = Case(dropout=0.5)
    direction = mean_gradient(case.losses_of, case.params)
    first, again = (gradient_similarity(case.losses_of, case.params, direction) for _ in "ab")
    assert torch.equal(first, again)
    assert off(first, oracle.alone(case.each(), case.params, direction)) <= 1e-10
    case.network.train()
    different = gradient_similarity(case.losses_of, case.params, direction)
    assert off(different, first) > 1e-3  # else this test proves nothing
