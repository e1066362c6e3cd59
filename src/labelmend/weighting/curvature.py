"""H⁻¹ g: what the curvature of the training loss makes of the trusted gradient."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Curvature = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""A gradient in, H⁻¹ times it out, by the same names; called once per weight step."""


def identity(gradient: dict[str, Tensor]) -> dict[str, Tensor]:
    """H⁻¹ ← I: the gradient itself (seed A, eq. 5).

    The trap: it believes that every parameter matters alike.

    >>> identity({"w": 1.0})
    {'w': 1.0}
    """
    return gradient
