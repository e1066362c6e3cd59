"""What speaks for or against a label: its gradient, its loss, its fit to the prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from labelmend.errors import SettingsError, unknown
from labelmend.weighting.alike import Likeness
from labelmend.weighting.gradients import inner


@dataclass(frozen=True, slots=True)
class Findings:
    """What a weight step found out about some weak samples.

    Tensors are ``(samples,)``, or ``(samples, classes)`` where classes are judged by themselves.

    Attributes:
        similarity: g_Sᵀ H⁻¹ g_k.
        loss: each sample's own training loss.
        disagreement: of label and prediction, in [0, 1]; see :mod:`labelmend.weighting.fit`.
        agreement: how far the strong samples want the same step, in [0, 1]; see
            :func:`agreement`.
        present: bool, whether there is a label to be usual or not: False for a class that a label
            has not. None where all are.
        likeness: which images are alike, where that is asked for.
    """

    similarity: Tensor
    loss: Tensor
    disagreement: Tensor
    agreement: float
    present: Tensor | None = None
    likeness: Likeness | None = None

    def take(self, which: Tensor) -> Findings:
        """Those of some samples, by a mask or by places."""
        there = None if self.present is None else self.present[which]
        rows = (self.similarity[which], self.loss[which], self.disagreement[which])
        alike = None if self.likeness is None else self.likeness.take(which)
        return Findings(*rows, self.agreement, there, alike)

    def usual(self, values: Tensor, share: float = 0.5) -> Tensor:
        """The median of the values that are present, of each class; of all where none is.

        To lack a class is easy, so a label that has a rare one is beside those that have it too.
        Another ``share`` of the values than a half may be below; of two middle ones, the lower is
        taken.
        """
        return self._present(values).nanquantile(share, 0, interpolation="lower")

    def nearby(self, values: Tensor, images: Likeness, share: float = 0.5) -> Tensor:
        """The same over the images most like each sample's own, shaped as the values."""
        found = images.nearby(self._present(values), share)
        return torch.where(found.isnan(), self.usual(values, share), found)

    def _present(self, values: Tensor) -> Tensor:
        there = torch.ones_like(values, dtype=torch.bool) if self.present is None else self.present
        return torch.where(there | ~there.any(0), values, torch.nan)


Evidence = Callable[[Findings], Tensor]
"""Findings in, the same shape out: what is above 0 speaks for the label."""

OUTLIER = 3.0
"""A loss this many robust deviations above the median is neither for nor against a label."""

NEUTRAL, WRONG = 0.8, 0.6
"""A label that fits this share as well as the median label is neither right nor wrong; wrong."""

GOOD = 0.75
"""The fit of a kind of images is that which this share of their labels is not above."""

LEAST = 1 / 3
"""Share of the similarity beside the fit, however little the strong samples agree."""

DOUBTERS = 4
"""Strong samples that are assumed to disagree, besides those there are: few prove little."""


def from_similarity(found: Findings) -> Tensor:
    """The similarity g_Sᵀ H⁻¹ g_k as it is (seed A, eq. 8).

    The trap: once the strong samples are fitted, g_S is noise and so is this.

    >>> from torch import tensor
    >>> found = Findings(tensor([2.0, -1.0]), tensor([0.1, 0.2]), tensor([0.1, 0.1]), 1.0)
    >>> from_similarity(found)
    tensor([ 2., -1.])
    """
    return found.similarity


def from_loss(found: Findings) -> Tensor:
    """How usual a label's own loss is among the weak ones, in [-1, 1].

    1 at the median loss or below, 0 at 3 robust deviations above it (median absolute deviation
    times 1.4826), -1 at 6 and beyond. The trap: where most labels are bad, bad is usual, and a
    network that has learned a bad label by heart has no loss on it.

    >>> from torch import tensor, zeros
    >>> from_loss(Findings(zeros(5), tensor([1.0, 1.0, 0.9, 1.1, 9.0]), zeros(5), 1.0))
    tensor([ 1.0000,  1.0000,  1.0000,  0.7752, -1.0000])
    """
    middle = found.usual(found.loss)
    spread = 1.4826 * found.usual((found.loss - middle).abs())
    usual = (found.loss <= middle).to(found.loss) * 2 - 1
    scaled = (found.loss - middle) / (OUTLIER * torch.where(spread > 0, spread, 1))
    return torch.where(spread > 0, (1 - scaled).clamp(-1, 1), usual)


def from_fit(found: Findings) -> Tensor:
    """How well the prediction and a label overlap, beside the median label, in [-1, 1].

    1 from the median fit (one minus the disagreement) upwards, 0 at four fifths of it, -1 at
    three fifths and below; less where even the median label fits less than half, as an
    unlearned network's opinion. A share of the median rather than its deviations: where labels
    are all alike, none is an outlier. The trap: where most labels are wrong in the same way, the
    network learns that way, and they fit.

    >>> from torch import tensor, zeros
    >>> from_fit(Findings(zeros(4), zeros(4), tensor([0.1, 0.1, 0.28, 0.9]), 1.0)).round(decimals=3)
    tensor([ 1.,  1.,  0., -1.])
    """
    fit, middle = _fits(found)
    return _beside(fit, middle)


def from_both(found: Findings) -> Tensor:
    """:func:`from_fit`, and the similarity for as much as it can be believed, in [-1, 1].

    The similarity is divided by its mean magnitude and kept in [-1, 1]; its share is the
    agreement of the strong samples but at least a third, that of the fit what is left. Where the
    strong samples all want the same step still, the weak labels hold the network back from it
    together, which is the one thing that a fit cannot see. The trap: without a curvature the
    similarity is hardly better than chance, and a third of chance is worse than none.

    >>> from torch import tensor, zeros
    >>> similarity, apart = tensor([1.0, -1.0]), tensor([0.1, 0.1])
    >>> from_both(Findings(similarity, zeros(2), apart, agreement=0.0)).round(decimals=3)
    tensor([1.0000, 0.3330])
    >>> from_both(Findings(similarity, zeros(2), apart, agreement=1.0)).round(decimals=3)
    tensor([ 1., -1.])
    """
    return _together(found, from_fit(found), _scaled(found.similarity))


def from_alike(found: Findings) -> Tensor:
    """:func:`from_both` beside images alike, in [-1, 1].

    Fit and similarity hang on the image as much as on its label: of a kind that no strong image is
    of (crowded, where all of those are sparse), right labels fit worse and pull elsewhere. So, as
    far as an image is strange beside the strong ones, a label is held against those of the images
    most like it instead of all: what their similarities have in common, the median less that of
    all, is taken away from its own; and where their fits are worse than those of all, its own may
    be. Fits are compared at the upper quarter, for good labels of a kind and in all may be few.

    The trap: a mistake that all labels of such a kind share counts as the kind's; a strong label of
    that kind tells them apart.

    Raises:
        SettingsError: where the findings do not say which images are alike.

    What it is worth: ``docs/concepts/what-helps.md``.

    >>> from labelmend.weighting.alike import Likeness
    >>> crowded, zeros = torch.tensor([False] * 12 + [True] * 10), torch.zeros(22)
    >>> looks = torch.arange(22.0).unsqueeze(1) + 50 * crowded.unsqueeze(1)
    >>> images, similarity = Likeness(looks, 0.9 * crowded), torch.where(crowded, -1.0, 1.0)
    >>> judged = from_alike(Findings(similarity, zeros, zeros, 1.0, likeness=images))
    >>> judged[~crowded].unique(), judged[crowded].unique().round(decimals=2)
    (tensor([1.]), tensor([0.8000]))
    """
    images = found.likeness
    if images is None:
        raise SettingsError(
            "these findings do not say which images are alike, and signal 'alike' asks; give them "
            "a likeness from labelmend.weighting.alike, or take signal 'both'"
        )
    alike = _scaled(found.similarity)
    strange = images.strange.to(alike).view(-1, *[1] * (alike.ndim - 1))
    common = found.nearby(alike, images) - found.usual(alike)
    fit, middle = _fits(found)
    well, usual = found.nearby(fit, images, GOOD), found.usual(fit, GOOD)
    worse = (well / torch.where(usual > 0, usual, 1)).clamp(max=1) ** strange
    return _together(found, _beside(fit, middle * worse), (alike - strange * common).clamp(-1, 1))


def _fits(found: Findings) -> tuple[Tensor, Tensor]:
    """How well labels fit, and the median label."""
    fit = 1 - found.disagreement
    # The upper of two middle ones: the lower is, of two labels, the bad one.
    return fit, -found.usual(-fit)


def _beside(fit: Tensor, middle: Tensor) -> Tensor:
    share = fit / torch.where(middle > 0, middle, 1)
    return ((share - NEUTRAL) / (1 - NEUTRAL)).clamp(-1, 1) * (2 * middle).clamp(max=1)


def _scaled(similarity: Tensor) -> Tensor:
    """In mean magnitudes, and none beyond one."""
    scale = similarity.abs().mean(0)
    return (similarity / torch.where(scale > 0, scale, 1)).clamp(-1, 1)


def _together(found: Findings, fit: Tensor, alike: Tensor) -> Tensor:
    """The fit, and a similarity for as much as it can be believed."""
    share = min(max(found.agreement, LEAST), 1.0)
    return (1 - share) * fit + share * alike


AMONG_ALIKE = ("alike",)
"""Signals that must know which images are alike."""

WITHOUT_SIMILARITY = ("fit", "loss")
"""Signals that need no gradient, and so a third of the time."""

SIGNALS: Mapping[str, Evidence] = {
    "alike": from_alike,
    "both": from_both,
    "fit": from_fit,
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


def agreement(one: Mapping[str, Tensor], other: Mapping[str, Tensor], samples: int) -> float:
    """How far two halves of the strong samples want the same step, in [0, 1].

    The cosine of the angle between their mean gradients, 0 where they point apart or one is
    zero, times N / (N + 4) for N samples. The trap: the halves must be of samples, not of draws;
    a sample in both agrees with itself.

    >>> from torch import tensor
    >>> agreement({"w": tensor([3.0, 0.0])}, {"w": tensor([1.0, 0.0])}, samples=12)
    0.75
    """
    lengths = math.sqrt(inner(one, one) * inner(other, other))
    cosine = inner(one, other) / lengths if lengths else 0.0
    return max(cosine, 0.0) * samples / (samples + DOUBTERS)
