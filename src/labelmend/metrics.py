"""How good a prediction is, per sample and per class.

All functions take NumPy arrays, or tensors on the CPU, of one sample without a batch axis, and
compute in float64. ``valid`` is ``(*space)`` bool; what stands where it is False has no influence.
A row is ``{class: {metric: number}}``. NaN in a row means "nothing to measure here" and is never
counted by :func:`summarise`; it never stands for a bad result.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, optimize

from labelmend.errors import NonFiniteError, ShapeError

Row = dict[str, dict[str, float]]
"""One sample: class (or channel) → metric → number."""

NAN = float("nan")
BEST_PSNR = 100.0
"""Decibels given to an exact prediction, whose PSNR would be infinite."""


class Summary(TypedDict):
    """What :func:`summarise` returns; ``counts`` says how many samples each number rests on."""

    mean: dict[str, float]
    per_class: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    samples: int


def segmentation_metrics(
    prediction: ArrayLike,
    label: ArrayLike,
    valid: ArrayLike,
    classes: Sequence[str],
    *,
    spacing: Sequence[float] | None = None,
    surface: bool = False,
) -> Row:
    """Dice, IoU and, on request, surface distances of every foreground class of one sample.

    ========================  ==============================================================
    ``dice``, ``iou``         NaN for a class that neither has, 0 if only one of them has it
    ``surface_distance``      mean distance between the two surfaces, both ways
    ``hausdorff95``           95th percentile of these distances, the worse way
    ========================  ==============================================================

    Distances are in the unit of ``spacing`` (positions without it). A class that only one of the
    two has gets the diagonal of the sample, the largest distance there is. A surface towards
    ignored positions is not known, so it is not counted.

    Args:
        prediction: class indices ``(*space)``.
        label: class indices ``(*space)``.
        valid: bool ``(*space)``.
        classes: the name of every class index; index 0, the background, gets no row.
        spacing: distance between positions along every space axis.
        surface: also measure surfaces; 2-D and 3-D only, and slower.

    Raises:
        ShapeError: when shapes differ, or surfaces are asked for in 1-D.

    A position is on the surface when one beside it, along an axis, is outside the class, and so
    is one at the end of the sample.

    Trap: a class that is right to be absent is NaN, not 1; a sample of background only says
    nothing about Dice unless something is found there.

    >>> row = segmentation_metrics([0, 1, 1, 1], [0, 1, 1, 0], [True] * 4, ["none", "cell"])
    >>> row["cell"]["dice"]
    0.8
    """
    found, claimed, known = _same_shape(prediction, label, valid)
    if surface and found.ndim not in (2, 3):
        raise ShapeError(
            f"surface distances are for 2-D and 3-D, not {found.ndim}-D; "
            "event_metrics measures recordings"
        )
    if spacing is not None and len(spacing) != found.ndim:
        raise ShapeError(f"spacing must have {found.ndim} numbers, one per axis, not {spacing}")
    row: Row = {}
    for index, name in enumerate(classes):
        if index:
            mask, truth = known & (found == index), known & (claimed == index)
            row[name] = _overlap(mask, truth)
            if surface:
                row[name] |= _surface_distances(mask, truth, known, spacing)
    return row


def regression_metrics(
    prediction: ArrayLike,
    label: ArrayLike,
    valid: ArrayLike,
    channels: Sequence[str],
    *,
    data_range: float | None = None,
) -> Row:
    """MAE, PSNR and SSIM of every channel of one sample of continuous values.

    ========  ===================================================================================
    ``mae``   mean absolute error, in the label's unit
    ``psnr``  decibels; an exact prediction gets 100
    ``ssim``  mean structural similarity (Wang 2004: Gaussian window of 11, deviation 1.5) over the
              windows that lie in the sample and hold no ignored position; NaN if there is none
    ========  ===================================================================================

    Args:
        prediction: ``(channels, *space)``.
        label: ``(channels, *space)``.
        valid: bool ``(*space)``.
        channels: the name of every channel.
        data_range: largest minus smallest possible value; by default that of the channel's valid
            label, and then ``psnr`` and ``ssim`` are NaN where the label is constant.

    Raises:
        ShapeError: when shapes differ or there is another number of names.
        NonFiniteError: for NaN or infinity at a valid position; a mean would hide it.

    Trap: without ``data_range`` a sample with little contrast is judged more strictly.

    >>> a = np.arange(6.0).reshape(1, 6)
    >>> regression_metrics(a + 1, a, np.ones(6, bool), ["stain"])["stain"]["mae"]
    1.0
    """
    found, claimed = np.asarray(prediction, np.float64), np.asarray(label, np.float64)
    known = np.asarray(valid, bool)
    wanted = (len(channels), *known.shape)
    if not found.shape == claimed.shape == wanted:
        raise ShapeError(
            f"prediction and label must be {wanted} for {len(channels)} named channels, "
            f"not {found.shape} and {claimed.shape}"
        )
    for what, values in (("prediction", found), ("label", claimed)):
        if not np.isfinite(values[:, known]).all():
            raise NonFiniteError(f"the {what} holds NaN or infinity where the label is known")
    return {
        name: _fidelity(f, c, known, data_range)
        for name, f, c in zip(channels, found, claimed, strict=True)
    }


def event_metrics(
    prediction: ArrayLike,
    label: ArrayLike,
    valid: ArrayLike,
    classes: Sequence[str],
    *,
    spacing: float = 1.0,
    tolerance: float = 0.15,
) -> Row:
    """How well events of a recording are found: runs of one class along the only axis.

    A predicted and a labelled event of one class make a pair when neither onset nor offset is
    further off than ``tolerance``. Each event is in one pair at most: as many pairs as possible,
    and of these the ones with the least error. An onset or offset beside an ignored position is
    not known: it is neither compared nor counted as an error.

    ================  =======================================================================
    ``event_f1``      2 · pairs / (predicted + labelled); NaN where there is no event at all
    ``onset_error``   median absolute difference of the onsets of the pairs; NaN without any
    ``offset_error``  the same of the offsets
    ================  =======================================================================

    Args:
        prediction: class indices ``(time,)``.
        label: class indices ``(time,)``.
        valid: bool ``(time,)``.
        classes: the name of every class index; index 0 gets no row.
        spacing: seconds (or another unit) between positions.
        tolerance: in the unit of ``spacing``; 150 ms is usual for the waves of a heart beat.

    Raises:
        ShapeError: when shapes differ or there is more than one axis.

    Trap: the errors are those of found events only and can never exceed the tolerance; read them
    beside ``event_f1``.

    >>> row = event_metrics([0, 1, 1, 0], [0, 0, 1, 0], [True] * 4, ["rest", "beat"], tolerance=1)
    >>> row["beat"]
    {'event_f1': 1.0, 'onset_error': 1.0, 'offset_error': 0.0}
    """
    found, claimed, known = _same_shape(prediction, label, valid)
    if found.ndim != 1:
        raise ShapeError(f"events lie along one axis; got {found.ndim} axes, {found.shape}")
    row: Row = {}
    for index, name in enumerate(classes):
        if index:
            ours = _events(found, known, index)
            theirs = _events(claimed, known, index)
            row[name] = _event_scores(ours, theirs, spacing, tolerance)
    return row


def summarise(rows: Iterable[Mapping[str, Mapping[str, float]]]) -> Summary:
    """Mean of many samples: over the samples of each class first, then over the classes.

    NaN is left out and ``counts`` says how many samples stand behind each number. A class that
    was never measured is NaN and takes no part in the mean over classes. Infinity is kept.

    >>> summary = summarise([{"a": {"dice": 1.0}, "b": {"dice": 0.0}}, {"a": {"dice": 0.5}}])
    >>> summary["mean"], summary["counts"]["a"]
    ({'dice': 0.375}, {'dice': 2})
    """
    listed = list(rows)
    gathered: dict[str, dict[str, list[float]]] = {}
    for row in listed:
        for name, metrics in row.items():
            for metric, value in metrics.items():
                values = gathered.setdefault(name, {}).setdefault(metric, [])
                if not np.isnan(value):
                    values.append(float(value))
    per_class = {n: {m: _mean(v) for m, v in ms.items()} for n, ms in gathered.items()}
    counts = {n: {m: len(v) for m, v in ms.items()} for n, ms in gathered.items()}
    over: dict[str, list[float]] = {}
    for metrics in per_class.values():
        for metric, value in metrics.items():
            over.setdefault(metric, []).extend([] if np.isnan(value) else [value])
    return {
        "mean": {metric: _mean(values) for metric, values in over.items()},
        "per_class": per_class,
        "counts": counts,
        "samples": len(listed),
    }


def _same_shape(
    prediction: ArrayLike, label: ArrayLike, valid: ArrayLike
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    found, claimed, known = np.asarray(prediction), np.asarray(label), np.asarray(valid, bool)
    if not found.shape == claimed.shape == known.shape:
        raise ShapeError(
            "prediction, label and valid must have one shape, "
            f"not {found.shape}, {claimed.shape} and {known.shape}"
        )
    return found, claimed, known


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else NAN


def _overlap(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float]:
    both, either = int((mask & truth).sum()), int((mask | truth).sum())
    if not either:
        return {"dice": NAN, "iou": NAN}
    return {"dice": 2 * both / (both + either), "iou": both / either}


def _surface_distances(
    mask: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    known: NDArray[np.bool_],
    spacing: Sequence[float] | None,
) -> dict[str, float]:
    if not mask.any() and not truth.any():
        return {"surface_distance": NAN, "hausdorff95": NAN}
    step = np.ones(mask.ndim) if spacing is None else np.asarray(spacing, np.float64)
    diagonal = float(np.linalg.norm((np.array(mask.shape) - 1) * step))
    near = _box(mask | truth)
    ours, theirs = _surface(mask[near], known[near]), _surface(truth[near], known[near])
    if mask.any() and truth.any() and not ours.any() and not theirs.any():
        # Both are cut off by ignored positions all around.
        return {"surface_distance": 0.0, "hausdorff95": 0.0}
    if not ours.any() or not theirs.any():
        return {"surface_distance": diagonal, "hausdorff95": diagonal}
    there = ndimage.distance_transform_edt(~theirs, sampling=step)[ours]
    back = ndimage.distance_transform_edt(~ours, sampling=step)[theirs]
    return {
        "surface_distance": float(np.concatenate([there, back]).mean()),
        "hausdorff95": float(max(np.percentile(there, 95), np.percentile(back, 95))),
    }


def _surface(mask: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    # Ignored positions count as inside, so that no surface arises at their border.
    return np.asarray(mask & ~ndimage.binary_erosion(mask | ~known), bool)


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest region that holds the mask and the positions next to it."""
    (found,) = ndimage.find_objects(mask.astype(np.int8))
    return tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in found)


def _fidelity(
    found: NDArray[np.float64],
    claimed: NDArray[np.float64],
    known: NDArray[np.bool_],
    data_range: float | None,
) -> dict[str, float]:
    if not known.any():
        return {"mae": NAN, "psnr": NAN, "ssim": NAN}
    error = found[known] - claimed[known]
    extent = float(np.ptp(claimed[known])) if data_range is None else data_range
    out = {"mae": float(np.abs(error).mean()), "psnr": NAN, "ssim": NAN}
    if extent > 0:
        least = extent * 10 ** (-BEST_PSNR / 20)
        root = max(float(np.sqrt(np.square(error).mean())), least)
        out["psnr"] = float(20 * np.log10(extent / root))
        out["ssim"] = _structural_similarity(found, claimed, known, extent)
    return out


def _structural_similarity(
    found: NDArray[np.float64],
    claimed: NDArray[np.float64],
    known: NDArray[np.bool_],
    extent: float,
) -> float:
    # Slow to import, and segmentation does without.
    from skimage.metrics import structural_similarity

    window = 11
    whole = ndimage.minimum_filter(known, size=window, mode="constant", cval=0)
    if min(known.shape) < window or not whole.any():
        return NAN
    _, similarity = structural_similarity(
        np.where(known, claimed, 0),
        np.where(known, found, 0),
        data_range=extent,
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    return float(similarity[whole].mean())


class _Events(NamedTuple):
    """Onsets and offsets in positions, and which of them no ignored position hides."""

    edges: NDArray[np.int64]  # (2, events): onset, offset
    certain: NDArray[np.bool_]  # (2, events)


def _events(indices: NDArray[Any], known: NDArray[np.bool_], index: int) -> _Events:
    step = np.diff(np.pad((known & (indices == index)).astype(np.int8), 1))
    edges = np.stack([np.flatnonzero(step == 1), np.flatnonzero(step == -1)])
    # Beyond the ends of a recording everything is known: there is nothing.
    clear: NDArray[np.bool_] = np.pad(known, 1, constant_values=True)
    return _Events(edges, clear[edges + np.array([[0], [1]])])


def _event_scores(
    ours: _Events, theirs: _Events, spacing: float, tolerance: float
) -> dict[str, float]:
    error = spacing * np.abs(ours.edges[:, :, None] - theirs.edges[:, None, :])
    sure = ours.certain[:, :, None] & theirs.certain[:, None, :]
    rows, columns = _pairs(error, sure, _touch(ours, theirs), tolerance)
    total = ours.edges.shape[1] + theirs.edges.shape[1]
    onset, offset = (
        error[side, rows, columns][sure[side, rows, columns]].tolist() for side in (0, 1)
    )
    return {
        "event_f1": 2 * len(rows) / total if total else NAN,
        "onset_error": float(np.median(onset)) if onset else NAN,
        "offset_error": float(np.median(offset)) if offset else NAN,
    }


def _touch(ours: _Events, theirs: _Events) -> NDArray[np.bool_]:
    (on, off), (their_on, their_off) = ours.edges, theirs.edges
    return np.asarray((on[:, None] < their_off) & (their_on < off[:, None]), bool)


def _pairs(
    error: NDArray[np.float64],
    sure: NDArray[np.bool_],
    touch: NDArray[np.bool_],
    tolerance: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # A difference that rounding alone puts beyond the tolerance is within it.
    far = sure & (error > tolerance * (1 + 1e-9))
    # Where an edge is hidden there is nothing to compare, so the events must at least overlap.
    near = ~far[0] & ~far[1] & (touch | (sure[0] & sure[1]))
    cost = np.where(sure, error, 0).sum(0)
    # Forbidden pairs cost more than all others together, or pairs would be given up for them.
    forbidden = (2 * tolerance + 1) * (min(cost.shape) + 1)
    rows, columns = optimize.linear_sum_assignment(np.where(near, cost, forbidden))
    kept = near[rows, columns]
    return rows[kept], columns[kept]
