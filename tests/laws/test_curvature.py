"""What every curvature product and every H⁻¹ g must obey, whatever the numbers."""

from __future__ import annotations

from itertools import pairwise

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from torch import nn
from torch.func import functional_call

from labelmend.losses import cross_entropy, dice_ce
from labelmend.weighting.curvature import conjugate_gradients, diagonal, neumann
from labelmend.weighting.products import gauss_newton_product, hessian_product

seeds = st.integers(0, 2**31)
dims = st.integers(1, 3)
kinds = st.sampled_from(["hessian", "gauss_newton"])
modes = st.sampled_from(["reverse", "forward"])
sizes = st.integers(2, 9)
factors = st.floats(-1e3, 1e3)


def make_product(kind, dims, mode, seed, loss=dice_ce):
    """A product of a small network, and a function that draws directions."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    network = nn.Sequential(conv(1, 2, 2), nn.PReLU(), conv(2, 3, 1)).double()
    params = {n: draw(*p.shape) for n, p in network.named_parameters()}
    space = (4,) * dims
    image = draw(2, 1, *space)
    inner = tuple(side - 1 for side in space)
    label = torch.randint(0, 3, (2, *inner), generator=generator)
    valid = torch.rand(2, *inner, generator=generator) < 0.9

    def logits_of(p):
        return functional_call(network, p, (image,))

    if kind == "hessian":
        product = hessian_product(lambda p: loss(logits_of(p), label, valid), params, mode)
    else:
        product = gauss_newton_product(
            logits_of, lambda z: cross_entropy(z, label, valid), params, mode
        )
    return product, lambda: {n: draw(*p.shape) for n, p in params.items()}


def flat(vector):
    return torch.cat([v.reshape(-1) for v in vector.values()])


def near(got, wanted, size):
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-10 * max(1.0, float(size)))


@settings(max_examples=40)
@given(kinds, dims, modes, seeds, factors, factors)
def test_products_are_linear(kind, dims, mode, seed, a, b):
    product, draw = make_product(kind, dims, mode, seed)
    u, v = draw(), draw()
    both = product({n: a * u[n] + b * v[n] for n in u})
    near(flat(both), a * flat(product(u)) + b * flat(product(v)), abs(a) + abs(b))


@settings(max_examples=40)
@given(kinds, dims, modes, seeds)
def test_products_are_symmetric(kind, dims, mode, seed):
    product, draw = make_product(kind, dims, mode, seed)
    u, v = draw(), draw()
    near(flat(u) @ flat(product(v)), flat(v) @ flat(product(u)), flat(product(u)).norm())


@settings(max_examples=40)
@given(kinds, dims, seeds)
def test_the_modes_agree(kind, dims, seed):
    forward, draw = make_product(kind, dims, "forward", seed)
    reverse, _ = make_product(kind, dims, "reverse", seed)
    v = draw()
    near(flat(forward(v)), flat(reverse(v)), flat(v).norm())


@settings(max_examples=40)
@given(dims, modes, seeds)
def test_gauss_newton_never_bends_down(dims, mode, seed):
    product, draw = make_product("gauss_newton", dims, mode, seed)
    v = draw()
    bent = flat(product(v))
    assert flat(v) @ bent >= -1e-12 * flat(v).norm() * bent.norm()


def make_matrix(size, seed, lowest):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    spread = torch.rand(size, generator=generator, dtype=torch.float64)
    values = lowest + (3 - lowest) * spread
    g = torch.randn(size, generator=generator, dtype=torch.float64)
    matrix = basis @ torch.diag(values) @ basis.T
    return matrix, {"w": g}, lambda v: {"w": matrix @ v["w"]}


@given(sizes, seeds)
def test_every_iteration_lowers_the_quadratic(size, seed):
    matrix, g, product = make_matrix(size, seed, 0.05)
    heights = [0.0]
    for iterations in range(1, size + 1):
        x = conjugate_gradients(product, iterations, damping=0.0)(g)["w"]
        heights.append(float(x @ matrix @ x / 2 - g["w"] @ x))
    bottom = -float(g["w"] @ torch.linalg.solve(matrix, g["w"])) / 2
    assert all(b <= a + 1e-9 * abs(bottom) for a, b in pairwise(heights))
    assert abs(heights[-1] - bottom) <= 1e-8 * abs(bottom)


@given(sizes, seeds, st.integers(1, 9), st.floats(-3, 1), st.floats(0, 1))
def test_the_solution_never_opposes_the_gradient(size, seed, iterations, lowest, damping):
    _, g, product = make_matrix(size, seed, lowest)
    x = conjugate_gradients(product, iterations, damping)(g)["w"]
    assert torch.isfinite(x).all()
    assert x @ g["w"] > 0


@given(sizes, seeds, st.integers(1, 9), st.floats(-3, 1))
def test_much_damping_leaves_the_gradient(size, seed, iterations, lowest):
    matrix, g, product = make_matrix(size, seed, lowest)
    x = conjugate_gradients(product, iterations, damping=1e9)(g)["w"]
    # up to the size of the top Ritz value, which never exceeds the top eigenvalue
    top = float(g["w"].norm() / (1e9 * x.norm()))
    assert top <= float(torch.linalg.eigvalsh(matrix).abs().max()) * (1 + 1e-9)
    torch.testing.assert_close(1e9 * top * x, g["w"], rtol=1e-7, atol=1e-7)
    v = {"w": g["w"].square()}
    x = diagonal(v, damping=1e9)(g)["w"]
    torch.testing.assert_close(1e9 * v["w"].sqrt().max() * x, g["w"], rtol=1e-7, atol=1e-7)


solvers = st.sampled_from([conjugate_gradients, neumann])


@given(solvers, sizes, seeds, st.floats(-3, 1), st.floats(1e-6, 1e6))
def test_it_grows_with_the_gradient(make, size, seed, lowest, factor):
    _, g, product = make_matrix(size, seed, lowest)
    x = make(product)(g)["w"]
    larger = make(product)({"w": factor * g["w"]})["w"]
    torch.testing.assert_close(larger, factor * x, rtol=1e-6, atol=1e-9 * factor)


@given(solvers, sizes, seeds, st.floats(0.05, 1), st.floats(1e-3, 1e3))
def test_it_shrinks_with_the_unit_of_the_loss(make, size, seed, lowest, factor):
    matrix, g, product = make_matrix(size, seed, lowest)
    x = make(product)(g)["w"]
    other = make(lambda v: {"w": factor * matrix @ v["w"]})(g)["w"]
    torch.testing.assert_close(other, x / factor, rtol=1e-6, atol=1e-9 / factor)


@given(solvers, st.integers(3, 9), seeds, st.data())
def test_how_parameters_are_cut_into_tensors_does_not_matter(make, size, seed, data):
    matrix, g, product = make_matrix(size, seed, 0.05)
    cut = data.draw(st.integers(1, size - 1))

    def in_parts(v):
        moved = matrix @ torch.cat([v["a"].reshape(-1), v["b"]])
        return {"a": moved[:cut].reshape(1, -1), "b": moved[cut:]}

    parts = {"a": g["w"][:cut].reshape(1, -1), "b": g["w"][cut:]}
    x = make(in_parts)(parts)
    assert x["a"].shape == parts["a"].shape
    torch.testing.assert_close(flat(x), make(product)(g)["w"], rtol=1e-9, atol=1e-9)
