"""Rigid, similarity and affine transforms as a few bounded numbers, and grids of them to try."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from labelmend.alignment.affine import (
    compose,
    rotation_matrix,
    scale_matrix,
    shear_matrix,
    shift_matrix,
)

Kind = Literal["rigid", "similarity", "affine"]
"""What a label may do beside shift."""

KINDS: tuple[Kind, ...] = get_args(Kind)
"""The names that ``kind`` may have."""

_MOST_TOGETHER = 35
"""How many candidates are tried at once at the most; of more parameters, one after another."""


@dataclass(frozen=True, slots=True)
class Family:
    """All transforms of one kind about the centre of a space, by the numbers that tell them apart.

    A transform is a row of parameters, all 0 for the identity: in 2-D one angle, in 3-D a rotation
    vector, in radians; for similarity and affine the logarithm of the size; for affine how much
    more than the others each axis but the last is stretched, then a slope for every pair of axes.
    A label is sheared, then scaled, then rotated.

    Attributes:
        kind: one of :data:`KINDS`.
        space: the size of the label.
        angle: the largest rotation about every axis, in degrees.
        stretch: the largest change of size along any axis, 0.1 for a tenth larger.
        shear: the largest slope, in positions per position.

    Trap: in 1-D there is nothing to rotate or shear; a rigid transform is a shift.

    >>> family = Family("affine", (64, 64), angle=10.0, stretch=0.1, shear=0.1)
    >>> [round(size, 3) for size in family.ranges]  # angle, size, stretch, slope
    [0.175, 0.095, 0.095, 0.1]
    """

    kind: Kind
    space: tuple[int, ...]
    angle: float
    stretch: float
    shear: float

    @property
    def turns(self) -> int:
        """How many parameters are angles."""
        return {1: 0, 2: 1, 3: 3}[len(self.space)]

    @property
    def sizes(self) -> int:
        """How many parameters are logarithms of sizes."""
        return {"rigid": 0, "similarity": 1, "affine": len(self.space)}[self.kind]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of axes that labels are sheared along, one per slope."""
        dims = len(self.space) if self.kind == "affine" else 0
        return [(along, across) for across in range(dims) for along in range(across)]

    @property
    def ranges(self) -> tuple[float, ...]:
        """The largest value of every parameter, either sign."""
        turns = [math.radians(self.angle)] * self.turns
        sizes = [math.log1p(self.stretch)] * self.sizes
        return (*turns, *sizes, *[self.shear] * len(self.pairs))

    @property
    def radius(self) -> float:
        """How far from the centre the end of the longest axis lies, in positions."""
        return max(max(self.space) - 1, 1) / 2

    def matrices(self, parameters: Tensor, displacement: Tensor) -> Tensor:
        """What ``(number, parameters)`` and displacements ``(number, dims)`` do to positions.

        → ``(number, dims, dims + 1)``; the label's centre moves by the displacement. No axis is
        stretched by more than the range, whatever the parameters.
        """
        matrix = shift_matrix(torch.zeros_like(displacement))
        first = self.turns + self.sizes
        for number, (along, across) in enumerate(self.pairs):
            half = parameters[:, first + number] / 2
            # Half a slope each way turns nothing, so that the angle need not be found again.
            matrix = compose(matrix, shear_matrix(half, self.space, along, across))
            matrix = compose(matrix, shear_matrix(half, self.space, across, along))
        if self.sizes:
            matrix = compose(matrix, scale_matrix(self._factors(parameters), self.space))
        if self.turns:
            angle = parameters[:, 0] if self.turns == 1 else parameters[:, : self.turns]
            matrix = compose(matrix, rotation_matrix(angle, self.space))
        return compose(matrix, shift_matrix(displacement))

    def cost(self, parameters: Tensor) -> Tensor:
        """Minus the logarithm of a normal prior whose deviation is half the range, in nats.

        ``(..., parameters)`` → ``(...)``; 2 at the end of a range, 0 for the identity.
        """
        half = parameters.new_tensor([max(size, 1e-9) / 2 for size in self.ranges])
        cost: Tensor = 0.5 * (parameters / half).square().sum(-1)
        return cost

    def bound(self, parameters: Tensor) -> Tensor:
        """The nearest parameters within the ranges."""
        most = parameters.new_tensor(self.ranges)
        return torch.maximum(torch.minimum(parameters, most), -most)

    def together(self) -> int:
        """How many of the first parameters are tried together: rotations, and the size in 2-D."""
        first = self.turns + min(self.sizes, 1)
        return first if 3**first <= _MOST_TOGETHER else self.turns

    def steps(self, spacing: float) -> tuple[int, ...]:
        """Into how many steps each range is divided, either sign.

        Args:
            spacing: how far the end of the longest axis may move by one step, in positions; at
                most doubled to keep the grid over the parameters tried :meth:`together` small.
        """
        most = 2 * spacing
        while True:
            steps = [math.ceil(size * self.radius / spacing) for size in self.ranges]
            number = math.prod(2 * k + 1 for k in steps[: self.together()])
            if number <= _MOST_TOGETHER or spacing >= most:
                return tuple(steps)
            spacing *= 1.05

    def _factors(self, parameters: Tensor) -> Tensor:
        sizes = parameters[:, self.turns : self.turns + self.sizes]
        whole = sizes[:, :1].expand(-1, len(self.space))
        if self.sizes > 1:
            whole = whole + (sizes[:, 1:].unsqueeze(2) * self._contrasts(sizes)).sum(1)
        most = math.log1p(self.stretch)
        return whole.clamp(-most, most).exp()

    def _contrasts(self, like: Tensor) -> Tensor:
        """How much longer each axis becomes by the sizes after the first, ``(sizes − 1, dims)``.

        Each is set against the mean of those after it: the sum of a row is 0, and so is the sum of
        products of two rows.
        """
        dims = len(self.space)
        rows = [[0.0] * k + [1.0] + [-1 / (dims - 1 - k)] * (dims - 1 - k) for k in range(dims - 1)]
        return like.new_tensor(rows)
