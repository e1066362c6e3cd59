"""Forward-mode rules of our own, each beside backward passes of single samples."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn import functional

from labelmend.weighting.forward_rules import FusedRules
from labelmend.weighting.gradients import exact, gradient_similarity

from . import oracle_gradients as oracle
from .oracle_gradients import off


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


PARTS = [["weight"], ["x"], ["x", "weight", "bias"]]


# Not a bias without a weight: torch's own backward pass fails there.
@pytest.mark.parametrize(
    ("moving", "affine"), [(p, a) for p in PARTS for a in (True, False)] + [(["bias"], True)]
)
def test_the_rule_of_group_normalisation_is_right_for_any_part(moving, affine) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, 2, generator=generator, dtype=torch.float64)
    params = {n: torch.randn(4, generator=generator, dtype=torch.float64) for n in moving}

    def losses_of(p):
        fixed = torch.arange(4.0, dtype=torch.float64) if affine else None
        image = x * p["x"].view(4, 1, 1) if "x" in p else x
        weight, bias = (p.get(n, fixed) for n in ("weight", "bias"))
        by_name = nn.functional.group_norm(image, 2, weight=weight, bias=bias, eps=1e-3)
        return (by_name + torch.group_norm(image, 1, weight, bias)).tanh().sum((1, 2, 3))

    direction = {n: torch.randn(4, generator=generator, dtype=torch.float64) for n in params}
    found = gradient_similarity(losses_of, params, direction)
    assert off(found, oracle.similarities(losses_of, params, direction)) <= 1e-10


CONVOLUTIONS = [
    (f"{name}{dims}d", dims) for name in ("conv", "conv_transpose") for dims in (1, 2, 3)
]


@pytest.mark.parametrize("moving", [*PARTS, ["bias"], ["weight", "bias"]])
@pytest.mark.parametrize(("kind", "dims"), CONVOLUTIONS)
def test_the_rule_of_convolutions_is_right_for_any_part(kind: str, dims: int, moving) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    image, fixed = draw(3, 4, *(5,) * dims), {"weight": draw(4, 4, *(3,) * dims), "bias": draw(4)}
    params = {n: fixed[n] if n in fixed else draw(4, *(1,) * dims) for n in moving}
    convolve = getattr(nn.functional, kind)

    def losses_of(p):
        x = image * p["x"] if "x" in p else image
        weight, bias = (p.get(n, fixed[n]) for n in fixed)
        by_place = convolve(x, weight, bias, 2)
        by_name = convolve(x, weight=weight, bias=bias, padding=1)
        without = convolve(x, weight)
        return sum(y.tanh().flatten(1).sum(1) for y in (by_place, by_name, without))

    direction = {n: draw(*p.shape) for n, p in params.items()}
    losses, found = exact(losses_of, params, direction)
    assert off(found, oracle.similarities(losses_of, params, direction)) <= 1e-10
    assert torch.equal(losses, losses_of(params))


@pytest.mark.parametrize("scales", [1, 4])
@pytest.mark.parametrize("moving", [["weight"], ["x"], ["x", "weight"]])
def test_the_rule_of_parametric_rectified_units_is_right_for_any_part(moving, scales) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 5, 2, generator=generator, dtype=torch.float64)
    if scales == 1:
        x[:, :, 0] = 0  # where training takes the lower slope, and torch's forward mode the upper
    fixed = torch.rand(scales, generator=generator, dtype=torch.float64)
    params = {n: {"weight": fixed, "x": torch.ones(4).double()}[n] for n in moving}

    def losses_of(p):
        image = x + p["x"].view(4, 1, 1) - 1 if "x" in p else x
        return nn.functional.prelu(image, p.get("weight", fixed)).square().sum((1, 2, 3)) + (
            torch.prelu(image, weight=p.get("weight", fixed)).sum((1, 2, 3))
        )

    direction = {n: torch.full_like(p, 0.7) for n, p in params.items()}
    found = gradient_similarity(losses_of, params, direction)
    assert off(found, oracle.similarities(losses_of, params, direction)) <= 1e-10


def test_group_normalisation_far_from_zero_is_right_in_float32() -> None:
    weight = torch.ones(4)
    x = 1000 + torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def losses_of(p):
        # In the number type of the parameters, so that the other one is the truth.
        image = x.to(p["x"]) * p["x"].view(4, 1, 1)
        normal = functional.group_norm(image, 2, p["weight"])
        return normal.tanh().sum((1, 2, 3))

    params = {"x": torch.ones(4), "weight": weight}
    direction = {"x": torch.tensor([1.0, -2.0, 0.5, 3.0]), "weight": weight}
    exactly = oracle.similarities(
        losses_of, *({n: v.double() for n, v in d.items()} for d in (params, direction))
    )
    # Of values a thousand deviations from 0 float32 keeps four digits, whatever the rule.
    assert off(gradient_similarity(losses_of, params, direction).double(), exactly) <= 1e-3


ACTIVATIONS = [
    *(lambda x, i, s=s: functional.leaky_relu(x, s, inplace=i) for s in (0.0, 0.01, 0.5)),
    lambda x, inplace: functional.relu(x, inplace=inplace),
    lambda x, inplace: nn.LeakyReLU(0.2, inplace)(x),
    lambda x, inplace: functional.leaky_relu(x, -0.5),  # not in place: torch refuses that itself
]


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("moving", [["w"], ["v"], ["w", "v"]])
def test_the_rules_of_rectified_units_are_right_for_any_part(act, inplace, moving) -> None:
    image, fixed = drawn(3, 4, 5), drawn(4, 1, seed=1)
    image[:, :, 0] = 0  # exactly between the slopes, as after another such unit
    params = dict.fromkeys(moving, fixed)

    def losses_of(p):
        before = image * p.get("w", fixed)
        after = act(before, inplace)
        # The one that was handed over is looked at again: in place, it has changed as well.
        return (after * p.get("v", fixed) + 0.3 * before).square().sum((1, 2))

    direction = {n: drawn(4, 1, seed=2) for n in moving}
    losses, found = exact(losses_of, params, direction)
    assert off(found, oracle.similarities(losses_of, params, direction)) <= 1e-10
    assert torch.equal(losses, losses_of(params))


def test_what_is_changed_in_place_is_changed_under_every_name() -> None:
    x, moved = drawn(2, 6), drawn(2, 6, seed=1)
    kept = x.clone(), moved.clone()
    with torch.no_grad(), forward_ad.dual_level(), FusedRules():
        dual = forward_ad.make_dual(x.clone(), moved.clone()) * 1
        half = dual[:, :3]
        found = functional.relu(half, inplace=True)
        value, slope = forward_ad.unpack_dual(dual)
        same = forward_ad.unpack_dual(found)
    assert torch.equal(value[:, :3], kept[0][:, :3].clamp(min=0))
    assert torch.equal(slope[:, :3], torch.where(kept[0][:, :3] > 0, kept[1][:, :3], 0))
    assert torch.equal(value[:, 3:], kept[0][:, 3:])
    assert torch.equal(slope[:, 3:], kept[1][:, 3:])
    assert torch.equal(same.primal, value[:, :3])
    assert torch.equal(same.tangent, slope[:, :3])


JOINED = [
    lambda a, b: torch.cat([a, b], 1),
    lambda a, b: torch.cat((b, a), dim=-1),
    lambda a, b: torch.concat([a, b], dim=1),
    lambda a, b: torch.concatenate([a, b], axis=2),
    lambda a, b: torch.cat([a, torch.ones(2, 3, 4), b], 1),  # of another number type
]


@pytest.mark.parametrize("join", JOINED)
@pytest.mark.parametrize("moving", [["w"], ["v"], ["w", "v"]])
def test_the_rule_of_joining_is_right_for_any_part(join, moving) -> None:
    one, other, fixed = drawn(2, 3, 4), drawn(2, 3, 4, seed=1), drawn(3, 1, seed=2)
    params = dict.fromkeys(moving, fixed)

    def losses_of(p):
        a = one * p["w"] if "w" in p else one
        b = other * p["v"] if "v" in p else other
        both = join(a, b)
        return (both * torch.arange(both[0].numel()).view_as(both[0])).tanh().sum((1, 2))

    direction = {n: drawn(3, 1, seed=3) for n in moving}
    found = gradient_similarity(losses_of, params, direction)
    assert off(found, oracle.similarities(losses_of, params, direction)) <= 1e-10


def test_a_slope_of_nothing_is_none() -> None:
    x = drawn(2, 4, 5)
    none = torch._efficientzerotensor((2, 4, 5), dtype=torch.float64)
    with torch.no_grad(), forward_ad.dual_level(), FusedRules():
        dual = forward_ad.make_dual(x.clone(), none)
        found = [
            functional.relu(dual, inplace=True),
            torch.cat([dual, dual], 1),
            functional.group_norm(dual, 2),
            functional.conv1d(dual, drawn(2, 4, 3)),
        ]
        slopes = [forward_ad.unpack_dual(one).tangent for one in found]
    assert not any(slope is not None and slope.any() for slope in slopes)


def test_without_anything_that_moves_rules_change_nothing() -> None:
    x, kernel = drawn(2, 4, 5), drawn(4, 4, 3)
    ways = [
        lambda: functional.conv1d(x, kernel),
        lambda: functional.group_norm(x, 2),
        lambda: functional.prelu(x, torch.tensor([0.2]).double()),
        lambda: functional.leaky_relu(x.clone(), 0.2, inplace=True),
        lambda: functional.relu(x),
        lambda: torch.cat([x, x], out=torch.empty(4, 4, 5, dtype=torch.float64)),
    ]
    with torch.no_grad():
        before = [way() for way in ways]
        with forward_ad.dual_level(), FusedRules():
            after = [way() for way in ways]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
