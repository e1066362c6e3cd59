"""Whole-slide images, one picture of their pyramid at a time, read region by region."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from labelmend.errors import DataError, SettingsError
from labelmend.files.formats import damaged, split_name
from labelmend.files.sources import check_regular
from labelmend.files.tiled import StripImage

SLIDES = frozenset((".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi"))
"""Suffixes that are always opened as whole-slide images."""

_PYRAMIDS = frozenset((".tif", ".tiff"))
_BLOCK = 256
"""Rows that are decoded at once where the file does not say how high its tiles are."""
_HIGHEST = 1024
_APART = 1.5
"""By how many times a picture's spacing may be off the one that is wanted."""


def is_slide(name: str, level: int | None = None) -> bool:
    """Whether a file is opened as a whole-slide image: by its name, or TIFF where a level is given.

    >>> is_slide("a.svs"), is_slide("a.tif"), is_slide("a.tif", level=1)
    (True, False, True)
    """
    suffix = split_name(name)[1]
    return suffix in SLIDES or (level is not None and suffix in _PYRAMIDS)


def open_slide(
    path: Path, level: int | None = None, wanted: Sequence[float] | None = None
) -> StripImage:
    """One picture of a whole-slide image, red, green and blue, that gives strips of its rows.

    What was not scanned has the slide's background colour, white where it names none. The spacing
    is what the slide says of itself (micrometres per position), times how much smaller the picture
    is. The trap: where a picture's sides are not an exact fraction of the largest one's, its rows
    lie between those of the largest, and the library mixes neighbours by up to half a position of
    the largest picture.

    Args:
        path: a file that OpenSlide reads.
        level: which picture, 0 being the largest; by default the one nearest to ``wanted``, and
            the largest where nobody knows a spacing.
        wanted: the distance between positions that is wanted, in millimetres.

    Raises:
        SettingsError: where the library is not installed.
        DataError: for a file that is damaged or no slide, that has no such picture, or none near
            the wanted spacing; naming it.

    Source: the library is OpenSlide (Goode et al. 2013).
    """
    check_regular(path)
    library = _library(path)
    try:
        slide = library.OpenSlide(str(path))
    except (library.OpenSlideError, OSError) as error:
        raise DataError(
            f"{path}: is no whole-slide image that OpenSlide reads, or is damaged; copy or export "
            "it again, or save it as tiled TIFF"
        ) from error
    try:
        chosen = _level(path, slide, level, wanted)
        picture = _Picture(path, slide, chosen)
    except BaseException:
        slide.close()
        raise
    width, height = slide.level_dimensions[chosen]
    shape, kind = (3, int(height), int(width)), np.dtype(np.uint8)
    return StripImage(path, shape, kind, _spacing(slide, chosen), picture.read, slide)


def _library(path: Path) -> Any:
    try:
        return import_module("openslide")
    except ImportError as error:
        raise SettingsError(
            f"{path}: whole-slide images need one more package: pip install 'labelmend[slides]'; "
            "or save it as tiled TIFF"
        ) from error


def _level(path: Path, slide: Any, asked: int | None, wanted: Sequence[float] | None) -> int:
    if asked is not None:
        if asked >= slide.level_count:
            raise DataError(
                f"{path}: has {slide.level_count} picture{'s' * (slide.level_count != 1)}, so "
                f"--level is at most {slide.level_count - 1}, not {asked}"
            )
        return asked
    spacings = [_spacing(slide, level) for level in range(slide.level_count)]
    if wanted is None or spacings[0] is None:
        return 0
    goal = math.prod(wanted)
    apart = [abs(math.log(math.prod(each or (1.0,)) / goal)) / 2 for each in spacings]
    best = min(range(len(apart)), key=apart.__getitem__)
    if apart[best] > math.log(_APART):
        there = ", ".join(f"{math.sqrt(math.prod(each or (1.0,))):.3g}" for each in spacings)
        raise DataError(
            f"{path}: its pictures have a spacing of {there} mm, and the run's images "
            f"{math.sqrt(goal):.3g} mm; take one all the same by --level"
        )
    return best


def _spacing(slide: Any, level: int) -> tuple[float, float] | None:
    """Rows and columns of a picture, in millimetres."""
    try:
        sides = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "yx"]
    except (KeyError, ValueError):
        return None
    full, size = slide.level_dimensions[0][::-1], slide.level_dimensions[level][::-1]
    down, across = (s / 1000 * n / m for s, n, m in zip(sides, full, size, strict=True))
    known = all(0 < each < math.inf for each in (down, across))
    return (down, across) if known else None


@dataclass(slots=True)
class _Picture:
    """Reads rows of one picture in blocks that always begin at the same rows."""

    path: Path
    slide: Any
    level: int
    _rows: int = field(init=False)
    _background: tuple[int, ...] = field(init=False)
    _kept: dict[int, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        about: Mapping[str, str] = self.slide.properties
        told = about.get(f"openslide.level[{self.level}].tile-height", "")
        self._rows = min(int(told), _HIGHEST) if told.isdecimal() and int(told) else _BLOCK
        colour = about.get("openslide.background-color", "FFFFFF")
        self._background = tuple(bytes.fromhex(colour))[:3]

    def read(self, start: int, stop: int) -> np.ndarray:
        """``(3, stop - start, columns)``; blocks are kept while they are touched."""
        numbers = range(start // self._rows, -(-stop // self._rows))
        self._kept = {n: self._kept[n] if n in self._kept else self._block(n) for n in numbers}
        first = numbers.start * self._rows
        rows = np.concatenate(list(self._kept.values()), axis=1)
        return np.ascontiguousarray(rows[:, start - first : stop - first])

    def _block(self, number: int) -> np.ndarray:
        width, height = self.slide.level_dimensions[self.level]
        begin = number * self._rows
        size = (width, min(self._rows, height - begin))
        # places are asked for in positions of the largest picture
        place = (0, round(begin * self.slide.level_downsamples[self.level]))
        try:
            found = np.asarray(self.slide.read_region(place, self.level, size))
        except Exception as error:  # the library raises its own and Pillow's
            raise DataError(f"{damaged('whole-slide image')} (picture {self.level})") from error
        clear = found[..., 3] < 255
        colours = found[..., :3].copy()
        if clear.any():
            share = found[clear][:, 3:].astype(np.float64) / 255
            mixed = colours[clear] * share + np.array(self._background) * (1 - share)
            colours[clear] = mixed.round().astype(np.uint8)
        return np.moveaxis(colours, -1, 0)
