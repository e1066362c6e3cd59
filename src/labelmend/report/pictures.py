"""Samples as pictures: an image with the outlines of its label and prediction over it."""

from __future__ import annotations

from collections.abc import Iterator
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
    spans,
    wave,
)
from labelmend.types import DataSpec

CROWDED = 40
"""Outlines of more pieces than this are drawn finely, or they would cover the image."""


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
        paths = [_path("ignored", outline(~valid))]
        for name, mask in masks.items():
            for index in np.unique(mask[valid]) if name == "label" else np.unique(mask):
                if index:
                    known = valid if name == "label" else np.ones_like(valid)
                    line = outline((mask == index) & known)
                    style = f"{name} {colour(int(index))}"
                    if line.count("M") > CROWDED:
                        paths.append(_path(f"{style} fine", line))
                    else:
                        paths += [_path("halo", line), _path(style, line)]
        frame = _frame(pixels, join(*paths), alt, view.aspect)
        return element("div", frame, class_="frame"), view.note

    def _note_on_time(self, loaded: Loaded) -> str:
        length, spacing = loaded.valid.shape[0], loaded.raster.spacing
        span = f"{length * spacing[0]:.3g} s" if spacing else f"{length:,} positions"
        channels = loaded.raster.array.shape[0]
        return f"{span}, first of {channels} channels" if channels > 1 else span

    # ------------------------------------------------------------------ recordings and spectra

    def _strip(self, loaded: Loaded, prediction: np.ndarray | None, alt: str) -> Html:
        if self.spec.task == "regression":
            return _lines(loaded, prediction, alt)
        lanes = [_lane("label", loaded.label, loaded.valid)]
        if prediction is not None:
            everywhere = np.ones_like(loaded.valid)
            lanes.append(_lane("prediction", prediction, everywhere))
        tint = _rectangles("tint", loaded.label, loaded.valid)
        return element(
            "div",
            lanes[0],
            self._recording(loaded, tint, alt),
            *lanes[1:],
            class_="strip",
            role="img",
            aria_label=alt,
        )

    def _recording(self, loaded: Loaded, tint: Html, alt: str) -> Html:
        if self.spectrogram is not None:
            frames, _ = self.spectrogram.image(loaded.raster)
            bins = frames.shape[0] // loaded.raster.array.shape[0]
            address, _, _ = encode(as_pixels(frames[None, bins - 1 :: -1]))
            picture = element("img", src=address, alt=alt, loading="lazy")
            return element("div", picture, _canvas(tint), class_="wave")
        signal = loaded.raster.array[0]
        line = element(
            "path", class_="signal", d=wave(signal, (float(signal.min()), float(signal.max())))
        )
        return element("div", _canvas(join(tint, line)), class_="wave")


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
        element("div", _frame(pixels, None, f"{alt}: {name}", view.aspect), element("span", name))
        for name, pixels in parts
    ]
    return element("div", *frames, class_=f"row of{len(frames)}")


def _lines(loaded: Loaded, prediction: np.ndarray | None, alt: str) -> Html:
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
    hidden = _rectangles("tint", np.zeros(len(loaded.valid), int), loaded.valid)
    return element(
        "div",
        element("div", _canvas(top), class_="wave"),
        element("div", _canvas(join(hidden, *below)), class_="wave layers"),
        class_="strip",
        role="img",
        aria_label=alt,
    )


def _frame(pixels: np.ndarray, layers: Html | None, alt: str, aspect: float) -> Html:
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


def _canvas(content: Html) -> Html:
    return element(
        "svg", content, viewBox="0 0 1000 100", preserveAspectRatio="none", aria_hidden="true"
    )


def _lane(name: str, label: np.ndarray, valid: np.ndarray) -> Html:
    return element(
        "div", _canvas(_rectangles(f"band {name}", label, valid)), class_="lane", title=name
    )


def _rectangles(name: str, label: np.ndarray, valid: np.ndarray) -> Html:
    found = np.where(valid, label, -1)
    return join(*_boxes(name, found))


def _boxes(name: str, found: np.ndarray) -> Iterator[Html]:
    for index in np.unique(found):
        if index:
            style = "ignored" if index < 0 else f"{name} {colour(int(index))}"
            for begin, end in spans(found, int(index)):
                yield element(
                    "rect",
                    class_=style,
                    x=round(1000 * begin, 2),
                    y=0,
                    width=max(round(1000 * (end - begin), 2), 0.5),
                    height=100,
                )


def _path(style: str, line: str) -> Html | None:
    return element("path", class_=style, d=line) if line else None
