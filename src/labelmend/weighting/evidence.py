"""What speaks for or against a label: its gradient, its loss, or both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from labelmend.errors import unknown


@dataclass(frozen=True, slots=True)
class Findings:
    """What a weight step found out about some weak samples.

    Attributes:
        similarity: ``(samples,)`` g_Sᵀ H⁻¹ g_k.
        loss: ``(samples,)`` each sample's own loss.
        agreement: how far two halves of the strong samples want the same step, in [-1, 1].
    """

    similarity: Tensor
    loss: Tensor
    agreement: float


Evidence = Callable[[Findings], Tensor]
"""Findings in, ``(samples,)`` out: what is above 0 speaks for the label."""

OUTLIER = 3.0
"""A loss this many robust deviations above the median is neither for nor against a label."""


def from_similarity(found: Findings) -> Tensor:
    """The similarity g_Sᵀ H⁻¹ g_k as it is (seed A, eq. 8).

    The trap: once the strong samples are fitted, g_S is noise and so is this.

    >>> from torch import tensor
    >>> from_similarity(Findings(tensor([2.0, -1.0]), tensor([0.1, 0.2]), 1.0))
    tensor([ 2., -1.])
    """
    return found.similarity


def from_loss(found: Findings) -> Tensor:
    """How usual a label's own loss is among the weak ones, in [-1, 1].

    1 at the median loss or below, 0 at 3 robust deviations above it (median absolute deviation
    times 1.4826), -1 at 6 and beyond. The trap: where most labels are bad, bad is usual; and a
    network that has learned a bad label by heart has no loss on it.

    >>> from torch import tensor, zeros
    >>> from_loss(Findings(zeros(5), tensor([1.0, 1.0, 0.9, 1.1, 9.0]), 1.0))
    tensor([ 1.0000,  1.0000,  1.0000,  0.7752, -1.0000])
    """
    middle = found.loss.median()
    spread = 1.4826 * (found.loss - middle).abs().median()
    if spread == 0:
        return (found.loss <= middle).to(found.loss) * 2 - 1
    return (1 - (found.loss - middle) / (OUTLIER * spread)).clamp(-1, 1)


def from_both(found: Findings) -> Tensor:
    """:func:`from_loss`, and the similarity for as much as it can be believed, in [-1, 1].

    The similarity, divided by its mean magnitude and kept in [-1, 1], enters with the agreement
    of the two halves of the strong samples as its weight: where they want different steps, their
    mean gradient is chance, and so is every similarity to it.

    >>> from torch import tensor
    >>> similarity, loss = tensor([1.0, -1.0]), tensor([1.0, 1.0])
    >>> from_both(Findings(similarity, loss, agreement=0.0))
    tensor([1., 1.])
    >>> from_both(Findings(similarity, loss, agreement=1.0))
    tensor([1., 0.])
    """
    share = max(0.0, found.agreement)
    scale = found.similarity.abs().mean()
    alike = (found.similarity / scale).clamp(-1, 1) if scale > 0 else found.similarity
    return (from_loss(found) + share * alike) / (1 + share)


def cosine(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The cosine of the angle between two gradients, 0 where one of them is zero.

    >>> from torch import tensor
    >>> cosine({"w": tensor([3.0, 0.0])}, {"w": tensor([1.0, 0.0])})
    1.0
    """

    def inner(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> float:
        return sum(float((left[name].double() * right[name].double()).sum()) for name in left)

    lengths = math.sqrt(inner(one, one) * inner(other, other))
    return inner(one, other) / lengths if lengths else 0.0


SIGNALS: Mapping[str, Evidence] = {
    "both": from_both,
    "loss": from_loss,
    "similarity": from_similarity,
}


def evidence(name: str) -> Evidence:
    """The evidence of a name.

    >>> evidence("los")
    Traceback (most recent call last):
    labelmend.errors.SettingsError: unknown signal 'los'; did you mean 'loss'?
    """
    if name not in SIGNALS:
        raise unknown("signal", name, SIGNALS)
    return SIGNALS[name]
