"""Samples as pictures: an image with the outlines of its label and prediction over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labelmend.data.prepare import Preparation
from labelmend.report.legend import colour
from labelmend.report.markup import Html, element, join
from labelmend.report.views import (
    Loaded,
    View,
    as_pixels,
    display_range,
    encode,
    outline,
    shown_size,
    spans,
    wave,
)
from labelmend.types import DataSpec

CROWDED = 40
"""Outlines of more pieces than this are drawn finely, or they would cover the image."""
MOST_CELLS = 4000


@dataclass(frozen=True, slots=True)
class Painter:
    """Draws the samples of one data set. ``spectrogram`` turns recordings into pictures of it."""

    spec: DataSpec
    spectrogram: Preparation | None = None

    def draw(self, loaded: Loaded, prediction: np.ndarray | None, alt: str) -> tuple[Html, str]:
        """The picture, and a note on what part of the sample it shows.

        ``prediction`` is shaped like the label.
        """
        if self.spec.dims == 1:
            return self._strip(loaded, prediction, alt), self._note_on_time(loaded)
        view = View.of(loaded, task=self.spec.task)
        if self.spec.task == "regression":
            return _row(view, loaded, prediction, alt), view.note
        pixels = as_pixels(view.plane(loaded.raster.array))
        masks = {"label": view.plane(loaded.label)}
        if prediction is not None:
            masks["prediction"] = view.plane(prediction)
        valid = view.plane(loaded.valid)
        layers = [make_shade(~valid)]
        for name, mask in masks.items():
            layers.append(make_outlines(name, mask, valid if name == "label" else None))
        frame = make_frame(pixels, join(*layers), alt, view.aspect)
        return element("div", frame, class_="frame"), view.note

    def _note_on_time(self, loaded: Loaded) -> str:
        length, spacing = loaded.valid.shape[0], loaded.raster.spacing
        span = f"{length * spacing[0]:.3g} s" if spacing else f"{length:,} positions"
        channels = loaded.raster.array.shape[0]
        return f"{span}, first of {channels} channels" if channels > 1 else span

    # ------------------------------------------------------------------ recordings and spectra

    def _strip(self, loaded: Loaded, prediction: np.ndarray | None, alt: str) -> Html:
        if self.spec.task == "regression":
            return make_lines(loaded, prediction, alt)
        lanes = [make_lane("label", loaded.label, loaded.valid)]
        if prediction is not None:
            everywhere = np.ones_like(loaded.valid)
            lanes.append(make_lane("prediction", prediction, everywhere))
        tint = make_rectangles("tint", loaded.label, loaded.valid)
        return element(
            "div",
            lanes[0],
            self.recording(loaded, tint, alt),
            *lanes[1:],
            class_="strip",
            role="img",
            aria_label=alt,
        )

    def recording(self, loaded: Loaded, tint: Html, alt: str) -> Html:
        """A recording, or its spectrogram, with boxes of colour behind it."""
        if self.spectrogram is not None:
            frames, _ = self.spectrogram.image(loaded.raster)
            bins = frames.shape[0] // loaded.raster.array.shape[0]
            address, _, _ = encode(as_pixels(frames[None, bins - 1 :: -1]))
            picture = element("img", src=address, alt=alt, loading="lazy")
            return element("div", picture, make_canvas(tint), class_="wave")
        signal = loaded.raster.array[0]
        line = element(
            "path", class_="signal", d=wave(signal, (float(signal.min()), float(signal.max())))
        )
        return element("div", make_canvas(join(tint, line)), class_="wave")


def _row(view: View, loaded: Loaded, prediction: np.ndarray | None, alt: str) -> Html:
    """Image, label and prediction side by side, the last two on one scale."""
    label = view.plane(loaded.label)
    known = np.where(view.plane(loaded.valid), label, np.nan)
    finite = known[np.isfinite(known)]
    limits = display_range(finite) if finite.size else (0.0, 1.0)
    parts = [("image", as_pixels(view.plane(loaded.raster.array)))]
    parts.append(("label", as_pixels(np.nan_to_num(known, nan=limits[0]), limits)))
    if prediction is not None:
        parts.append(("prediction", as_pixels(view.plane(prediction), limits)))
    frames = [
        element(
            "div", make_frame(pixels, None, f"{alt}: {name}", view.aspect), element("span", name)
        )
        for name, pixels in parts
    ]
    return element("div", *frames, class_=f"row of{len(frames)}")


def make_lines(loaded: Loaded, prediction: np.ndarray | None, alt: str) -> Html:
    """The first channels of image and label as lines, one above the other."""
    signal = loaded.raster.array[0]
    label = np.where(loaded.valid, loaded.label[0], np.nan)
    limits = (float(np.nanmin(label)), float(np.nanmax(label))) if loaded.valid.any() else (0, 1)
    known = np.nan_to_num(label, nan=limits[0])
    top = element(
        "path", class_="signal", d=wave(signal, (float(signal.min()), float(signal.max())))
    )
    below = [element("path", class_="label k1", d=wave(known, limits))]
    if prediction is not None:
        below.append(element("path", class_="prediction k1", d=wave(prediction[0], limits)))
    hidden = make_rectangles("tint", np.zeros(len(loaded.valid), int), loaded.valid)
    return element(
        "div",
        element("div", make_canvas(top), class_="wave"),
        element("div", make_canvas(join(hidden, *below)), class_="wave layers"),
        class_="strip",
        role="img",
        aria_label=alt,
    )


def make_outlines(kind: str, mask: np.ndarray, valid: np.ndarray | None = None) -> Html:
    """Lines around every class above 0 of a plane of class indices, where it is valid.

    ``kind`` is ``label`` or ``prediction``.
    """
    known = np.ones(mask.shape, bool) if valid is None else valid
    indices = (int(index) for index in np.unique(mask[known]) if index)
    return join(*(make_outline(kind, (mask == index) & known, index) for index in indices))


def make_outline(kind: str, mask: np.ndarray, index: int) -> Html:
    """A line around a mask in the colour of a class."""
    line = outline(mask)
    style = f"{kind} {colour(index)}"
    if line.count("M") > CROWDED:
        return join(_path(f"{style} fine", line))
    return join(_path("halo", line), _path(style, line))


def make_shade(mask: np.ndarray, style: str = "ignored") -> Html | None:
    """Colour over positions that do not count."""
    return _path(style, outline(mask))


def make_cells(mask: np.ndarray, style: str) -> Html | None:
    """Colour over single positions, which an outline would round off.

    Of a plane that is shown smaller than it is, or of very many positions, it is an outline.
    """
    height, width = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    begins, ends = np.argwhere(edges > 0), np.argwhere(edges < 0)
    if shown_size(height, width) != (width, height) or len(begins) > MOST_CELLS:
        return make_shade(mask, style)
    runs = zip(begins.tolist(), ends[:, 1].tolist(), strict=True)
    return _path(style, "".join(f"M{x} {y}h{end - x}v1h{x - end}z" for (y, x), end in runs))


def make_frame(pixels: np.ndarray, layers: Html | None, alt: str, aspect: float) -> Html:
    """A plane as a picture, with lines over it."""
    address, (width, height), tiny = encode(pixels)
    picture = element(
        "img",
        src=address,
        alt=alt,
        width=width,
        height=height,
        loading="lazy",
        class_="tiny" if tiny else None,
    )
    over = None
    if layers is not None:
        over = element(
            "svg",
            layers,
            viewBox=f"0 0 {width} {height}",
            preserveAspectRatio="none",
            class_="layers",
            aria_hidden="true",
        )
    ratio = width * aspect / height
    style = "picture tall" if ratio < 1 else "picture"
    return element("div", picture, over, class_=style, style=f"aspect-ratio: {ratio:.4f}")


def make_canvas(content: Html) -> Html:
    """A box of 1000 by 100 that takes the shape of its place."""
    return element(
        "svg", content, viewBox="0 0 1000 100", preserveAspectRatio="none", aria_hidden="true"
    )


def make_lane(name: str, label: np.ndarray, valid: np.ndarray, invalid: str = "ignored") -> Html:
    """The classes along the only axis as a narrow band; ``invalid`` is the style elsewhere."""
    content = make_rectangles(f"band {name}", label, valid, invalid)
    return element("div", make_canvas(content), class_="lane", title=name)


def make_rectangles(
    name: str, label: np.ndarray, valid: np.ndarray, invalid: str = "ignored"
) -> Html:
    """A box for every stretch of a class above 0, and of what is not valid, on a canvas."""
    indices = (int(index) for index in np.unique(label[valid]) if index)
    boxes = [make_boxes(f"{name} {colour(index)}", valid & (label == index)) for index in indices]
    return join(make_boxes(invalid, ~valid), *boxes)


def make_boxes(style: str, mask: np.ndarray) -> Html:
    """A box for every stretch of a mask, on a canvas."""
    return join(
        *(
            element(
                "rect",
                class_=style,
                x=round(1000 * begin, 2),
                y=0,
                width=max(round(1000 * (end - begin), 2), 0.5),
                height=100,
            )
            for begin, end in spans(mask, True)
        )
    )


def _path(style: str, line: str) -> Html | None:
    return element("path", class_=style, d=line) if line else None
