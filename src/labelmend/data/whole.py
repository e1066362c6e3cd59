"""Whole images: predict them with a network that was trained on patches, and judge the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from labelmend.data.patches import Joiner, blend_window, count, regions
from labelmend.metrics import Row, event_metrics, regression_metrics, segmentation_metrics
from labelmend.types import DataSpec, Region

Predict = Callable[[Tensor], Tensor]
"""``(batch, channels, *space)`` → ``(batch, scores, *space)`` of the same space."""


Read = Callable[[Region], Tensor]
"""A region → ``(channels, *region.size)`` of the prepared image, on the device that predicts."""


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

    def read(place: Region) -> Tensor:
        return image[(slice(None), *place.slices)]

    patches = _Patches(size, patch, overlap, batch)
    return next(_joined(predict, read, patches, multiple, depth=size[0]))[1]


def predict_strips(
    predict: Predict,
    read: Read,
    size: tuple[int, ...],
    *,
    patch: tuple[int, ...],
    overlap: float = 0.5,
    multiple: int = 1,
    batch: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """What :func:`predict_whole` gives, bit for bit, in strips along the first axis.

    Only the strip that patches still fall on is kept: ``patch[0]`` positions of the first axis,
    all of the others. The trap: it is a generator, so nothing is predicted before the first strip
    is asked for.

    Args:
        predict: as for :func:`predict_whole`, like all that is not named here.
        read: gives the image, region by region; those of one start follow each other.
        size: positions of the whole image per space axis.
        progress: told after every call of the network how many patches of how many are done.

    Yields:
        Where a strip begins, and its scores ``(scores, positions, *rest)`` float32; strips follow
        one another without gap or overlap.

    >>> image = torch.rand(1, 37, 20)
    >>> cut = lambda place: image[(slice(None), *place.slices)]
    >>> strips = predict_strips(lambda x: x, cut, (37, 20), patch=(16, 16))
    >>> [(start, strip.shape[1]) for start, strip in strips]
    [(0, 8), (8, 8), (16, 5), (21, 16)]
    """
    patches = _Patches(size, patch, overlap, batch)
    yield from _joined(predict, read, patches, multiple, min(size[0], patch[0]), progress)


@dataclass(frozen=True, slots=True)
class _Patches:
    """Where patches are cut and how many go together."""

    size: tuple[int, ...]
    patch: tuple[int, ...]
    overlap: float
    batch: int

    def __len__(self) -> int:
        return count(self.size, self.patch, self.overlap)

    def __iter__(self) -> Iterator[list[Region]]:
        places = self._places()
        while chunk := list(islice(places, self.batch)):
            yield chunk

    def _places(self) -> Iterator[Region]:
        """The regions of :func:`regions`, in their order, without a list of them all."""
        size, patch, overlap = self.size, self.patch, self.overlap
        rest = [Region((), ())] if len(size) == 1 else regions(size[1:], patch[1:], overlap)
        for row in regions(size[:1], patch[:1], overlap):
            for place in rest:
                yield Region(row.start + place.start, row.size + place.size)


@torch.inference_mode()
def _joined(
    predict: Predict,
    read: Read,
    patches: _Patches,
    multiple: int,
    depth: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Strips of what patches join to; ``depth`` positions of the first axis are in memory."""
    joiner: _Rolling | None = None
    begin, done = 0, 0
    for places in patches:
        cut = torch.stack([read(place) for place in places])
        scores = _predict_padded(predict, cut, multiple).float().cpu().numpy()
        if joiner is None:
            joiner = _Rolling(scores.shape[1], (depth, *patches.size[1:]))
        for place, score in zip(places, scores, strict=True):
            first, *rest = place.start
            if first + place.size[0] > begin + depth:
                yield begin, joiner.leave(first - begin)
                begin = first
            joiner.add(score, Region((first - begin, *rest), place.size))
        done += len(places)
        if progress is not None:
            progress(done, len(patches))
    if joiner is None:
        raise AssertionError("regions() covers every image with at least one region")
    yield begin, joiner.result()


class _Rolling(Joiner):
    """A joiner whose array goes along the first axis of a larger one."""

    def __init__(self, channels: int, size: tuple[int, ...]) -> None:
        super().__init__(channels, size, "hann")
        self._change = np.empty((), np.float32)

    def add(self, patch: np.ndarray, region: Region) -> None:
        """As in any joiner, to the same bits; without new arrays, which would take the time."""
        window = blend_window(region.size, self._blend)
        if self._change.shape != patch.shape:
            self._change, self._share = np.empty_like(patch), np.empty_like(window)
        weight = self._weight[region.slices]
        mean = self._mean[(slice(None), *region.slices)]
        np.add(weight, window, out=weight)
        np.divide(window, weight, out=self._share)
        np.subtract(patch, mean, out=self._change)
        np.multiply(self._change, self._share, out=self._change)
        np.add(mean, self._change, out=mean)

    def leave(self, by: int) -> np.ndarray:
        """The first ``by`` positions, which nothing will be added to, and go on behind them."""
        kept = self._mean.shape[1] - by
        left = self._mean[:, :by].copy()
        for array in (*self._mean, self._weight):
            array[:kept] = array[by:]
            array[kept:] = 0
        return left


def _predict_padded(predict: Predict, images: Tensor, multiple: int) -> Tensor:
    size = images.shape[2:]
    missing = [-n % multiple for n in size]
    if any(missing):
        pads = [p for n in reversed(missing) for p in (0, n)]
        images = F.pad(images, pads, mode="replicate")
    scores = predict(images)
    return scores[(slice(None), slice(None), *(slice(0, n) for n in size))]


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
