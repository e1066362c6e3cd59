"""How a label is put in place, as pictures: before, after, and the fit at every shift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelmend.inference.fix import Opened
from labelmend.inference.places import Place, moved_arrays
from labelmend.report.markup import Html, element, join
from labelmend.report.pictures import (
    Painter,
    make_canvas,
    make_frame,
    make_lane,
    make_lines,
    make_outlines,
    make_rectangles,
    make_shade,
)
from labelmend.report.views import Loaded, View, as_pixels, display_range, encode, wave

WIDE = 640
"""Longest side of a picture with arrows over it, in its own pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A label that is put in place.

    Attributes:
        opened: the sample, and what the network says of it.
        prediction: class indices ``(*space)``, or values ``(channels, *space)``, of the file.
        place: where the label belongs, in positions of the file.
        fit: ``(*shifts)``, how likely every shift is, in nats, as the network sees them.
        peak: the shift where the fit is best, in the same positions.
    """

    opened: Opened
    prediction: np.ndarray
    place: Place
    fit: np.ndarray
    peak: tuple[int, ...]

    @property
    def before(self) -> Loaded:
        """The sample with its label as it was."""
        return Loaded(self.opened.raster, self.opened.label, self.opened.valid)

    @property
    def after(self) -> Loaded:
        """The sample with its label in its place."""
        moved, valid = moved_arrays(self.opened.label, self.opened.valid, self.place)
        return Loaded(self.opened.raster, moved, valid)


def draw_example(painter: Painter, example: Example, alt: str) -> tuple[Html, str]:
    """Image, prediction, the label before and after, and the fit at every shift; a note."""
    spec = painter.spec
    if spec.dims == 1:
        return _strip(painter, example, alt), ""
    before, after = example.before, example.after
    view = View.of(before, task=spec.task)
    if spec.task == "regression":
        panels = _values(view, example, after)
    else:
        pixels = as_pixels(view.plane(before.raster.array))
        said = make_outlines("prediction", view.plane(example.prediction))
        lines = [_label(view, one) for one in (before, after)]
        shade = make_shade(~view.plane(after.valid))
        panels = [
            ("image", pixels, None),
            ("prediction", pixels, said),
            ("label before", pixels, join(lines[0], said)),
            ("label after", pixels, join(shade, lines[1], said)),
        ]
    frames = [
        element(
            "div",
            make_frame(plane, layers, f"{alt}: {name}", view.aspect),
            element("span", name),
        )
        for name, plane, layers in panels
    ]
    frames.append(element("div", _map(view, example, alt), element("span", "fit at every shift")))
    return element("div", *frames, class_=f"row of{len(frames)}"), view.note


def _label(view: View, loaded: Loaded) -> Html:
    return make_outlines("label", view.plane(loaded.label), view.plane(loaded.valid))


def _values(
    view: View, example: Example, after: Loaded
) -> list[tuple[str, np.ndarray, Html | None]]:
    """Panels of continuous labels, those of labels and prediction on one scale."""
    before = example.before
    label = view.plane(before.label)
    known = np.where(view.plane(before.valid), label, np.nan)
    finite = known[np.isfinite(known)]
    limits = display_range(finite) if finite.size else (0.0, 1.0)
    shade = make_shade(~view.plane(after.valid))
    return [
        ("image", as_pixels(view.plane(before.raster.array)), None),
        ("prediction", as_pixels(view.plane(example.prediction), limits), None),
        ("label before", as_pixels(np.nan_to_num(known, nan=limits[0]), limits), None),
        ("label after", as_pixels(view.plane(after.label), limits), shade),
    ]


def _map(view: View, example: Example, alt: str) -> Html:
    """The fit at every shift, brighter where better: its peak ringed, no shift crossed."""
    fit, peak = example.fit, example.peak
    centre = tuple((n - 1) // 2 for n in fit.shape)
    shown = (
        View(view.axis, centre[view.axis] + peak[view.axis], upright=view.upright)
        if view.axis is not None
        else View()
    )
    marks = np.zeros((2, *fit.shape), bool)
    marks[(0, *(c + p for c, p in zip(centre, peak, strict=True)))] = True
    at_zero = list(centre)
    if view.axis is not None:
        at_zero[view.axis] = shown.index
    marks[(1, *at_zero)] = True
    plane = shown.plane(_scaled(fit))
    places = [np.argwhere(mark)[0] for mark in shown.plane(marks)]
    height, width = plane.shape
    (y, x), (down, right) = (place + 0.5 for place in places)
    arm = 0.03 * max(height, width)
    cross = f"M{right - arm:.4g} {down}h{2 * arm:.4g}M{right} {down - arm:.4g}v{2 * arm:.4g}"
    ring = element("circle", class_="peak", cx=float(x), cy=float(y), r=0.045 * max(height, width))
    # Where all shifts fit alike, none is the best.
    best = [ring] if fit.min() < fit.max() else []
    layers = join(element("path", class_="origin", d=cross), *best)
    pixels = np.rint(255 * plane).astype(np.uint8)
    return make_frame(pixels, layers, f"{alt}: fit at every shift", 1.0)


def _scaled(fit: np.ndarray) -> np.ndarray:
    """From 0 at the worst shift to 1 at the best; 1 everywhere where all are alike."""
    low, high = float(fit.min()), float(fit.max())
    return (fit - low) / (high - low) if high > low else np.ones_like(fit)


# ---------------------------------------------------------------------- recordings and spectra


def _strip(painter: Painter, example: Example, alt: str) -> Html:
    """The label before and after, what is predicted, the image, and the fit over shifts."""
    before, after = example.before, example.after
    if painter.spec.task == "regression":
        rows = [
            ("before", make_lines(before, example.prediction, f"{alt}: before")),
            ("after", make_lines(after, example.prediction, f"{alt}: after")),
        ]
    else:
        tint = make_rectangles("tint", after.label, after.valid)
        rows = [
            ("image", painter.recording(before, tint, alt)),
            (
                "prediction",
                make_lane("prediction", example.prediction, np.ones_like(before.valid)),
            ),
            ("label before", make_lane("label", before.label, before.valid)),
            ("label after", make_lane("label", after.label, after.valid)),
        ]
    rows.append(("fit at every shift", _curve(example)))
    parts = [element("div", element("span", name), drawing) for name, drawing in rows]
    return element("div", *parts, class_="strip named", role="img", aria_label=alt)


def _curve(example: Example) -> Html:
    width = len(example.fit)
    peak = 1000 * ((width - 1) / 2 + example.peak[0] + 0.5) / width
    line = element("path", class_="signal", d=wave(_scaled(example.fit), (0.0, 1.0)))
    marks = join(
        element("path", class_="origin", d="M500 0V100"),
        element("path", class_="peak", d=f"M{peak:.5g} 0V100"),
    )
    return element("div", make_canvas(join(marks, line)), class_="wave")


# ---------------------------------------------------------------------- arrows


@dataclass(frozen=True, slots=True, eq=False)
class Arrow:
    """Where one patch of a label belongs: its centre and its displacement, in positions."""

    centre: tuple[float, float]
    displacement: tuple[float, float]
    clear: bool


def draw_quiver(
    image: np.ndarray, arrows: Sequence[Arrow], size: float, alt: str
) -> tuple[Html, float]:
    """An image ``(channels, height, width)`` with an arrow per patch, and their magnification.

    ``size`` is that of a patch; the longest arrow is nearly as long.
    """
    pixels = as_pixels(image)
    address, (width, height), _ = encode(pixels, WIDE)
    scale = width / pixels.shape[1]
    longest = max((float(np.hypot(*one.displacement)) for one in arrows), default=0.0)
    larger = float(np.clip(0.85 * size / longest, 1.0, 20.0)) if longest else 1.0
    marks = [make_arrow(one, scale, larger, size) for one in arrows]
    picture = element("img", src=address, alt=alt, width=width, height=height, loading="lazy")
    over = element(
        "svg", *marks, viewBox=f"0 0 {width} {height}", class_="layers quiver", aria_hidden="true"
    )
    style = f"aspect-ratio: {width / height:.4f}"
    return element("div", picture, over, class_="picture", style=style), larger


def make_arrow(one: Arrow, scale: float, larger: float, size: float) -> Html:
    """One arrow, its middle at the patch's centre, ``larger`` times as long as it is.

    ``scale`` is that of the picture to positions, and ``size`` that of a patch in positions.
    """
    y, x = (scale * c for c in one.centre)
    down, right = (scale * larger * d for d in one.displacement)
    length = float(np.hypot(down, right))
    if not one.clear or length < 1e-6:
        style = "spot" if one.clear else "spot unclear"
        return element("circle", class_=style, cx=x, cy=y, r=max(0.035 * size * scale, 1.5))
    along, across = np.array([right, down]) / length, np.array([-down, right]) / length
    middle, half = np.array([x, y]), np.array([right, down]) / 2
    tail, tip = middle - half, middle + half
    head = min(0.35 * length, 0.16 * size * scale)
    barbs = [tip - head * along + side * 0.6 * head * across for side in (1, -1)]
    path = f"M{tail[0]:.1f} {tail[1]:.1f}L{tip[0]:.1f} {tip[1]:.1f}"
    path += f"M{barbs[0][0]:.1f} {barbs[0][1]:.1f}L{tip[0]:.1f} {tip[1]:.1f}"
    path += f"L{barbs[1][0]:.1f} {barbs[1][1]:.1f}"
    return join(element("path", class_="halo", d=path), element("path", class_="arrow", d=path))
