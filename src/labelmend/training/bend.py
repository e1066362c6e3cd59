"""Which curvature a weight step divides by, made anew at each from a batch of training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from labelmend.errors import unknown
from labelmend.losses import l2
from labelmend.losses.units import in_deviations
from labelmend.training.objective import Objective
from labelmend.types import Batch
from labelmend.weighting.calls import gauss_newton_of
from labelmend.weighting.curvature import (
    Curvature,
    adam_second_moments,
    conjugate_gradients,
    diagonal,
    empirical_fisher,
    identity,
    neumann,
)
from labelmend.weighting.gradients import inner
from labelmend.weighting.products import hessian_product

NAMES = ("identity", "adam", "fisher", "gauss_newton", "hessian", "neumann")


@dataclass(frozen=True, slots=True)
class Bend:
    """H⁻¹ of the training loss at the parameters as they are (seed A, eq. 4).

    Attributes:
        name: one of :data:`NAMES`.
        iterations: of ``gauss_newton`` and ``hessian`` (conjugate gradients) and ``neumann``.
        damping: the share of the largest curvature that is added to all.
        deviation: of each channel of continuous labels, in which ``gauss_newton`` takes squares;
            by default they are taken in the units of the labels.
    """

    name: str
    iterations: int = 5
    damping: float = 0.01
    deviation: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise unknown("curvature", self.name, NAMES)

    def make(
        self,
        objective: Objective,
        network: nn.Module,
        params: dict[str, Tensor],
        batch: Batch,
        optimiser: Optimizer,
    ) -> Curvature:
        """The curvature for one weight step.

        Args:
            objective: whose loss bends.
            network: in evaluation mode.
            params: the parameters that are compared.
            batch: strong and weak training samples.
            optimiser: whose second moments ``adam`` takes.
        """
        if self.name == "identity":
            return identity
        if self.name == "adam":
            return diagonal(adam_second_moments(optimiser, params), self.damping)
        if self.name == "fisher":
            singles = (objective.losses_of(network, one) for one in batch.split(1))
            return empirical_fisher(singles, params, self.damping)
        if self.name == "gauss_newton":
            squares = None if self.deviation is None else in_deviations(l2, self.deviation)
            product = gauss_newton_of(network, params, batch, squares)
        else:
            product = hessian_product(objective.losses_of(network, batch), params)
        if self.name == "neumann":
            return neumann(product, self.iterations)
        return conjugate_gradients(product, self.iterations, self.damping)

    def said_nothing(self, gradient: dict[str, Tensor], direction: dict[str, Tensor]) -> bool:
        """Whether a Hessian gave the gradient back, but for its length.

        It does where the loss bends downwards along the gradient, as it often does early in a
        training.
        """
        least = {"hessian": 2, "neumann": 1}.get(self.name)
        if least is None or self.iterations < least:
            return False
        lengths = math.sqrt(inner(gradient, gradient) * inner(direction, direction))
        return lengths > 0 and inner(gradient, direction) > (1 - _ROUNDING) * lengths


_ROUNDING = 1e-6
