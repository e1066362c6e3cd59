"""Predict several small images in one go: their patches share the network's batches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from labelmend.data.grid import Grid
from labelmend.data.patches import Joiner, count, regions
from labelmend.errors import LabelmendError
from labelmend.inference.predictor import Predictor
from labelmend.types import Raster, Region

Found = np.ndarray | LabelmendError
"""The scores of an image, or why there are none."""


def patches_of(predictor: Predictor, raster: Raster) -> int:
    """How many patches an image as read is predicted in.

    Raises:
        DataError, SettingsError: when it cannot be predicted at all.
    """
    grid = predictor.preparation.grid(raster.array.shape[1:], raster.spacing)
    return count(grid.size, predictor.patch, predictor.run.settings.input.overlap)


class Together:
    """Predicts groups of images; what it learned of the network's batches goes on to the next.

    Patches are cut at the same places and joined in the same order as one image at a time; those
    of one size go through the network together, whichever image they are of. How a processor adds
    numbers up can depend on how many patches it is given, so scores agree to rounding only, unless
    ``exact``: then the first batch of every size and number is also predicted patch by patch, and
    where a single bit differs, so are all that follow.

    Args:
        predictor: what predicts.
        batch: most patches that the network is given at once.
        exact: whether images of one patch must get the very bits of :meth:`Predictor.scores`.
    """

    def __init__(self, predictor: Predictor, batch: int, *, exact: bool = False) -> None:
        self._predictor = predictor
        self._batch = batch
        self._exact = exact
        self._same: dict[tuple[int, ...], bool] = {}

    def suits(self, patches: int) -> bool:
        """Whether an image of so many patches gains by company."""
        return 0 < patches <= (1 if self._exact else self._batch) and self._batch > 1

    def scores(self, rasters: Sequence[Raster]) -> tuple[Found, ...]:
        """What :meth:`Predictor.scores` gives for each image as read, with its channels.

        An image that cannot be predicted gets its error and changes nothing for the others.
        """
        images = [_prepared(self._predictor, raster) for raster in rasters]
        waiting: dict[tuple[int, ...], list[tuple[_Image, Region]]] = defaultdict(list)
        for image in images:
            if isinstance(image, _Image):
                for place in image.places:
                    waiting[_padded(place.size, self._predictor.multiple)].append((image, place))
        for size, patches in waiting.items():
            for first in range(0, len(patches), self._batch):
                self._predict(patches[first : first + self._batch], size)
        return tuple(
            image.scores(self._predictor) if isinstance(image, _Image) else image
            for image in images
        )

    @torch.inference_mode()
    def _predict(self, patches: Sequence[tuple[_Image, Region]], size: tuple[int, ...]) -> None:
        cut = [image.patch(place, size) for image, place in patches]
        key = (len(cut), *size)
        if not self._exact or self._same.get(key):
            scores = self._ask(cut)
        else:
            scores = np.concatenate([self._ask([one]) for one in cut])
            if key not in self._same:
                self._same[key] = np.array_equal(scores, self._ask(cut))
        for (image, place), score in zip(patches, scores, strict=True):
            image.add(place, score)

    def _ask(self, cut: Sequence[np.ndarray]) -> np.ndarray:
        given = torch.from_numpy(np.stack(cut)).to(self._predictor.device)
        return np.asarray(self._predictor.network(given).float().cpu().numpy())


def predict_together(
    predictor: Predictor, rasters: Sequence[Raster], batch: int
) -> tuple[Found, ...]:
    """The scores of several images at once, to rounding; see :class:`Together`."""
    return Together(predictor, batch).scores(rasters)


class _Image:
    """One image as the network sees it, and what is known of its scores so far."""

    def __init__(self, prepared: np.ndarray, grid: Grid, places: list[Region]) -> None:
        self.prepared = prepared
        self.places = places
        self._grid = grid
        self._joiner: Joiner | None = None

    def patch(self, place: Region, size: tuple[int, ...]) -> np.ndarray:
        """A patch, continued by its edge values to a size."""
        cut = self.prepared[(slice(None), *place.slices)]
        more = [(0, n - m) for n, m in zip(size, place.size, strict=True)]
        return np.pad(cut, [(0, 0), *more], mode="edge") if any(map(sum, more)) else cut

    def add(self, place: Region, scores: np.ndarray) -> None:
        """What the network says of a patch."""
        if self._joiner is None:
            self._joiner = Joiner(len(scores), self._grid.size, "hann")
        self._joiner.add(scores[(slice(None), *(slice(n) for n in place.size))], place)

    def scores(self, predictor: Predictor) -> Found:
        """All scores at the file's positions."""
        if self._joiner is None:
            raise AssertionError("regions() covers every image with at least one region")
        joined = self._joiner.result()
        try:
            predictor.check(joined)
            return predictor.preparation.restore(joined, self._grid)
        except LabelmendError as error:
            return error


def _prepared(predictor: Predictor, raster: Raster) -> _Image | LabelmendError:
    try:
        prepared, grid = predictor.preparation.image(raster)
    except LabelmendError as error:
        return error
    overlap = predictor.run.settings.input.overlap
    return _Image(prepared, grid, regions(grid.size, predictor.patch, overlap))


def _padded(size: tuple[int, ...], multiple: int) -> tuple[int, ...]:
    return tuple(n + -n % multiple for n in size)
