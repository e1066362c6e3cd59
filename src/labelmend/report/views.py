"""From a sample of any dimension to what can be shown flat: a plane, its pixels, its lines."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from labelmend.files.readers import load_verified, read_as, read_label
from labelmend.inference.overlay import slicing_axis
from labelmend.types import DataSpec, Raster, Sample

TILE = 320
"""Longest side of a picture, in its own pixels."""
_TINY = 160
_AXES = ("first", "second", "third")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sample as read: label and valid as in ``data.readers.read_label``."""

    raster: Raster
    label: np.ndarray
    valid: np.ndarray


@dataclass(frozen=True, slots=True)
class View:
    """Which plane of a sample is shown, and how it lies.

    ``axis`` is ``None`` for 2-D. ``upright`` turns a plane of a scanner's volume so that its
    second axis points up. ``aspect`` is width over height of one position.
    """

    axis: int | None = None
    index: int = 0
    depth: int = 1
    upright: bool = False
    aspect: float = 1.0

    @classmethod
    def of(cls, loaded: Loaded, *, task: str) -> View:
        """The whole of a 2-D sample; of a volume the slice that holds most of the label."""
        raster, space = loaded.raster, loaded.valid.shape
        scanner = raster.affine is not None
        spacing = raster.spacing or (1.0,) * len(space)
        if len(space) == 2:
            return cls(aspect=_clip_aspect(spacing[1] / spacing[0]))
        axis = slicing_axis(spacing, scanner)
        others = tuple(a for a in range(3) if a != axis)
        index = space[axis] // 2
        if task == "segmentation":
            held = ((loaded.label > 0) & loaded.valid).sum(axis=others)
            index = int(held.argmax()) if held.any() else index
        down, across = (spacing[a] for a in (others[::-1] if scanner else others))
        return cls(axis, index, space[axis], scanner, _clip_aspect(across / down))

    @property
    def note(self) -> str:
        """Where the plane lies, for a caption; nothing for 2-D."""
        if self.axis is None:
            return ""
        return f"slice {self.index + 1} of {self.depth} along the {_AXES[self.axis]} axis"

    def plane(self, array: np.ndarray) -> np.ndarray:
        """The plane ``(..., height, width)`` of an array ``(..., *space)``."""
        if self.axis is None:
            return array
        flat = array.take(self.index, axis=array.ndim - 3 + self.axis)
        return np.flip(flat.swapaxes(-1, -2), axis=-2) if self.upright else flat


def read_sample(root: Path, sample: Sample, spec: DataSpec) -> Loaded:
    """Image and label, of which no byte has changed since the run began.

    Raises:
        DataError: when a file cannot be read or has changed.
    """
    path = root / sample.image
    content = load_verified(path, sample.image_sha256)
    raster = read_as(path, spec, content=content)
    path = root / sample.label
    content = load_verified(path, sample.label_sha256)
    label, valid = read_label(path, spec, raster, content=content)
    return Loaded(raster, label, valid)


def as_pixels(plane: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Channels ``(channels, height, width)`` as 8-bit pixels ``(height, width[, 3])``.

    Three channels become colour; of any other number the first is shown in grey. 8-bit colour is
    left as it is, all else is stretched between ``limits``, by default its 0.5 and 99.5 percent.

    >>> as_pixels(np.array([[[0.0, 1.0]]]), (0.0, 1.0)).tolist()
    [[0, 255]]
    """
    shown = plane[:3] if plane.shape[0] == 3 else plane[:1]
    if limits is None and plane.shape[0] == 3 and plane.dtype == np.uint8:
        return np.moveaxis(shown, 0, -1)
    values = shown.astype(np.float64)
    low, high = limits or display_range(values)
    scaled = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    pixels = np.rint(scaled * 255).astype(np.uint8)
    return np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0]


def display_range(values: np.ndarray) -> tuple[float, float]:
    """The values that become black and white."""
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high > low else (float(values.min()), float(values.max()))


def encode(pixels: np.ndarray, longest: int = TILE) -> tuple[str, tuple[int, int], bool]:
    """A picture no longer than a tile: its data address, its width and height, whether tiny."""
    picture = Image.fromarray(pixels)
    size = shown_size(pixels.shape[0], pixels.shape[1], longest)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    tiny = max(size) <= _TINY
    kind: Literal["png", "jpeg"] = "png" if tiny else "jpeg"
    buffer = io.BytesIO()
    if tiny:
        picture.save(buffer, "png", optimize=True)
    else:
        picture.save(buffer, "jpeg", quality=82, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind};base64,{data}", size, tiny


def shown_size(height: int, width: int, longest: int = TILE) -> tuple[int, int]:
    """Width and height of a tile for a plane of this size; small ones keep their own."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def outline(mask: np.ndarray) -> str:
    """The border of a mask ``(height, width)`` as an SVG path on its tile; empty without one.

    >>> outline(np.zeros((4, 4), bool))
    ''
    """
    if not mask.any():
        return ""
    height, width = mask.shape
    size = shown_size(height, width)
    share = Image.fromarray(mask.astype(np.float32))
    if size != (width, height):
        share = share.resize(size, Image.Resampling.BOX)
    padded = np.pad(np.asarray(share), 1)
    lines = []
    for contour in find_contours(padded, 0.5):
        points = approximate_polygon(contour, 0.35)
        if len(points) > 2:
            # Positions are counted at their centres, and the padding moved them by one.
            pairs = (f"{x - 0.5:.4g} {y - 0.5:.4g}" for y, x in points[:-1])
            lines.append("M" + "L".join(pairs) + "Z")
    return "".join(lines)


def spans(label: np.ndarray, value: int | bool) -> list[tuple[float, float]]:
    """Begin and end of every run of a value along the only axis, as shares of its length.

    >>> spans(np.array([0, 1, 1, 0]), 1)
    [(0.25, 0.75)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], label == value, [False]])))
    return [(float(a) / len(label), float(b) / len(label)) for a, b in edges.reshape(-1, 2)]


def wave(signal: np.ndarray, limits: tuple[float, float], columns: int = 420) -> str:
    """A signal as an SVG path in a box of 1000 by 100; where it is long, its envelope."""
    low, high = limits
    values = 100 - 100 * (signal.astype(np.float64) - low) / max(high - low, 1e-12)
    values = np.clip(values, -2, 102)
    place = (np.arange(len(values)) + 0.5) / len(values) * 1000
    if len(values) > 2 * columns:
        parts = np.array_split(np.arange(len(values)), columns)
        keep = [sorted((p[values[p].argmin()], p[values[p].argmax()])) for p in parts]
        chosen = np.unique(np.concatenate(keep))
        values, place = values[chosen], place[chosen]
    return "M" + "L".join(f"{x:.4g} {y:.3g}" for x, y in zip(place, values, strict=True))


def _clip_aspect(aspect: float) -> float:
    return aspect if 0.1 < aspect < 10 and abs(aspect - 1) > 0.05 else 1.0
