"""What repeated products of a vector say of a matrix that nobody writes down."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labelmend.errors import NonFiniteError
from labelmend.weighting.gradients import Parameters
from labelmend.weighting.products import Product


class Krylov(NamedTuple):
    """What products of g span: H ≈ V T Vᵀ, the first column of V being g / ‖g‖.

    Attributes:
        basis: columns of V, orthonormal, flat.
        matrix: T, ``(k, k)`` float64, symmetric and tridiagonal, on the CPU.
        length: ‖g‖.
        floor: the share of the largest eigenvalue that rounding can fake.
    """

    basis: list[Tensor]
    matrix: Tensor
    length: float
    floor: float


def span(product: Product, gradient: Parameters, iterations: int) -> Krylov:
    """Lanczos: an orthonormal basis of g, H g, H² g, … and H in it; g must not be zero.

    Fewer products than asked for suffice where the basis is complete before.
    """
    flat, peak = flatten(gradient), largest_entry(gradient)
    scaled = flat / peak  # the squares of tiny numbers are zero
    length = float(torch.linalg.vector_norm(scaled))
    basis = [scaled / length]
    alpha: list[float] = []
    beta: list[float] = []
    floor = 10 * torch.finfo(flat.dtype).eps
    while True:
        moved = flatten(
            refuse_bad_numbers(product(unflatten(gradient, basis[-1])), "a curvature product")
        )
        alpha.append(float(moved @ basis[-1]))
        for vector in (*basis, *basis):  # twice is enough to be orthogonal after rounding
            moved = moved - (moved @ vector) * vector
        rest = float(torch.linalg.vector_norm(moved))
        matrix = _tridiagonal(alpha, beta)
        exhausted = rest <= floor * largest_eigenvalue(matrix)
        if exhausted or len(basis) == min(iterations, flat.numel()):
            return Krylov(basis, matrix, peak * length, floor)
        beta.append(rest)
        basis.append(moved / rest)


def _tridiagonal(alpha: list[float], beta: list[float]) -> Tensor:
    off = torch.diag(torch.tensor(beta, dtype=torch.float64), 1)
    return torch.diag(torch.tensor(alpha, dtype=torch.float64)) + off + off.T


def largest_eigenvalue(matrix: Tensor) -> float:
    """The largest magnitude among the eigenvalues of a symmetric matrix."""
    return float(torch.linalg.eigvalsh(matrix).abs().max().item())


def solve_damped(krylov: Krylov, damping: float) -> Tensor:
    """V (T + δ)⁻¹ Vᵀ g, flat, by the longest leading block of T + δ that is positive definite.

    Without any, g over the size of its curvature; without curvature at all, g.
    """
    matrix, top = krylov.matrix, largest_eigenvalue(krylov.matrix)
    share = torch.ones(1, dtype=torch.float64)
    damped = matrix + damping * top * torch.eye(len(matrix), dtype=torch.float64)
    # Blocks only lose definiteness as they grow (their eigenvalues interlace).
    fit = [
        size
        for size in range(1, len(matrix) + 1)
        if torch.linalg.eigvalsh(damped[:size, :size])[0] > krylov.floor * top
    ]
    if fit:
        first = torch.eye(fit[-1], dtype=torch.float64)[0]
        share = torch.linalg.solve(damped[: fit[-1], : fit[-1]], first)
    elif top > 0:
        share /= max(abs(float(matrix[0, 0])) + damping * top, krylov.floor * top)
    pairs = zip((share * krylov.length).tolist(), krylov.basis, strict=False)
    return sum((part * vector for part, vector in pairs), start=torch.zeros(()))


def flatten(vector: Parameters) -> Tensor:
    """All tensors end to end, in float32 at least."""
    kinds = [value.dtype for value in vector.values()]
    widest = torch.float64 if torch.float64 in kinds else torch.float32
    return torch.cat([value.detach().reshape(-1).to(widest) for value in vector.values()])


def unflatten(shapes: Parameters, flat: Tensor) -> dict[str, Tensor]:
    """:func:`flatten` undone, in the names, shapes and types of ``shapes``."""
    parts = torch.split(flat, [value.numel() for value in shapes.values()])
    pairs = zip(shapes.items(), parts, strict=True)
    return {name: part.reshape(value.shape).to(value) for (name, value), part in pairs}


def largest_entry(gradient: Parameters) -> float:
    """The largest magnitude in any tensor; 0 without any."""
    return max((float(g.abs().max()) for g in gradient.values() if g.numel()), default=0.0)


def refuse_bad_numbers(values: dict[str, Tensor], what: str) -> dict[str, Tensor]:
    """The values themselves, if all are finite; NonFiniteError if not."""
    bad = [name for name, value in values.items() if not bool(torch.isfinite(value).all())]
    if bad:
        raise NonFiniteError(
            f"{what} is NaN or infinite in parameter {bad[0]!r}; lower "
            "optimiser.learning_rate, raise the damping, or use the identity as curvature"
        )
    return values
