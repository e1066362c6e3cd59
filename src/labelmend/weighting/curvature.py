"""H⁻¹ g: what the curvature of the training loss makes of the trusted gradient.

Each function here, :func:`identity` aside, makes a :data:`Curvature` from what it needs besides
the gradient. Make it anew for each weight step: it reads the parameters as they are then.

==============================  ====================================  =====================
function                        H                                     cost, training steps
==============================  ====================================  =====================
:func:`identity`                I                                     0
:func:`diagonal`                roots of the optimiser's moments      0.1
:func:`empirical_fisher`        mean squared gradient of a sample     1.4, one by one
:func:`conjugate_gradients` 5   Gauss–Newton / Hessian product        10–12 / 12–14
:func:`neumann` 20 (and 5)      Gauss–Newton / Hessian product        45–55 / 59–65
==============================  ====================================  =====================

A training step is one forward and one backward pass of the batch that the curvature is taken
from; no cost depends on how many weak samples there are. The figures were measured by
``benchmarks/bench_curvature.py``. ``damping`` is everywhere the share of the largest curvature
that is added to every curvature, so it knows no units. A gradient of zero gives zero, a curvature
of zero everywhere gives the gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache

import torch
from torch import Tensor

from labelmend.errors import NonFiniteError, SettingsError, ShapeError
from labelmend.weighting.ambient import derivable
from labelmend.weighting.gradients import LossesOf, Parameters
from labelmend.weighting.krylov import (
    flatten,
    largest_eigenvalue,
    largest_entry,
    refuse_bad_numbers,
    solve_damped,
    span,
    unflatten,
)
from labelmend.weighting.products import Product

Curvature = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""A gradient in, H⁻¹ times it out, by the same names; called once per weight step."""


def identity(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    """H⁻¹ ← I: the gradient itself (seed A, eq. 5).

    The trap: it believes that every parameter matters alike.

    >>> identity({"w": 1.0})
    {'w': 1.0}
    """
    return gradient


def diagonal(second_moments: Mapping[str, Tensor], damping: float = 0.01) -> Curvature:
    """H⁻¹ ← 1 / (√v + δ), v the optimiser's mean squared gradients; free.

    This is the H⁻¹ of the steps that the optimiser really takes: Adam moves against a sample by
    g_k / √v, so g_Sᵀ g_k / √v is what a step on sample k does for the strong ones. The root also
    halves the orders of magnitude between parameters; :func:`empirical_fisher` is the choice
    without the root.

    Args:
        second_moments: v by name; see :func:`adam_second_moments`.
        damping: δ as a share of the largest √v.

    Raises:
        SettingsError: for a damping that is negative or no number.
        ShapeError: when called with a gradient of other names or shapes.
        NonFiniteError: when the moments are NaN, infinite or negative.

    >>> diagonal({"w": torch.tensor([4.0, 0.0])}, damping=0.5)({"w": torch.tensor([3.0, 3.0])})
    {'w': tensor([1., 3.])}
    """
    _check(damping)

    def solve(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        _check_names(gradient, second_moments)
        return _divide(gradient, {n: v.detach().sqrt() for n, v in second_moments.items()}, damping)

    return solve


def adam_second_moments(optimiser: torch.optim.Optimizer, params: Parameters) -> dict[str, Tensor]:
    """Mean squared gradients by name from Adam, AdamW or a kin of theirs, free of start-up bias.

    That is ``exp_avg_sq / (1 − β₂^step)``, a copy. The trap: a parameter must be the very tensor
    that the optimiser holds, so hand in ``dict(network.named_parameters())``.

    Raises:
        SettingsError: when the optimiser keeps no such average or has not taken a step yet.

    >>> w = torch.nn.Parameter(torch.tensor(1.0))
    >>> adam = torch.optim.Adam([w])
    >>> w.grad = torch.tensor(3.0)
    >>> adam.step()
    >>> round(adam_second_moments(adam, {"w": w})["w"].item(), 4)
    9.0
    """
    group_of = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    found = {}
    for name, value in params.items():
        state = optimiser.state.get(value, {})
        if "exp_avg_sq" not in state:
            raise SettingsError(
                f"{type(optimiser).__name__} keeps no mean squared gradient of {name!r}; use Adam "
                "or AdamW and take a training step first, or choose another curvature"
            )
        beta = group_of[id(value)]["betas"][1]
        found[name] = state["exp_avg_sq"] / (1 - beta ** float(state["step"]))
    return found


def empirical_fisher(
    batches: Iterable[LossesOf], params: Parameters, damping: float = 0.01
) -> Curvature:
    """H⁻¹ ← 1 / (F + δ), F = (1/B) Σ_i g_i², the mean squared gradient of a single sample.

    A batch of b samples costs one forward and b backward passes of all of it, and the memory of
    one training step. So hand in batches of one sample: all of them together then cost about
    1.4 training steps, and the memory is that of one sample.

    The trap: for losses that are no log-likelihood, and close to a perfect fit, squared gradients
    are not curvature (Kunstner et al. 2019); they are a scale for each parameter, no more.

    Args:
        batches: functions of parameters that return ``(batch,)``, of whatever sizes; gone through
            once, when the curvature is first used.
        params: names and tensors; neither they nor anything behind ``batches`` change.
        damping: δ as a share of the largest entry of F.

    Raises:
        SettingsError: for a damping that is negative or no number.
        ShapeError: when called, if losses have been averaged already, there is no sample, or the
            gradient has other names or shapes than the parameters.
        NonFiniteError: when called, if a sample's gradient is NaN or infinite.

    >>> x = torch.tensor([1.0, 3.0])
    >>> solve = empirical_fisher([lambda p: p["w"] * x], {"w": torch.tensor(2.0)}, damping=0.0)
    >>> solve({"w": torch.tensor(10.0)})
    {'w': tensor(2.)}
    """
    _check(damping)
    squares = cache(lambda: _mean_square(batches, params))

    def solve(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        _check_names(gradient, params)
        return _divide(gradient, squares(), damping)

    return solve


def conjugate_gradients(product: Product, iterations: int = 5, damping: float = 0.01) -> Curvature:
    """(H + δ)⁻¹ g by conjugate gradients, δ a share of the top eigenvalue of H.

    The iterates are those of conjugate gradients, found in Lanczos's form: the products that
    span the solution also give the top eigenvalue (the largest magnitude among the Ritz values,
    never above the true one and close to it after a few iterations). So the cost is that of
    ``iterations`` products, the damping included.

    Where H + δ has negative curvature, as a Hessian may, the solution stops at the last iterate
    before it showed (truncated Newton). If that is along g itself, the result is
    g / (abs(gᵀ H g / gᵀ g) + δ): the direction of g, as long as the size of its curvature says.

    Memory: one copy of the parameters for each iteration. Source: seed A, eq. 4; Martens 2010.

    Args:
        product: see :mod:`labelmend.weighting.products`.
        iterations: products at most; fewer if the solution is exact before.
        damping: δ as a share of the top eigenvalue.

    Raises:
        SettingsError: for fewer than one iteration or a damping that is negative or no number.
        NonFiniteError: when called, if a product is NaN or infinite.

    >>> bowl = lambda v: {"w": torch.tensor([2.0, 8.0]) * v["w"]}
    >>> solve = conjugate_gradients(bowl, iterations=2, damping=0.0)
    >>> [round(x, 4) for x in solve({"w": torch.tensor([1.0, 1.0])})["w"].tolist()]
    [0.5, 0.125]
    """
    _check(damping, iterations)

    def solve(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        if largest_entry(_checked(gradient)) == 0:
            return _copy(gradient)
        solution = solve_damped(span(product, gradient, iterations), damping)
        return refuse_bad_numbers(unflatten(gradient, solution), "the solution")

    return solve


def neumann(product: Product, iterations: int = 20, scale: float | None = None) -> Curvature:
    """H⁻¹ g ≈ s Σ_{i=0}^{n} (I − s H)^i g: as if n + 1 steps of gradient descent were unrolled.

    It converges to H⁻¹ g for positive definite H and s < 2 / λ_max, slowly along flat directions,
    where the sum stops at n + 1 times s: that is its damping. The cost is that of
    ``iterations`` products, and of five more to find a scale.

    Along negative curvature, or with too large a scale, the terms grow, and once they grow they
    never shrink again; the sum stops before the first term that is longer than the one before.
    Source: Lorraine et al. 2020, algorithm 3.

    Args:
        product: see :mod:`labelmend.weighting.products`.
        iterations: n, products at most.
        scale: s; None takes 1 / λ_max, with λ_max from five further products.

    Raises:
        SettingsError: for fewer than one iteration or a scale that is not positive.
        NonFiniteError: when called, if a product is NaN or infinite.

    >>> bowl = lambda v: {"w": 2 * v["w"]}
    >>> neumann(bowl, iterations=3, scale=0.25)({"w": torch.tensor(1.0)})
    {'w': tensor(0.4688)}
    """
    _check(0.0 if scale is None else scale, iterations)
    if scale == 0:
        raise SettingsError("the scale of a Neumann series must be above 0; None finds one")

    def solve(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
        peak = largest_entry(_checked(gradient))
        if peak == 0:
            return _copy(gradient)
        top = 1 / scale if scale else top_eigenvalue(product, gradient)
        if top == 0:
            return _copy(gradient)
        total = sum(_terms(product, gradient, iterations, 1 / top), start=torch.zeros(()))
        return refuse_bad_numbers(unflatten(gradient, peak / top * total), "the sum")

    return solve


def top_eigenvalue(product: Product, start: Parameters, iterations: int = 5) -> float:
    """The size of the largest eigenvalue of a symmetric product, from below, by Lanczos.

    The largest magnitude among the Ritz values of ``iterations`` products, begun at ``start``.
    The trap: a start that is orthogonal to the top eigenvector never finds it.

    >>> bowl = lambda v: {"w": torch.tensor([2.0, 8.0]) * v["w"]}
    >>> round(top_eigenvalue(bowl, {"w": torch.tensor([1.0, 1.0])}), 4)
    8.0
    """
    if largest_entry(start) == 0:
        raise ShapeError("the search for the top eigenvalue needs a start that is not zero")
    return largest_eigenvalue(span(product, start, iterations).matrix)


# ---------------------------------------------------------------- what they are made of


def _divide(
    gradient: Mapping[str, Tensor], curvature: Mapping[str, Tensor], damping: float
) -> dict[str, Tensor]:
    if not all(bool((torch.isfinite(c) & (c >= 0)).all()) for c in curvature.values()):
        raise NonFiniteError(
            "the squared gradients must be finite and at least 0; lower optimiser.learning_rate"
        )
    added = damping * max((float(c.max()) for c in curvature.values() if c.numel()), default=0.0)
    if not any(c.any() for c in curvature.values()):
        return _copy(gradient)
    # Where curvature and damping are 0 no sample had a gradient: there is nothing to divide.
    divided = {
        name: torch.where(curvature[name] + added > 0, g / (curvature[name] + added), 0).to(g)
        for name, g in gradient.items()
    }
    return refuse_bad_numbers(divided, "the quotient")


def _mean_square(batches: Iterable[LossesOf], params: Parameters) -> dict[str, Tensor]:
    total = {name: torch.zeros_like(value, requires_grad=False) for name, value in params.items()}
    count = 0
    for losses_of in batches:
        for gradient in _sample_gradients(losses_of, params):
            count += 1
            for square, g in zip(total.values(), gradient, strict=True):
                if g is not None:
                    square.addcmul_(g, g)
    if count == 0:
        raise ShapeError("an empirical Fisher needs at least one sample; there were none")
    return {name: square / count for name, square in total.items()}


def _sample_gradients(
    losses_of: LossesOf, params: Parameters
) -> Iterator[tuple[Tensor | None, ...]]:
    with derivable(), torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        losses = losses_of(leaves)
        single = losses.unbind() if losses.ndim else ()
    if losses.ndim != 1:
        raise ShapeError(
            f"one loss per sample is needed, shaped (batch,), not {tuple(losses.shape)}; "
            "do not average inside the loss"
        )
    inputs = list(leaves.values())
    for loss in single:
        with derivable():
            found = torch.autograd.grad(loss, inputs, retain_graph=True, allow_unused=True)
        yield found


def _terms(
    product: Product, gradient: Parameters, iterations: int, step: float
) -> Iterator[Tensor]:
    """(I − s H)^i g over the largest entry of g, flat, as long as they do not grow."""
    term = flatten(gradient) / largest_entry(gradient)
    length = float(torch.linalg.vector_norm(term))
    slack = 1 + 10 * torch.finfo(term.dtype).eps
    yield term
    for _ in range(iterations):
        moved = refuse_bad_numbers(product(unflatten(gradient, term)), "a curvature product")
        term = term - step * flatten(moved)
        last, length = length, float(torch.linalg.vector_norm(term))
        if not length <= slack * last:
            return
        yield term


def _copy(gradient: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in gradient.items()}


def _checked(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    return refuse_bad_numbers(gradient, "the trusted gradient")


def _check(number: float, iterations: int = 1) -> None:
    if not 0 <= number < float("inf"):
        raise SettingsError(f"damping and scale must be finite and not negative, not {number}")
    if iterations < 1:
        raise SettingsError(f"a curvature needs at least 1 iteration, not {iterations}")


def _check_names(gradient: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> None:
    wanted = {name: value.shape for name, value in known.items()}
    odd = sorted(name for name, value in gradient.items() if wanted.get(name) != value.shape)
    if odd:
        raise ShapeError(
            f"no curvature of that name and shape is known for {odd[0]!r}, "
            f"{tuple(gradient[odd[0]].shape)}; make both from the same parameters"
        )
