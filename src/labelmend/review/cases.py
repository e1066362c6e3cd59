"""What can be shown of a case: its image, its label, what the network says, where it belongs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from labelmend.data.grid import Grid
from labelmend.errors import NonFiniteError, RunError, SettingsError, ShapeError
from labelmend.files.readers import load_verified, read_as, read_label
from labelmend.inference.places import Place, moved_arrays
from labelmend.inference.predictor import Predictor
from labelmend.inference.search import Search, make_search
from labelmend.review.drawing import (
    UNKNOWN,
    as_grey,
    as_pixels,
    draw_plane,
    draw_recording,
    draw_wave,
    encode_png,
    shrink,
    suggest_contrast,
)
from labelmend.review.repaired import can_ignore
from labelmend.review.shelf import Shelf
from labelmend.types import MOVED, DataSpec, Raster, Sample

if TYPE_CHECKING:
    from labelmend.audit import Ranked

Which = Literal["original", "prediction", "moved"]

MEMORY = 2**30
"""Bytes of images, labels and predictions that are kept to be shown again."""


@dataclass(frozen=True, slots=True)
class About:
    """What a page must know of an image before it shows it.

    Attributes:
        size: positions along every space axis.
        spacing: distance between positions along every axis; None where nobody says.
        channels: how many it has.
        display: the values that become black and white at first.
    """

    size: tuple[int, ...]
    spacing: tuple[float, ...] | None
    channels: int
    display: tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the network says of an image, on its own grid."""

    scores: np.ndarray
    grid: Grid


class Cases:
    """All labels of a run in the order of its audit, and what can be shown of each.

    Files are read, and the network asked, when something is wanted; what was wanted last is kept,
    up to ``memory`` bytes. Any thread may ask; the network answers one at a time.

    Class labels are int16 ``(*space)`` class indices, -1 where unknown. Continuous ones are
    float32 ``(channels, *space)``, NaN where unknown.

    Args:
        predictor: the run's network.
        order: the labels, first the one to look at first.
        memory: bytes to keep.

    Raises:
        RunError: when a label is none of the run's.
        SettingsError: for more classes than can be shown.
    """

    def __init__(
        self, predictor: Predictor, order: Sequence[Ranked], *, memory: int = MEMORY
    ) -> None:
        self.predictor, self.order = predictor, tuple(order)
        self.samples = _samples(predictor, self.order)
        self.numbers = {sample.label: n for n, sample in enumerate(self.samples)}
        if len(self.spec.classes) > UNKNOWN and self.spec.task == "segmentation":
            raise SettingsError(
                f"at most {UNKNOWN} classes can be shown, and {predictor.run.data.root} has "
                f"{len(self.spec.classes)}; join some in data.toml"
            )
        reading, working = threading.RLock(), threading.RLock()
        self._images: Shelf[Raster] = Shelf(memory / 2, lambda r: r.array.nbytes, reading)
        self._read: Shelf[np.ndarray] = Shelf(memory / 8, _bytes, reading)
        self._made: Shelf[np.ndarray] = Shelf(memory / 8, _bytes, working)
        self._seen: Shelf[_Seen] = Shelf(memory / 4, lambda s: s.scores.nbytes, working)
        self._about: dict[str, About] = {}
        self._search: Search | None = None

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def spec(self) -> DataSpec:
        """What the data set's files share."""
        return self.predictor.spec

    @property
    def root(self) -> Path:
        """The data set's folder."""
        return Path(self.predictor.run.data.root)

    # ------------------------------------------------------------------------------- arrays

    def image(self, number: int) -> Raster:
        """The image of a case, ``(channels, *space)``.

        Raises:
            DataError: when its file cannot be read or has changed.
        """
        sample = self.samples[number]

        def read() -> Raster:
            content = load_verified(self.root / sample.image, sample.image_sha256)
            return read_as(self.root / sample.image, self.spec, content=content)

        return self._images.take((sample.image,), read)

    def about(self, number: int) -> About:
        """What a page must know of the image of a case; as :meth:`image`."""
        name = self.samples[number].image
        if name not in self._about:
            raster = self.image(number)
            limits = suggest_contrast(raster.array)
            self._about[name] = About(
                raster.array.shape[1:], raster.spacing, len(raster.array), limits
            )
        return self._about[name]

    def label(self, number: int, which: Which = "original") -> np.ndarray:
        """The label of a case as it was, as the network predicts it, or where it belongs.

        ``moved`` is the original where the network says that it belongs, by the settings of the
        run; it equals the original where it is in place or its place is not clear, and where the
        label is strong. What comes from outside is unknown, or class 0 where the data set has no
        way to say so.

        Raises:
            DataError: when a file cannot be read or has changed.
            NonFiniteError: when the network yields no numbers.
            SettingsError: when the settings of the run find no places for such labels.
        """
        sample = self.samples[number]
        if which == "original":
            return self._read.take((which, sample.label), lambda: self._original(number))
        if which == "moved":
            return self._made.take((which, sample.label), lambda: self._moved(number))
        return self._made.take((which, sample.image), lambda: self._predicted(number))

    def base(self, label: str) -> tuple[np.ndarray, str]:
        """What people start from, by a label's path: its class indices, the SHA-256 of its file.

        Continuous labels cannot be drawn, and count as class 0 everywhere. Raises as
        :meth:`label`.
        """
        number = self.numbers[label]
        first = self.label(number)
        if self.spec.task == "regression":
            first = np.zeros(first.shape[1:], np.int16)
        return first, self.samples[number].label_sha256

    def _original(self, number: int) -> np.ndarray:
        return self._joined(*self._parts(number))

    def _parts(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The label as read, and where it is known."""
        sample = self.samples[number]
        content = load_verified(self.root / sample.label, sample.label_sha256)
        return read_label(self.root / sample.label, self.spec, self.image(number), content=content)

    def _joined(self, label: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """A label and where it is known as one array."""
        if self.spec.task == "regression":
            return np.where(valid, label, np.float32(np.nan)).astype(np.float32)
        return np.where(valid, label, -1).astype(np.int16)

    def _predicted(self, number: int) -> np.ndarray:
        seen = self._look(number)
        scores = self.predictor.preparation.restore(seen.scores, seen.grid)
        kind = np.float32 if self.spec.task == "regression" else np.int16
        return self.predictor.decide(scores).astype(kind)

    def _look(self, number: int) -> _Seen:
        sample = self.samples[number]

        def work() -> _Seen:
            try:
                return _Seen(*self.predictor.seen(self.image(number)))
            except NonFiniteError as error:
                raise NonFiniteError(f"{self.root / sample.image}: {error}") from error

        return self._seen.take((sample.image,), work)

    def _moved(self, number: int) -> np.ndarray:
        label, valid = self._parts(number)
        place = self._place(number, label, valid)
        if place is None or not place.moves:
            return self._joined(label, valid)
        there, known = moved_arrays(label, valid, place)
        if self.spec.task == "segmentation" and not can_ignore(self.spec):
            known = np.ones_like(known)  # nobody can say "unknown": it is class 0
        return self._joined(there, known)

    def _place(self, number: int, label: np.ndarray, valid: np.ndarray) -> Place | None:
        """Where a label belongs, in positions of its file; None where it stays."""
        if self.samples[number].quality == "strong":
            return None
        search = self._search = self._search or make_search(
            self.predictor.run, None, self.predictor.device, step=self.predictor.step
        )
        if search.per != "sample" or search.centred:
            # Labels that move together were all looked at by the audit.
            there = self.order[number].displacement
            return None if there is None else Place(np.round(np.array(there)), 1.0, 0.0, MOVED)
        seen = self._look(number)
        given = self.predictor.preparation.label(label, valid, seen.grid)
        return search.find(seen.scores, *given).in_file(seen.grid)

    # ----------------------------------------------------------------------------- pictures

    def plane(self, array: np.ndarray, axis: int | None, index: int | None) -> np.ndarray:
        """What is shown flat of an array ``(..., *space)``: a slice of a volume, else all of it.

        Args:
            array: whatever has the image's space axes last.
            axis: the axis that a volume is cut across; by default the first.
            index: which slice; by default the middle one.

        Raises:
            ShapeError: for an axis or a slice that is not there.
        """
        if self.spec.dims != 3:
            if axis is not None or index is not None:
                raise ShapeError("only volumes have slices; ask without axis and index")
            return array
        axis = 0 if axis is None else axis
        if not 0 <= axis < 3:
            raise ShapeError(f"a volume has the axes 0, 1 and 2, not {axis}")
        size = array.shape[array.ndim - 3 + axis]
        index = size // 2 if index is None else index
        if not 0 <= index < size:
            raise ShapeError(f"there are slices 0 to {size - 1} along axis {axis}, not {index}")
        flat: np.ndarray = array.take(index, axis=array.ndim - 3 + axis)
        return flat

    def thumbnail(self, number: int, label: np.ndarray | None = None) -> bytes:
        """A small PNG picture of a case: image, outline of the label, outline of the prediction.

        Of a recording: its wave, a strip for the label, one for the prediction. Of continuous
        labels: image, label and prediction side by side.

        Args:
            number: of the case.
            label: the label to show, int16 ``(*space)``; by default the original.

        Raises:
            DataError, NonFiniteError: as :meth:`label`.
        """
        label = self.label(number) if label is None else label
        predicted, image = self.label(number, "prediction"), self.image(number).array
        axis, index = self._telling(number, label)
        arrays = [self.plane(array, axis, index) for array in (image, label, predicted)]
        if self.spec.task == "regression":
            return encode_png(_side_by_side(arrays))
        if self.spec.dims == 1:
            return encode_png(draw_recording(arrays[0][0], arrays[1], arrays[2]))
        pixels = as_pixels(arrays[0], self.about(number).display)
        return encode_png(draw_plane(pixels, arrays[1], arrays[2]))

    def _telling(self, number: int, label: np.ndarray) -> tuple[int | None, int | None]:
        """The slice of a volume that holds most of the label, across its coarsest axis."""
        if self.spec.dims != 3:
            return None, None
        spacing = self.about(number).spacing
        axis = int(np.argmax(spacing)) if spacing else 0
        if label.ndim > 3:
            return axis, None
        held = (label > 0).sum(axis=tuple(a for a in range(3) if a != axis))
        return axis, int(held.argmax()) if held.any() else None


def _samples(predictor: Predictor, order: Sequence[Ranked]) -> tuple[Sample, ...]:
    run = predictor.run
    run.data_folder()
    known = {sample.label: sample for sample in run.data.samples}
    strange = [one.label for one in order if one.label not in known]
    if strange:
        raise RunError(
            f"{run.path} has no label {strange[0]}, which its audit names; make the audit again"
        )
    return tuple(known[one.label] for one in order)


def contrast_of(label: np.ndarray) -> tuple[float, float]:
    """The values of continuous labels ``(channels, *space)`` that become black and white.

    >>> contrast_of(np.array([[0.0, np.nan, 2.0]]))
    (0.01, 1.99)
    """
    known = label[0][~np.isnan(label[0])]
    return suggest_contrast(known[None]) if known.size else (0.0, 1.0)


def _bytes(array: np.ndarray) -> int:
    return array.nbytes


def _side_by_side(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Image, label and prediction ``(channels, *plane)`` in one small picture."""
    image, label, prediction = arrays
    if image.ndim == 2:
        lanes = [draw_wave(np.nan_to_num(array[0]), 24) for array in arrays]
        return np.concatenate(lanes)
    limits = contrast_of(label)
    parts = [as_pixels(image, suggest_contrast(image))]
    parts += [as_grey(array[0], limits) for array in (label, prediction)]
    coloured = [p if p.ndim == 3 else np.repeat(p[..., None], 3, -1) for p in parts]
    return shrink(np.concatenate(coloured, axis=1))
