"""How a label is bent, as pictures: a grid bent alike, arrows, the label before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from skimage.measure import find_contours

from labelmend.inference.fix import Opened
from labelmend.inference.places import Place, moved_arrays
from labelmend.report.markup import Html, element, join
from labelmend.report.pictures import (
    Painter,
    make_canvas,
    make_lane,
    make_lines,
    make_outlines,
    make_shade,
)
from labelmend.report.place_pictures import Arrow, make_arrow
from labelmend.report.views import Loaded, View, as_pixels, display_range, shown_size, wave
from labelmend.report.warp_axes import Axis, make_axes, make_scale, round_step

SIDE = 320.0
"""The longest side of a picture, in its own units; about pixels on a screen."""

LINES = 12
"""A grid has about so many lines along the longer side."""

_SEEN = 2.0
"""An arrow shorter than so many units of the picture is none."""

_FINE = 192
"""Displacements are looked up at no more places along a side than this to draw lines by."""

Panel = tuple[str, np.ndarray, Html]
"""What a picture is called, its pixels, and what is drawn over them."""


@dataclass(frozen=True, slots=True, eq=False)
class Bend:
    """A label that is bent.

    Attributes:
        opened: the sample, and what the network says of it.
        prediction: class indices ``(*space)``, or values ``(channels, *space)``, of the file.
        place: where the label belongs, in positions of the file, with its field.
    """

    opened: Opened
    prediction: np.ndarray
    place: Place

    def loaded(self, place: Place) -> Loaded:
        """The sample with its label at a place."""
        label, valid = moved_arrays(self.opened.label, self.opened.valid, place)
        return Loaded(self.opened.raster, label, valid)


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A plane of a sample as it is drawn, and the field in it.

    Attributes:
        view: which plane.
        size: its height and width in positions.
        scale: units of the picture to a position, down and across.
        field: ``(2, height, width)``, displacements down and across, in positions.
        every: positions between two lines of a grid; half of that between two arrows.
    """

    view: View
    size: tuple[int, int]
    scale: tuple[float, float]
    field: np.ndarray
    every: int

    @classmethod
    def of(cls, view: View, field: np.ndarray) -> Sheet:
        """The plane of a view; ``field`` is ``(dims, *space)``."""
        flat = plane_field(view, field)
        height, width = flat.shape[1:]
        unit = SIDE / max(height, width * view.aspect)
        every = round_step(max(height, width) / LINES)
        return cls(view, (height, width), (unit, unit * view.aspect), flat, every)

    @property
    def space(self) -> tuple[float, float]:
        """Its height and width in the picture's units."""
        return self.size[0] * self.scale[0], self.size[1] * self.scale[1]

    @property
    def larger(self) -> float:
        """How many times as long as they are arrows are drawn."""
        longest = float(np.hypot(*self.field).max(initial=0.0))
        return float(np.clip(0.75 * self.every / longest, 1.0, 20.0)) if longest else 1.0


def draw_bend(painter: Painter, bend: Bend, alt: str) -> tuple[Html, str]:
    """A grid and arrows over image and prediction, and the label before and after; a note."""
    if bend.place.field is None:
        raise AssertionError("only a label that is bent is drawn so")
    if painter.spec.dims == 1:
        return _strip(painter, bend, bend.place.field, alt), ""
    before, after = bend.loaded(bend.place.whole()), bend.loaded(bend.place)
    view = View.of(after, task=painter.spec.task)
    sheet = Sheet.of(view, bend.place.field)
    make = _values if painter.spec.task == "regression" else _classes
    frames = [
        element("div", make_axes(pixels, over, sheet.size, sheet.scale, axes_of(view, one, alt)),
                element("span", one))
        for one, pixels, over in make(sheet, bend, before, after)
    ]  # fmt: skip
    times = sheet.larger
    said = f"arrows {times:.2g} times as long as they are" if times > 1.05 else ""
    note = " · ".join(text for text in (view.note, said) if text)
    return element("div", *frames, class_="row of3 fields"), note


def plane_field(view: View, field: np.ndarray) -> np.ndarray:
    """The part of a field ``(dims, *space)`` in a plane: ``(2, height, width)``, down and across.

    >>> volume = np.stack([np.full((2, 3, 4), value) for value in (1.0, 2.0, 3.0)])
    >>> plane_field(View(axis=0), volume)[:, 0, 0].tolist()
    [2.0, 3.0]
    >>> plane_field(View(axis=2, upright=True), volume)[:, 0, 0].tolist()
    [-2.0, 1.0]
    """
    if view.axis is None:
        return field
    first, second = (part for axis, part in enumerate(field) if axis != view.axis)
    flat = view.plane(np.stack([second, first] if view.upright else [first, second]))
    # What points along an axis that is drawn upwards points the other way on the page.
    return flat * np.array([-1.0, 1.0]).reshape(2, 1, 1) if view.upright else flat


def axes_of(view: View, name: str, alt: str) -> tuple[Axis, Axis, str]:
    """What is written along the sides of a picture, and for who does not see it."""
    if view.axis is None:
        return Axis("positions down"), Axis("positions to the right"), f"{alt}: {name}"
    words = [f"positions, {n} axis" for n in ("first", "second", "third")]
    del words[view.axis]
    down, across = words[::-1] if view.upright else words
    return Axis(down, upward=view.upright), Axis(across), f"{alt}: {name}"


# ---------------------------------------------------------------------- panels


def _classes(sheet: Sheet, bend: Bend, before: Loaded, after: Loaded) -> Sequence[Panel]:
    plane = sheet.view.plane
    pixels = as_pixels(plane(bend.opened.raster.array))
    said = make_outlines("prediction", plane(bend.prediction))
    one, other = (
        make_outlines("label", plane(loaded.label), plane(loaded.valid))
        for loaded in (before, after)
    )
    shade = make_shade(~plane(after.valid))
    return [
        ("image, and a grid bent as the label is", pixels, make_grid(sheet)),
        (
            "prediction, the label before, and how it is bent",
            pixels,
            join(fitted(sheet, join(one, said)), make_arrows(sheet)),
        ),
        ("label after", pixels, fitted(sheet, join(shade, other, said))),
    ]


def _values(sheet: Sheet, bend: Bend, before: Loaded, after: Loaded) -> Sequence[Panel]:
    """Likewise of continuous labels, those of labels and prediction on one scale."""
    plane = sheet.view.plane
    label, valid = plane(before.label), plane(before.valid)
    finite = label[:, valid][np.isfinite(label[:, valid])]
    limits = display_range(finite) if finite.size else (0.0, 1.0)
    shade = join(make_shade(~plane(after.valid)))
    image = as_pixels(plane(bend.opened.raster.array))
    said = as_pixels(plane(bend.prediction), limits)
    return [
        ("image, and a grid bent as the label is", image, make_grid(sheet)),
        ("prediction, and how the label is bent", said, make_arrows(sheet)),
        ("label after", as_pixels(plane(after.label), limits), fitted(sheet, shade)),
    ]


def fitted(sheet: Sheet, layers: Html) -> Html:
    """Lines that were drawn on a tile, on the picture."""
    width, height = shown_size(*sheet.size)
    tall, wide = sheet.space
    return element("g", layers, transform=f"scale({wide / width:.6g} {tall / height:.6g})")


def make_grid(sheet: Sheet) -> Html:
    """Where lines go that were straight before the label was bent.

    A line holds the positions whose content came from one line: where ``p − field(p)`` is the same.
    """
    step = max(1, math.ceil(max(sheet.size) / _FINE))
    lines = []
    for axis, flat in enumerate(sheet.field):
        own = np.arange(sheet.size[axis], dtype=np.float64)
        from_ = (own[:, None] if axis == 0 else own) - flat
        for level in range(0, sheet.size[axis] + sheet.every, sheet.every):
            lines += [step * line for line in find_contours(from_[::step, ::step], level + 0.5)]
    down, right = sheet.scale
    path = "".join(
        "M" + "L".join(f"{(x + 0.5) * right:.1f} {(y + 0.5) * down:.1f}" for y, x in line)
        for line in lines
    )
    return join(
        element("path", class_="halo", d=path), element("path", class_="lattice", d=path)
    )  # fmt: skip


def make_arrows(sheet: Sheet) -> Html:
    """An arrow at every crossing of lines twice as dense as the grid's, where it can be seen."""
    every, (down, right), larger = max(1, sheet.every // 2), sheet.scale, sheet.larger
    rows, columns = (np.arange(min(every // 2, n - 1), n, every) for n in sheet.size)
    arrows = []
    for y, x in product(rows.tolist(), columns.tolist()):
        by = sheet.field[0, y, x] * down * larger, sheet.field[1, y, x] * right * larger
        if math.hypot(*by) >= _SEEN:
            centre = (y + 0.5) * down, (x + 0.5) * right
            arrows.append(make_arrow(Arrow(centre, by, clear=True), 1.0, 1.0, 2 * every * down))
    return element("g", *arrows, class_="quiver")


# ---------------------------------------------------------------------- recordings and spectra


def _strip(painter: Painter, bend: Bend, field: np.ndarray, alt: str) -> Html:
    """The label before and after, what is predicted, and by how much every position moved."""
    before, after = bend.loaded(bend.place.whole()), bend.loaded(bend.place)
    if painter.spec.task == "regression":
        rows = [
            ("label before", make_lines(before, bend.prediction, f"{alt}: before")),
            ("label after", make_lines(after, bend.prediction, f"{alt}: after")),
        ]
    else:
        everywhere = np.ones_like(before.valid)
        rows = [
            ("label before", make_lane("label", before.label, before.valid)),
            ("prediction", make_lane("prediction", bend.prediction, everywhere)),
            ("label after", make_lane("label", after.label, after.valid)),
        ]
    rows += [_curve(field[0]), ("positions", make_scale(field.shape[1]))]
    parts = [element("div", element("span", text), drawing) for text, drawing in rows]
    return element("div", *parts, class_="strip named", role="img", aria_label=alt)


def _curve(field: np.ndarray) -> tuple[str, Html]:
    """By how much every position moves to the right, over a line where nothing moves; its range."""
    low, high = min(0.0, float(field.min())), max(0.0, float(field.max()))
    zero = 100 * high / max(high - low, 1e-12)
    marks = join(
        element("path", class_="origin", d=f"M0 {zero:.4g}H1000"),
        element("path", class_="signal", d=wave(field, (low, high))),
    )
    said = f"bent by {low:+.1f} to {high:+.1f} positions to the right".replace("-", "−")
    return said, element("div", make_canvas(marks), class_="wave")
