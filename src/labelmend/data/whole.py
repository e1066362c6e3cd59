"""Whole images: predict them with a network that was trained on patches, and judge the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labelmend.data.patches import Joiner, regions
from labelmend.metrics import Row, event_metrics, regression_metrics, segmentation_metrics
from labelmend.types import DataSpec, Region

Predict = Callable[[Tensor], Tensor]
"""``(batch, channels, *space)`` → ``(batch, scores, *space)`` of the same space."""


@torch.inference_mode()
def predict_whole(
    predict: Predict,
    image: Tensor,
    *,
    patch: tuple[int, ...],
    overlap: float = 0.5,
    multiple: int = 1,
    batch: int = 4,
) -> np.ndarray:
    """Scores of a whole image, ``(scores, *space)`` float32, from overlapping patches.

    Patches are joined by a Hann window, so that the border of a patch, where a network sees
    least, counts least. What is no multiple of ``multiple`` is continued by its edge values and
    cut again. The trap: a network in training mode; put it in evaluation mode first.

    Args:
        predict: usually a network; called with at most ``batch`` patches of one size.
        image: ``(channels, *space)`` on the device that predicts.
        patch: the largest patch, one size per space axis.
        overlap: share of a patch that neighbours have in common.
        multiple: what every side of the network's input must be a multiple of.
        batch: patches per call.

    >>> image = torch.rand(1, 37, 20)
    >>> scores = predict_whole(lambda x: 2 * x, image, patch=(16, 16), multiple=8)
    >>> bool(np.allclose(scores, 2 * image.numpy(), atol=1e-6))
    True
    """
    size = tuple(image.shape[1:])
    joiner: Joiner | None = None
    for places in _chunks(regions(size, patch, overlap), batch):
        cut = torch.stack([image[(slice(None), *place.slices)] for place in places])
        scores = _predict_padded(predict, cut, multiple).float().cpu().numpy()
        if joiner is None:
            joiner = Joiner(scores.shape[1], size, "hann")
        for place, score in zip(places, scores, strict=True):
            joiner.add(score, place)
    if joiner is None:
        raise AssertionError("regions() covers every image with at least one region")
    return joiner.result()


def _predict_padded(predict: Predict, images: Tensor, multiple: int) -> Tensor:
    size = images.shape[2:]
    missing = [-n % multiple for n in size]
    if any(missing):
        pads = [p for n in reversed(missing) for p in (0, n)]
        images = F.pad(images, pads, mode="replicate")
    scores = predict(images)
    return scores[(slice(None), slice(None), *(slice(0, n) for n in size))]


def _chunks(places: list[Region], size: int) -> Iterator[list[Region]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]


def judge(
    scores: np.ndarray,
    label: np.ndarray,
    valid: np.ndarray,
    spec: DataSpec,
    *,
    spacing: Sequence[float] | None = None,
    surface: bool = False,
) -> Row:
    """Every metric that suits the task, for one sample: class name → metric → number.

    Segmentation: Dice and IoU, for one axis also events, with ``surface`` also surface
    distances. Regression: MAE, PSNR and SSIM.

    Args:
        scores: ``(scores, *space)`` on the positions of the file.
        label: class indices ``(*space)``, or ``(channels, *space)`` for regression.
        valid: ``(*space)`` bool.
        spec: what the data set's files share.
        spacing: distance between positions along every space axis.
        surface: whether to take surface distances, which are slow; 2-D and 3-D only.
    """
    if spec.task == "regression":
        return regression_metrics(scores, label, valid, spec.classes)
    found = scores.argmax(0)
    surface = surface and spec.dims > 1
    row = segmentation_metrics(found, label, valid, spec.classes, spacing=spacing, surface=surface)
    if spec.dims == 1:
        step = 1.0 if spacing is None else spacing[0]
        events = event_metrics(found, label, valid, spec.classes, spacing=step)
        row = {name: {**figures, **events[name]} for name, figures in row.items()}
    return row
