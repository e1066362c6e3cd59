"""How well does a label fit its prediction at every displacement in a window?

========================  =======  ==============================================================
name                      labels   score at one displacement; larger is better
========================  =======  ==============================================================
``correlation``           either   Σ prediction · label, as in the seed; prefers bright places
``normalised``            either   zero-normalised over what is shared (Padfield), −1 to 1
``phase``                 either   phase correlation
``mutual_information``    either   in nats; any relation counts
``cross_entropy``         classes  minus the loss of that name between prediction and moved label
``binary_cross_entropy``  classes  likewise
``dice``, ``dice_ce``     classes  likewise
``focal``                 classes  likewise
``l1``, ``l2``            either   likewise; ``l1`` on continuous labels is slow
========================  =======  ==============================================================

A displacement ``d`` moves a label, ``moved(p) = label(p − d)``. The minus-the-loss scores equal
that loss of the prediction and the moved label, where the moved label is valid and the prediction
known, at every displacement; only all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from labelmend.alignment import loss_maps, similarity_maps
from labelmend.alignment.comparison import Comparison, check_comparison, compare
from labelmend.alignment.correlation import Way, make_frame
from labelmend.alignment.score_maps import Shifts
from labelmend.errors import SettingsError, unknown

ScoreFunction = Callable[[Comparison], Tensor]

_BY_NAME: dict[str, ScoreFunction] = {
    "correlation": similarity_maps.correlation,
    "normalised": similarity_maps.normalised,
    "phase": similarity_maps.phase,
    "mutual_information": similarity_maps.mutual_information,
    "cross_entropy": loss_maps.cross_entropy,
    "binary_cross_entropy": loss_maps.binary_cross_entropy,
    "dice": loss_maps.dice,
    "dice_ce": loss_maps.dice_ce,
    "focal": loss_maps.focal,
    "l1": loss_maps.l1,
    "l2": loss_maps.l2,
}

SCORES: tuple[str, ...] = tuple(_BY_NAME)
"""The names that :func:`score_shifts` knows."""

REGRESSION_SCORES: tuple[str, ...] = (
    "correlation",
    "normalised",
    "phase",
    "mutual_information",
    "l1",
    "l2",
)
"""Those of them that compare continuous values."""

MOST_AT_ONCE = 2**19
"""How many padded values of the predictions are scored at a time on a CPU: what stays in its cache
is scored about twice as fast (measured, from 256² and 16 samples upwards)."""
MOST_IN_MEMORY = 2**25
"""As many on other devices: there it is memory that sets a bound."""


@torch.no_grad()
def score_shifts(
    prediction: Tensor,
    label: Tensor,
    valid: Tensor,
    score: str,
    window: int | Sequence[int],
    *,
    known: Tensor | None = None,
    least_overlap: float = 0.5,
    bins: int = 8,
    way: Way = "auto",
) -> Shifts:
    """How well every label of a batch fits its prediction, moved by every displacement.

    Half precision is raised to float32, also under autocast; float64 stays. Scores are never NaN,
    carry no gradient, and do not depend on what stands at invalid or unknown positions. Nothing
    wraps around: what moves out of the image is gone.

    Args:
        prediction: ``(batch, classes, *space)`` logits, or ``(batch, channels, *space)`` values;
            of the label's size. A smaller one is put into that size with ``known`` False around.
        label: ``(batch, *space)`` int64 class indices, or ``(batch, channels, *space)`` float.
        valid: ``(batch, *space)`` bool, where the label is known.
        score: one of :data:`SCORES`; for continuous labels, of :data:`REGRESSION_SCORES`.
        window: the largest displacement in positions, along every axis or for all of them. It may
            exceed the size; nothing is shared there, so the score is −inf.
        known: ``(batch, *space)`` bool, where the prediction may be used; by default everywhere.
        least_overlap: where fewer positions are shared (known at ``p`` and valid at ``p − d``)
            than this share of the smaller of the numbers of known and of valid positions of the
            sample, the score is −inf; as it always is where none is.
        bins: for ``mutual_information`` of continuous values.
        way: how sums are found, see :func:`labelmend.alignment.correlation.correlate`.

    Raises:
        ShapeError: where shapes, types, devices or the window do not fit, or a valid position
            has a class without logits.
        SettingsError: for an unknown score, one that cannot judge these labels, or an option out
            of range.

    Source: seed B ¶33, ¶39, ¶46; the loss over all shifts as a correlation. Trap: one NaN or
    infinity in what is known of a prediction, or valid of a continuous label, leaves that sample
    without any score, and no other. It will show in the loss.

    >>> z = torch.tensor([[[9.0, 9, 9, 0, 9], [0.0, 0, 0, 9, 0]]])
    >>> label, valid = torch.tensor([[0, 0, 1, 0, 0]]), torch.ones(1, 5, dtype=torch.bool)
    >>> score_shifts(z, label, valid, "normalised", 1).score.argmax(1) - 1
    tensor([1])
    """
    check_comparison(prediction, label, valid, known)
    _check_options(score, label, least_overlap, bins)
    batch, space = len(prediction), prediction.shape[2:]
    frame = make_frame(space, window, way=way, batch=batch)
    if not batch:
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        empty = prediction.new_zeros(0, *frame.shifts, dtype=dtype)
        return Shifts(empty, empty.long(), frame.window)
    most = MOST_AT_ONCE if prediction.device.type == "cpu" else MOST_IN_MEMORY
    size = max(1, most // (prediction.shape[1] * math.prod(frame.padded)))
    parts = []
    with torch.autocast(prediction.device.type, enabled=False):
        for first in range(0, batch, size):
            some = slice(first, first + size)
            masks = valid[some], None if known is None else known[some]
            of = compare(prediction[some], label[some], *masks, frame, bins)
            parts.append(_score(of, _BY_NAME[score], least_overlap))
    scores, overlaps = zip(*parts, strict=True)
    return Shifts(torch.cat(scores), torch.cat(overlaps), frame.window)


def _score(of: Comparison, function: ScoreFunction, least: float) -> tuple[Tensor, Tensor]:
    """Score and overlap, ``(batch, *shifts)``, with −inf wherever there is nothing to say."""
    value, shared = function(of), of.overlap.long()
    every = shared.new_full((len(shared),), math.prod(of.frame.space))
    masks = (of.known_at, of.valid_at)
    known, valid = (every if m is None else m.flatten(1).sum(1) for m in masks)
    # In float64 as a number of Python would be, so that its users can tell what is enough.
    needed = (least * torch.minimum(known, valid).double()).clamp(min=1)
    per_sample = (-1, *(1,) * (shared.ndim - 1))
    enough = shared.double() >= needed.view(per_sample)
    # A measure may take NaN for rounding; a sum cannot, and is quicker than to look at each.
    values = (of.prediction, of.label) if of.continuous else (of.prediction,)
    sound = torch.stack([v.flatten(1).sum(1) for v in values]).isfinite().all(0).view(per_sample)
    return torch.where(enough & sound & value.isfinite(), value, -torch.inf), shared


def _check_options(score: str, label: Tensor, least_overlap: float, bins: int) -> None:
    if score not in _BY_NAME:
        raise unknown("score", score, SCORES)
    if label.is_floating_point() and score not in REGRESSION_SCORES:
        raise SettingsError(
            f"score {score!r} needs class labels, but these are continuous values; "
            f"use one of {', '.join(REGRESSION_SCORES)}"
        )
    if not 0 <= least_overlap <= 1:
        raise SettingsError(f"least_overlap must be 0 to 1, not {least_overlap}")
    if bins < 2:
        raise SettingsError(f"bins must be 2 or more, not {bins}")
