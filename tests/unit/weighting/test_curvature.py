from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from labelmend.errors import NonFiniteError, SettingsError, ShapeError
from labelmend.losses import cross_entropy, dice_ce, l1
from labelmend.networks.build import build_network
from labelmend.weighting.curvature import (
    adam_second_moments,
    conjugate_gradients,
    diagonal,
    empirical_fisher,
    identity,
    neumann,
    top_eigenvalue,
)
from labelmend.weighting.gradients import exact, mean_gradient
from labelmend.weighting.products import gauss_newton_product, hessian_product

from . import oracle_curvature as oracle

EXACT = ("reverse", "forward")
MODES = (*EXACT, "difference")


class Case:
    """A network, a batch, and the functions that a curvature asks for."""

    def __init__(self, network, dims, seed=0, batch=2, side=4, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        space = (side,) * dims
        self.network = network.to(dtype).eval()
        self.image = torch.randn(batch, 1, *space, generator=generator, dtype=dtype)
        self.label = torch.randint(0, 3, (batch, *space), generator=generator)
        self.valid = torch.rand(batch, *space, generator=generator) > 0.2
        self.params = {n: p.detach() for n, p in self.network.named_parameters()}
        self.noise = {
            n: torch.randn(p.shape, generator=generator, dtype=dtype)
            for n, p in self.params.items()
        }
        self.calls = 0

    def logits_of(self, params):
        self.calls += 1
        return functional_call(self.network, params, (self.image,))

    def losses_of(self, params):
        return dice_ce(self.logits_of(params), self.label, self.valid)

    def loss_of_logits(self, logits):
        return cross_entropy(logits, self.label, self.valid)

    def hessian(self, mode="reverse"):
        return hessian_product(self.losses_of, self.params, mode)

    def gauss_newton(self, mode="reverse"):
        return gauss_newton_product(self.logits_of, self.loss_of_logits, self.params, mode)

    def gradient(self):
        return mean_gradient(self.losses_of, self.params)


def _small(dims, seed=0, dtype=torch.float64):
    """At most 60 parameters, smooth."""
    torch.manual_seed(seed)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    size = 3 if dims < 3 else 2
    network = nn.Sequential(conv(1, 2, size, padding="same"), nn.Tanh(), conv(2, 3, 1))
    assert sum(p.numel() for p in network.parameters()) <= 60
    return Case(network, dims, seed, side=(6, 4, 3)[dims - 1], dtype=dtype)


def _unet(dims, seed=0):
    side = (16, 8, 4)[dims - 1]
    return Case(build_network("unet", dims, 1, 3, width=2, depth=2, seed=seed), dims, seed, 2, side)


def _matrix(matrix):
    return lambda v: {"w": matrix @ v["w"]}


def _spd(size=6, seed=0, smallest=0.1):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return basis @ torch.diag(torch.linspace(smallest, 3, size, dtype=torch.float64)) @ basis.T


def _vector(size=6, seed=1):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _near(got, wanted, share):
    got = oracle.flat(got) if isinstance(got, dict) else got
    assert torch.linalg.vector_norm(got - wanted) <= share * torch.linalg.vector_norm(wanted)
    assert wanted.abs().max() > 0


# ---------------------------------------------------------------- products


@pytest.mark.parametrize(
    ("mode", "share"), [("reverse", 1e-9), ("forward", 1e-9), ("difference", 1e-6)]
)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_products_are_those_of_the_whole_matrices(dims, mode, share) -> None:
    case = _small(dims, seed=dims)
    noise = oracle.flat(case.noise)
    dense = oracle.loss_hessian(case.losses_of, case.params)
    _near(case.hessian(mode)(case.noise), dense @ noise, share)
    dense = oracle.gauss_newton(case.logits_of, case.loss_of_logits, case.params)
    _near(case.gauss_newton(mode)(case.noise), dense @ noise, share)


@pytest.mark.parametrize("mode", EXACT)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_products_of_a_unet(dims, mode) -> None:
    case = _unet(dims, seed=dims)
    leaves = {n: p.clone().requires_grad_() for n, p in case.params.items()}
    slopes = torch.autograd.grad(
        case.losses_of(leaves).mean(), list(leaves.values()), create_graph=True
    )
    along = sum((s * v).sum() for s, v in zip(slopes, case.noise.values(), strict=True))
    twice = torch.autograd.grad(along, list(leaves.values()), materialize_grads=True)
    _near(case.hessian(mode)(case.noise), torch.cat([t.reshape(-1) for t in twice]), 1e-9)
    dense = oracle.gauss_newton(case.logits_of, case.loss_of_logits, case.params)
    _near(case.gauss_newton(mode)(case.noise), dense @ oracle.flat(case.noise), 1e-9)


def test_gauss_newton_with_cross_entropy_is_that_of_the_softmax() -> None:
    case = _small(2)
    dense = oracle.softmax_gauss_newton(case.logits_of, case.valid, case.params)
    found = case.gauss_newton()(case.noise)
    _near(found, dense @ oracle.flat(case.noise), 1e-9)
    case.label = (case.label + 1) % 3
    other = case.gauss_newton()(case.noise)
    torch.testing.assert_close(other, found, rtol=1e-12, atol=1e-14)


def test_a_loss_without_curvature_gives_zero() -> None:
    case = _small(1)
    bent = gauss_newton_product(case.logits_of, lambda z: z.flatten(1).sum(1), case.params)
    assert not oracle.flat(bent(case.noise)).any()
    label = torch.full_like(case.logits_of(case.params), 7.0)
    flat = gauss_newton_product(case.logits_of, lambda z: l1(z, label, case.valid), case.params)
    assert not oracle.flat(flat(case.noise)).any()


@pytest.mark.parametrize("mode", MODES)
def test_a_parameter_that_is_not_used_has_no_curvature(mode) -> None:
    case = _small(1)
    params = case.params | {"idle": torch.ones(3, dtype=torch.float64)}
    direction = case.noise | {"idle": torch.ones(3, dtype=torch.float64)}

    def logits_of(p):
        return case.logits_of({n: v for n, v in p.items() if n != "idle"})

    def losses_of(p):
        return dice_ce(logits_of(p), case.label, case.valid)

    for product in (
        hessian_product(losses_of, params, mode),
        gauss_newton_product(logits_of, case.loss_of_logits, params, mode),
    ):
        found = product(direction)
        assert not found["idle"].any()
        assert found["0.weight"].any()


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("mode", MODES)
def test_a_product_changes_nothing_and_hangs_on_nothing(kind, mode) -> None:
    case = _small(2)
    before = {n: p.clone() for n, p in (case.params | {"v": case.noise["0.bias"]}).items()}
    with torch.no_grad():
        found = getattr(case, kind)(mode)(case.noise)
    usual = getattr(case, kind)(mode)(case.noise)
    assert torch.equal(oracle.flat(found), oracle.flat(usual))
    assert oracle.flat(found).any()
    assert list(found) == list(case.params)
    assert not any(v.requires_grad for v in found.values())
    for name, value in (case.params | {"v": case.noise["0.bias"]}).items():
        assert torch.equal(value, before[name])
        assert value.grad is None
        assert not value.requires_grad
    zero = {n: torch.zeros_like(v) for n, v in case.noise.items()}
    assert not oracle.flat(getattr(case, kind)(mode)(zero)).any()


@pytest.mark.parametrize("kind", ["hessian", "gauss_newton"])
@pytest.mark.parametrize("mode", MODES)
def test_a_product_follows_parameters_that_change_in_place(kind, mode) -> None:
    case = _small(1)
    product = getattr(case, kind)(mode)
    before = oracle.flat(product(case.noise))
    with torch.no_grad():
        case.params["0.weight"].mul_(2)
    after = oracle.flat(product(case.noise))
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, oracle.flat(getattr(case, kind)(mode)(case.noise)))


@pytest.mark.parametrize(
    ("kind", "mode", "first", "each"),
    [
        ("hessian", "reverse", 1, 0),
        ("hessian", "forward", 0, 1),
        ("hessian", "difference", 0, 2),
        ("gauss_newton", "reverse", 1, 0),
        ("gauss_newton", "forward", 1, 1),
        ("gauss_newton", "difference", 1, 2),
    ],
)
def test_how_often_the_network_is_run(kind, mode, first, each) -> None:
    case = _small(1)
    product = getattr(case, kind)(mode)
    assert case.calls == 0  # nothing is computed before it is asked for
    for count in (1, 2, 3):
        product(case.noise)
        assert case.calls == first + each * count


class OnlyReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * ctx.saved_tensors[0] * g


@pytest.mark.parametrize("mode", EXACT)
def test_an_operation_without_a_rule_is_named_with_a_way_out(mode) -> None:
    params = {"w": torch.tensor([2.0, 3.0], dtype=torch.float64)}

    def logits_of(p):
        return OnlyReverse.apply(p["w"])[:, None]

    def losses_of(p):
        return logits_of(p).squeeze(1)

    one = {"w": torch.ones(2, dtype=torch.float64)}
    with pytest.raises(SettingsError, match="mode='difference'"):
        hessian_product(losses_of, params, mode)(one)
    with pytest.raises(SettingsError, match="mode='difference'"):
        gauss_newton_product(logits_of, lambda z: z.squeeze(1) ** 2, params, mode)(one)
    _near(hessian_product(losses_of, params, "difference")(one), one["w"], 1e-6)
    found = gauss_newton_product(logits_of, lambda z: z.squeeze(1) ** 2, params, "difference")(one)
    _near(found, (2 * params["w"]) ** 2, 1e-6)


def test_other_errors_of_a_network_are_left_alone() -> None:
    def losses_of(p):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="^mine$"):
        hessian_product(losses_of, {"w": torch.ones(1)})({"w": torch.ones(1)})


@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_fit_is_refused(mode) -> None:
    params = {"w": torch.ones(2)}
    product = hessian_product(lambda p: (p["w"] ** 2).sum(), params, mode)
    with pytest.raises(ShapeError, match="one loss per sample"):
        product({"w": torch.ones(2)})
    with pytest.raises(ShapeError, match=r"'w' is \(3,\), the parameter \(2,\)"):
        product({"w": torch.ones(3)})
    with pytest.raises(ShapeError, match=r"'b' is \(1,\), the parameter missing"):
        product({"w": torch.ones(2), "b": torch.ones(1)})


def test_an_unknown_mode_and_a_difference_in_half_precision_are_refused() -> None:
    params = {"w": torch.ones(2, dtype=torch.bfloat16)}
    with pytest.raises(SettingsError, match="'reverse', 'forward' or 'difference', not 'exact'"):
        hessian_product(lambda p: p["w"], params, "exact")
    with pytest.raises(SettingsError, match="not 'exact'"):
        gauss_newton_product(lambda p: p["w"], lambda z: z, params, "exact")
    with pytest.raises(SettingsError, match="float32 or float64"):
        hessian_product(lambda p: p["w"] ** 2, params, "difference")(params)


# ---------------------------------------------------------------- conjugate gradients


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_as_many_iterations_as_parameters_solve_the_system(dims) -> None:
    case = _small(dims, seed=dims)
    gradient = case.gradient()
    dense = oracle.gauss_newton(case.logits_of, case.loss_of_logits, case.params)
    top = torch.linalg.eigvalsh(dense)[-1]
    damped = dense + 0.01 * top * torch.eye(len(dense), dtype=torch.float64)
    found = conjugate_gradients(case.gauss_newton(), len(dense))(gradient)
    assert list(found) == list(gradient)
    _near(found, torch.linalg.solve(damped, oracle.flat(gradient)), 1e-6)


@pytest.mark.parametrize("iterations", range(1, 7))
def test_every_iterate_is_that_of_the_textbook(iterations) -> None:
    matrix, g = _spd(12), _vector(12)
    found = conjugate_gradients(_matrix(matrix), iterations, damping=0.0)({"w": g})["w"]
    _near(found, oracle.conjugate_gradients(matrix, g, iterations), 1e-10)


def test_the_damping_is_a_share_of_the_top_ritz_value() -> None:
    matrix, g = _spd(12), _vector(12)
    top = top_eigenvalue(_matrix(matrix), {"w": g}, 4)
    damped = matrix + 0.5 * top * torch.eye(12, dtype=torch.float64)
    found = conjugate_gradients(_matrix(matrix), 4, damping=0.5)({"w": g})["w"]
    _near(found, oracle.conjugate_gradients(damped, g, 4), 1e-10)


def test_the_top_eigenvalue_comes_from_below() -> None:
    matrix, g = _spd(20), {"w": _vector(20)}
    found = [top_eigenvalue(_matrix(matrix), g, n) for n in range(1, 21)]
    assert all(a <= b + 1e-12 for a, b in pairwise(found))
    assert found[4] > 0.9 * 3
    assert found[-1] == pytest.approx(3, rel=1e-10)
    assert top_eigenvalue(_matrix(-matrix), g, 20) == pytest.approx(3, rel=1e-10)


def test_negative_curvature_stops_at_the_last_good_iterate() -> None:
    matrix = _spd(12)
    matrix = matrix - 0.6 * torch.eye(12, dtype=torch.float64)
    g = _vector(12)
    assert torch.linalg.eigvalsh(matrix)[0] < -0.4
    assert g @ matrix @ g > 0
    wanted = oracle.conjugate_gradients(matrix, g, 12)
    _near(conjugate_gradients(_matrix(matrix), 12, damping=0.0)({"w": g})["w"], wanted, 1e-9)
    whole = torch.linalg.solve(matrix, g)
    assert torch.linalg.vector_norm(wanted - whole) > 0.1 * torch.linalg.vector_norm(whole)


def test_negative_curvature_along_the_gradient_leaves_its_direction() -> None:
    matrix, g = -_spd(6), _vector(6)
    found = conjugate_gradients(_matrix(matrix), 1, damping=0.25)({"w": g})["w"]
    size = (g @ matrix @ g / (g @ g)).abs()
    _near(found, g / (size + 0.25 * size), 1e-12)


def test_a_real_hessian_with_negative_curvature_gives_what_the_textbook_gives() -> None:
    case = _small(2, seed=5)
    g = oracle.flat(case.gradient())
    dense = oracle.loss_hessian(case.losses_of, case.params)
    top = torch.linalg.eigvalsh(dense).abs().max()
    assert torch.linalg.eigvalsh(dense)[0] < -0.02 * top
    damped = dense + 0.01 * top * torch.eye(len(dense), dtype=torch.float64)
    found = conjugate_gradients(case.hessian(), len(dense))(case.gradient())
    _near(found, oracle.conjugate_gradients(damped, g, len(dense)), 1e-6)
    assert oracle.flat(found) @ g > 0


def test_it_stops_when_the_solution_is_exact() -> None:
    seen = []

    def product(v):
        seen.append(v)
        return {"w": torch.tensor([2.0, 2.0, 5.0, 5.0], dtype=torch.float64) * v["w"]}

    g = {"w": torch.ones(4, dtype=torch.float64)}
    found = conjugate_gradients(product, 50, damping=0.0)(g)["w"]
    torch.testing.assert_close(found, torch.tensor([0.5, 0.5, 0.2, 0.2], dtype=torch.float64))
    assert len(seen) == 2


def test_float32_is_near_float64() -> None:
    single, double = _small(2, dtype=torch.float32), _small(2)
    for name, value in double.params.items():
        value.copy_(single.params[name])
    double.image, double.label, double.valid = single.image.double(), single.label, single.valid
    found = conjugate_gradients(single.gauss_newton())(single.gradient())
    assert all(v.dtype == torch.float32 for v in found.values())
    wanted = conjugate_gradients(double.gauss_newton())(double.gradient())
    _near(oracle.flat(found).double(), oracle.flat(wanted), 1e-4)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e25])
def test_no_size_of_gradient_is_too_small_or_too_large(size) -> None:
    matrix, g = _spd(8).float(), _vector(8).float()
    for solve in (conjugate_gradients(_matrix(matrix)), neumann(_matrix(matrix))):
        _near(solve({"w": size * g})["w"] / size, solve({"w": g})["w"], 1e-5)


def test_half_precision_stays_half_precision() -> None:
    g = {"a": torch.tensor([1.0, 2.0]).bfloat16(), "b": torch.tensor([3.0])}
    for solve in (
        conjugate_gradients(lambda v: {n: 2 * x for n, x in v.items()}, damping=0.0),
        neumann(lambda v: {n: 2 * x for n, x in v.items()}),
    ):
        found = solve(g)
        assert found["a"].dtype == torch.bfloat16
        torch.testing.assert_close(found["a"].float(), torch.tensor([0.5, 1.0]))
        torch.testing.assert_close(found["b"], torch.tensor([1.5]))


# ---------------------------------------------------------------- Neumann


@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize("share", [0.1, 1.0, 1.9])
def test_the_series_is_its_own_sum(iterations, share) -> None:
    matrix, g = _spd(), _vector()
    scale = share / 3
    found = neumann(_matrix(matrix), iterations, scale)({"w": g})["w"]
    _near(found, oracle.neumann(matrix, g, iterations, scale), 1e-13)


@pytest.mark.parametrize("share", [0.5, 1.0, 1.9])
def test_the_series_converges_below_twice_the_inverse_of_the_top(share) -> None:
    matrix, g = _spd(), _vector()
    found = neumann(_matrix(matrix), 2000, share / 3)({"w": g})["w"]
    _near(found, torch.linalg.solve(matrix, g), 1e-9)


def test_without_a_scale_it_is_one_over_the_top_eigenvalue() -> None:
    case = _small(1)
    gradient = case.gradient()
    found = neumann(case.gauss_newton(), 10)(gradient)
    dense = oracle.gauss_newton(case.logits_of, case.loss_of_logits, case.params)
    scale = 1 / top_eigenvalue(case.gauss_newton(), gradient)
    _near(found, oracle.neumann(dense, oracle.flat(gradient), 10, scale), 1e-9)


def test_terms_that_grow_are_left_out() -> None:
    g = {"w": torch.tensor([1.0, 0.1], dtype=torch.float64)}
    matrix = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    lengths = [torch.linalg.vector_norm(torch.tensor([0.5**i, 0.1 * 1.5**i])) for i in range(9)]
    good = next(i for i in range(8) if lengths[i + 1] > lengths[i])
    assert 0 < good < 8
    found = neumann(_matrix(matrix), 100, scale=0.5)(g)["w"]
    _near(found, oracle.neumann(matrix, g["w"], good, 0.5), 1e-13)
    far = neumann(_matrix(_spd()), 500, scale=1e6)({"w": _vector()})["w"]
    _near(far, 1e6 * _vector(), 1e-12)


# ---------------------------------------------------------------- diagonals


def test_the_diagonal_divides_by_roots() -> None:
    g = {"a": torch.tensor([1.0, -2.0]), "b": torch.tensor([[3.0]])}
    v = {"a": torch.tensor([4.0, 0.0]), "b": torch.tensor([[16.0]])}
    found = diagonal(v, damping=0.5)(g)
    assert found["a"].tolist() == [0.25, -1.0]
    assert found["b"].tolist() == [[0.5]]
    assert v["a"].tolist() == [4.0, 0.0]
    assert diagonal(v, damping=0.0)(g)["a"].tolist() == [0.5, 0.0]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam])
def test_second_moments_are_free_of_start_up_bias(kind) -> None:
    network = nn.Linear(2, 1)
    optimiser = kind(network.parameters(), betas=(0.9, 0.8))
    average, generator = torch.zeros(1, 2), torch.Generator().manual_seed(0)
    for _ in range(3):
        gradient = torch.randn(1, 2, generator=generator)
        network.weight.grad, network.bias.grad = gradient, torch.full((1,), 2.0)
        optimiser.step()
        average = 0.8 * average + 0.2 * gradient**2
    found = adam_second_moments(optimiser, dict(network.named_parameters()))
    torch.testing.assert_close(found["weight"], average / (1 - 0.8**3))
    torch.testing.assert_close(found["bias"], torch.tensor([4.0]))
    found["weight"].zero_()
    assert optimiser.state[network.weight]["exp_avg_sq"].any()


def test_an_optimiser_without_second_moments_is_refused() -> None:
    network = nn.Linear(2, 1)
    params = dict(network.named_parameters())
    with pytest.raises(SettingsError, match="SGD keeps no mean squared gradient of 'weight'"):
        adam_second_moments(torch.optim.SGD(network.parameters(), lr=1), params)
    with pytest.raises(SettingsError, match="training step first"):
        adam_second_moments(torch.optim.Adam(network.parameters()), params)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_empirical_fisher_is_the_mean_square_over_samples(dims) -> None:
    case = _small(dims, seed=dims)
    gradient = case.gradient()
    squares = oracle.mean_square(case.losses_of, case.params)
    wanted = oracle.flat(gradient) / (squares + 0.1 * squares.max())
    _near(empirical_fisher([case.losses_of], case.params, damping=0.1)(gradient), wanted, 1e-12)

    def one(k):
        def losses_of(params):
            logits = functional_call(case.network, params, (case.image[k : k + 1],))
            return dice_ce(logits, case.label[k : k + 1], case.valid[k : k + 1])

        return losses_of

    singles = (one(k) for k in range(2))
    solve = empirical_fisher(singles, case.params, damping=0.1)
    _near(solve(gradient), wanted, 1e-12)
    _near(solve(gradient), wanted, 1e-12)  # the batches are gone through only once


def test_a_fisher_needs_single_losses_and_samples() -> None:
    params = {"w": torch.ones(2)}
    with pytest.raises(ShapeError, match="one loss per sample"):
        empirical_fisher([lambda p: p["w"].sum()], params)(params)
    with pytest.raises(ShapeError, match="at least one sample"):
        empirical_fisher([], params)(params)


# ---------------------------------------------------------------- all of them


def _all(case):
    return {
        "identity": identity,
        "diagonal": diagonal({n: v.square() for n, v in case.noise.items()}),
        "empirical_fisher": empirical_fisher([case.losses_of], case.params),
        "conjugate_gradients": conjugate_gradients(case.gauss_newton()),
        "conjugate_gradients_hessian": conjugate_gradients(case.hessian()),
        "neumann": neumann(case.gauss_newton()),
        "neumann_hessian": neumann(case.hessian()),
    }


EVERY = sorted(_all(_small(1)))


@pytest.mark.parametrize("name", EVERY)
def test_every_curvature_keeps_names_shapes_and_inputs(name) -> None:
    case = _small(2, seed=3)
    gradient = case.gradient()
    before = {n: v.clone() for n, v in gradient.items()}
    found = _all(case)[name](gradient)
    assert list(found) == list(gradient)
    for key, value in gradient.items():
        assert torch.equal(value, before[key])
        assert found[key].shape == value.shape
        assert found[key].dtype == value.dtype
        assert torch.isfinite(found[key]).all()
        assert not found[key].requires_grad
    assert oracle.flat(found) @ oracle.flat(gradient) > 0


@pytest.mark.parametrize("name", EVERY)
def test_no_gradient_gives_none(name) -> None:
    case = _small(1)
    zero = {n: torch.zeros_like(p) for n, p in case.params.items()}
    found = _all(case)[name](zero)
    assert not oracle.flat(found).any()
    assert list(found) == list(zero)


def test_no_curvature_at_all_gives_the_gradient() -> None:
    g = {"w": torch.tensor([1.0, -2.0])}
    none = {"w": torch.zeros(2)}
    for solve in (
        diagonal(none),
        diagonal(none, damping=0.0),
        empirical_fisher([lambda p: torch.ones(2) + 0 * p["w"]], none),
        conjugate_gradients(lambda v: none),
        conjugate_gradients(lambda v: none, damping=0.0),
        neumann(lambda v: none),
    ):
        assert solve(g)["w"].tolist() == [1.0, -2.0]


def test_the_cost_does_not_grow_with_the_number_of_weak_samples() -> None:
    counts = []
    for weak_batches in (1, 6):
        strong, weak = _small(1, seed=1), _small(1, seed=2)
        direction = conjugate_gradients(strong.gauss_newton())(strong.gradient())
        for _ in range(weak_batches):
            exact(weak.losses_of, strong.params, direction)
        counts.append(strong.calls)
    assert counts == [2, 2]  # the gradient and the graph of the products


def test_an_iteration_is_one_product() -> None:
    case, seen = _small(2), []
    inner = case.gauss_newton()

    def product(v):
        seen.append(v)
        return inner(v)

    conjugate_gradients(product, 5)(case.gradient())
    assert len(seen) == 5
    neumann(product, 7, scale=1e-3)(case.gradient())
    assert len(seen) == 5 + 7
    neumann(product, 7)(case.gradient())
    assert len(seen) == 5 + 7 + 7 + 5


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_bad_numbers_are_refused_by_name(bad) -> None:
    g = {"w": torch.ones(2)}
    broken = {"w": torch.tensor([1.0, bad])}
    for solve in (conjugate_gradients(lambda v: broken), neumann(lambda v: broken)):
        with pytest.raises(NonFiniteError, match="product is NaN or infinite in parameter 'w'"):
            solve(g)
    for solve in (conjugate_gradients(lambda v: v), neumann(lambda v: v), diagonal(g)):
        with pytest.raises(NonFiniteError, match="'w'"):
            solve(broken)
    with pytest.raises(NonFiniteError, match="squared gradients"):
        diagonal(broken)(g)
    with pytest.raises(NonFiniteError, match="squared gradients"):
        diagonal({"w": -g["w"]})(g)


def test_settings_that_cannot_be_are_refused() -> None:
    for number in (-1.0, torch.nan, torch.inf):
        with pytest.raises(SettingsError, match="not negative"):
            diagonal({}, damping=number)
        with pytest.raises(SettingsError, match="not negative"):
            empirical_fisher([], {}, damping=number)
        with pytest.raises(SettingsError, match="not negative"):
            conjugate_gradients(lambda v: {}, damping=number)
        with pytest.raises(SettingsError, match="not negative"):
            neumann(lambda v: {}, scale=number)
    with pytest.raises(SettingsError, match="above 0"):
        neumann(lambda v: {}, scale=0.0)
    for make in (conjugate_gradients, neumann):
        with pytest.raises(SettingsError, match="at least 1 iteration"):
            make(lambda v: {}, iterations=0)
    with pytest.raises(ShapeError, match="not zero"):
        top_eigenvalue(lambda v: v, {"w": torch.zeros(2)})


def test_a_gradient_of_other_parameters_is_refused() -> None:
    for solve in (
        diagonal({"w": torch.ones(2)}),
        empirical_fisher([lambda p: p["w"]], {"w": torch.ones(2)}),
    ):
        with pytest.raises(ShapeError, match="'b'"):
            solve({"b": torch.ones(2)})
        with pytest.raises(ShapeError, match=r"'w', \(3,\)"):
            solve({"w": torch.ones(3)})
