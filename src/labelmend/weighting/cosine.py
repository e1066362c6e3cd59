"""The angle between each sample's gradient and a direction: its similarity without its size."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from labelmend.weighting.ambient import own_precision
from labelmend.weighting.gradients import (
    LossesOf,
    Parameters,
    fitting,
    inner,
    per_sample,
)


def with_lengths(
    losses_of: LossesOf, params: Parameters, direction: Parameters
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of every sample, g_kᵀ v, and the length ‖g_k‖ of its gradient.

    One graph of the batch, and one backward pass for every sample. A loop, because no
    forward-mode pass can give lengths: it yields all g_k times one direction, and ‖g_k‖² is g_k
    times itself, another direction for every sample. The trap is the price: each of these passes
    runs through the whole batch, in all two to three forward passes of it per sample. Called for
    one sample at a time it is the usual loop, three to six in all for a batch of any size; where
    lengths are not needed, :func:`labelmend.weighting.gradients.exact` takes three. And one
    sample of NaN makes NaN of its whole batch.

    Returns:
        losses, similarity and length, each ``(batch,)``, detached, in the losses' number type.

    Raises:
        ShapeError: when the losses have been averaged already, or the direction does not fit.

    >>> x = torch.tensor([1.0, -3.0])
    >>> one = {"w": torch.ones(4)}
    >>> with_lengths(lambda p: p["w"].sum() * x, one, one)
    (tensor([  4., -12.]), tensor([  4., -12.]), tensor([2., 6.]))
    """
    tangents = fitting(direction, params)
    leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
    with own_precision(params), torch.enable_grad():
        losses = per_sample(losses_of(leaves))
        found = torch.zeros(len(losses), 2, dtype=torch.float64, device=losses.device)
        for row, loss in zip(found, losses, strict=True):
            if loss.requires_grad:  # else no parameter takes part
                gradient = torch.autograd.grad(
                    loss, list(leaves.values()), retain_graph=True, allow_unused=True
                )
                _measure(row, gradient, tangents.values())
    similarity, length = found.to(losses.dtype).unbind(1)
    return losses.detach(), similarity, length


def gradient_cosine(losses_of: LossesOf, params: Parameters, direction: Parameters) -> Tensor:
    """The cosine of the angle between each sample's gradient and a direction, ``(batch,)``.

    In [-1, 1]; 0 where the gradient or the direction is zero. It neither grows with an object's
    size nor shrinks as the strong samples are fitted, as g_kᵀ v does. Costs what
    :func:`with_lengths` does. The trap: the gradient of a sample that is fitted is noise, and so
    is its angle.

    Raises:
        ShapeError: as :func:`with_lengths`.

    >>> x = torch.tensor([1.0, -3.0, 0.0])
    >>> one = {"w": torch.ones(4)}
    >>> gradient_cosine(lambda p: p["w"].sum() * x, one, one)
    tensor([ 1., -1.,  0.])
    """
    size = math.sqrt(inner(direction, direction))
    # Divided beforehand: the product of two small lengths can be too small for float32.
    unit = {name: value / (size or 1.0) for name, value in direction.items()}
    _, similarity, length = with_lengths(losses_of, params, unit)
    # Compared with 0 alone: NaN must stay visible.
    return torch.where(length == 0, 0.0, similarity / length).clamp(-1, 1)


def _measure(row: Tensor, gradient: Iterable[Tensor | None], tangents: Iterable[Tensor]) -> None:
    """The inner product of a gradient with the tangents, and its length, into a row of zeros."""
    for part, tangent in zip(gradient, tangents, strict=True):
        if part is not None:
            length = torch.linalg.vector_norm(part, dtype=row.dtype)
            row += torch.stack([(part * tangent).sum(dtype=row.dtype), length.square()]).to(row)
    row[1].sqrt_()
