"""The one form in which all formats meet: an image, and what somebody drew on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from labelmend.errors import DataError
from labelmend.files.readers import check_sizes
from labelmend.labels.band import uncertain_band
from labelmend.types import Quality, Raster, Split

UNKNOWN = -1
"""In labels of this room: nobody said what is there."""

Crowd = Literal["object", "unknown"]
"""What an annotation with ``iscrowd`` 1 of COCO is."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What a thing covers within a window; outside of it, it covers nothing.

    Attributes:
        place: the window, a slice per axis with whole numbers from 0 to the image's size.
        mask: bool, as large as the window.
    """

    place: tuple[slice, ...]
    mask: np.ndarray


Covering = Callable[[Raster], np.ndarray | Part]
"""Image → the positions that a thing covers: ``(*space)`` bool, or a part of that."""

Reading = Callable[[Raster], np.ndarray]
"""Image → its label as a file has it: ``(*space)`` class indices with :data:`UNKNOWN`."""


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """One object as drawn.

    Attributes:
        name: its class, as the file calls it.
        covers: the positions; nothing large is made before it is called.
        where: which object of its file it is, for messages.
    """

    name: str
    covers: Covering
    where: str


@dataclass(frozen=True, slots=True, eq=False)
class Annotated:
    """One image, and what a file of another tool says of it.

    Attributes:
        image: the image's path in one of the folders of :class:`Found`, with forward slashes.
        source: the file that says it, for messages.
        things: the objects in drawing order: later ones lie on top.
        size: of the image, as the file claims; None where it does not.
        stored: gives, for the image, class indices ``(*space)`` with :data:`UNKNOWN`, where a
            format has one value per position; then there are no things.
        annotator: who drew it; empty where the file does not say.
        split: where the file says it.
    """

    image: str
    source: Path
    things: tuple[Thing, ...] = ()
    size: tuple[int, ...] | None = None
    stored: Reading | None = None
    annotator: str = ""
    split: Split | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be read: a file or folder, where its images lie, which classes are wanted.

    ``images`` is None where images lie with the labels, ``classes`` is empty where all that the
    files name are wanted, ``crowd`` is None where nobody said what COCO's crowds are.
    """

    path: Path
    images: Path | None = None
    classes: tuple[str, ...] = ()
    crowd: Crowd | None = None

    @property
    def root(self) -> Path:
        """The folder that images must not lie outside of."""
        return self.images or self.folder

    @property
    def folder(self) -> Path:
        """The folder itself, or the one that the file lies in."""
        return self.path if self.path.is_dir() else self.path.parent


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """All that a reader found.

    Attributes:
        items: one per label, in a fixed order.
        classes: their names, the background first.
        folders: where images may lie, the likeliest first; all of them in ``Source.root``.
        dims: space axes of the images.
        notes: sentences for a person.
    """

    items: tuple[Annotated, ...]
    classes: tuple[str, ...]
    folders: tuple[Path, ...]
    dims: int = 2
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """One label on its way to another tool.

    Attributes:
        name: the image's name there, with its suffix and perhaps folders.
        stem: what a label file of its own is called, without suffix; one per image.
        label: ``(*space)`` class indices with :data:`UNKNOWN`.
        like: the image.
        quality: strong or weak.
        annotator: who drew it; may be empty.
        split: what it is for.
    """

    name: str
    stem: str
    label: np.ndarray
    like: Raster
    quality: Quality = "strong"
    annotator: str = ""
    split: Split = "train"

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.label.shape
        return rows, columns


@contextmanager
def within(what: object) -> Iterator[None]:
    """Puts a file's name or an object's number before the text of every data error from within."""
    try:
        yield
    except DataError as error:
        raise type(error)(f"{what}: {error}") from error.__cause__


def paint(
    item: Annotated, image: Raster, numbers: Mapping[str, int], *, band: float = 0.0
) -> np.ndarray:
    """The label of one image: ``(*space)`` int32 class indices with :data:`UNKNOWN`.

    Args:
        item: what is claimed of it.
        image: the image.
        numbers: class name → class index, or :data:`UNKNOWN` for what is to be ignored.
        band: positions at most so far from an object's border become unknown, unless a later
            object covers them.

    Raises:
        DataError: when the sizes differ or an object cannot be drawn, naming file and object.
    """
    size = image.array.shape[1:]
    with within(item.source):
        if item.size is not None:
            with within(f"image {item.image[:200]}"):
                check_sizes(item.size, size)
        if item.stored is not None:
            return _banded(item.stored(image).astype(np.int32), band)
        label = np.zeros(size, dtype=np.int32)
        for thing in item.things:
            with within(thing.where):
                part = _as_part(thing.covers(image))
            label[part.place][part.mask] = numbers[thing.name]
            if band > 0 and numbers[thing.name] != UNKNOWN:
                part = _widened(part, band, size)
                label[part.place][uncertain_band(part.mask, band)] = UNKNOWN
    return label


def _as_part(covered: np.ndarray | Part) -> Part:
    if isinstance(covered, Part):
        return covered
    return Part(tuple(slice(0, length) for length in covered.shape), covered)


def _widened(part: Part, band: float, size: tuple[int, ...]) -> Part:
    """The same within a window that also holds all that is at most a band away."""
    more = [math.ceil(min(band, length)) + 1 for length in size]
    spans = [
        (max(0, here.start - far), min(length, here.stop + far))
        for here, far, length in zip(part.place, more, size, strict=True)
    ]
    around = [
        (here.start - start, stop - here.stop)
        for here, (start, stop) in zip(part.place, spans, strict=True)
    ]
    return Part(tuple(slice(*span) for span in spans), np.pad(part.mask, around))


def _banded(label: np.ndarray, band: float) -> np.ndarray:
    if band <= 0:
        return label
    found = label.copy()
    for index in np.unique(label[label > 0]):
        found[uncertain_band(label == index, band)] = UNKNOWN
    return found


def names_of(items: Sequence[Annotated]) -> set[str]:
    """The names of all things, as the files call them."""
    return {thing.name for item in items for thing in item.things}
