"""A label of the audit as a picture: image, label, prediction, and the label in its place."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from labelmend.audit import Audit
from labelmend.audit.result import SUMS
from labelmend.inference.places import Place, moved_arrays
from labelmend.report.canvas import MUTED, STRONG, STYLE, WEAK, to_svg
from labelmend.report.markup import Html, element, join
from labelmend.report.pictures import (
    Painter,
    make_frame,
    make_lane,
    make_outlines,
    make_rectangles,
    make_shade,
)
from labelmend.report.views import Loaded, View, as_pixels
from labelmend.types import MOVED

CSS = """
.layers .moved { stroke: #fff; stroke-width: 1.8; stroke-dasharray: 1.5 4; stroke-linecap: round; }
.legend .moved { stroke: var(--ink); }
.why { color: var(--ink); font-size: 0.9rem; line-height: 1.4; overflow-wrap: anywhere; }
.place { color: var(--muted); font-variant-numeric: tabular-nums; }
.badge.strong { color: var(--strong); }
.tiles { align-items: start; }
#gain .charts { max-width: 640px; }
.next { margin: 22px 0 0; }
.next code { font-size: 0.88rem; overflow-wrap: anywhere; }
"""
"""What this page needs beside the style of the report."""


def draw_case(
    painter: Painter,
    loaded: Loaded,
    prediction: np.ndarray,
    displacement: tuple[float, ...] | None,
    alt: str,
) -> tuple[Html, str]:
    """The picture of one label and its prediction, and a note on what is shown of the sample.

    Args:
        painter: of the data set.
        loaded: image, label and valid.
        prediction: shaped like the label.
        displacement: where the label belongs, where it belongs elsewhere; in positions.
        alt: what the picture shows, in words.
    """
    moved = None if displacement is None else _moved(loaded, displacement)
    if painter.spec.task == "regression":
        return painter.draw(loaded, prediction, alt)
    if painter.spec.dims == 1:
        return _strip(painter, loaded, prediction, moved, alt), ""
    shown = loaded if loaded.label[loaded.valid].any() else replace(loaded, label=prediction)
    view = View.of(shown, task=painter.spec.task)
    pixels = as_pixels(view.plane(loaded.raster.array))
    valid = view.plane(loaded.valid)
    layers = [
        make_shade(~valid),
        make_outlines("label", view.plane(loaded.label), valid),
        make_outlines("prediction", view.plane(prediction)),
    ]
    if moved is not None:
        layers.append(make_outlines("moved", view.plane(moved.label), view.plane(moved.valid)))
    frame = make_frame(pixels, join(*layers), alt, view.aspect)
    return element("div", frame, class_="frame"), view.note


def draw_gain(audit: Audit) -> Html:
    """How much of all there is to gain the first labels hold, beside any order."""
    total = sum(one.score for one in audit.labels)
    shares = np.cumsum([0.0, *(one.score for one in audit.named)]) / (total or 1.0)
    looked = np.arange(len(shares))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.0), layout="constrained")
        axes = figure.subplots()
        ends = [0, looked[-1]], [0, shares[-1]]
        axes.plot(*ends, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.plot(looked, shares, color=WEAK, linewidth=2.4)
        if audit.budget is not None and audit.budget < len(shares):
            share = shares[audit.budget]
            below = share > 0.2  # nearer to the bottom the figures of the axis are in the way
            axes.plot([audit.budget], [share], "o", color=STRONG, markersize=7)
            axes.annotate(
                f"the best {audit.budget}",
                (audit.budget, share),
                (8, -4) if below else (0, 8),
                textcoords="offset points",
                va="top" if below else "bottom",
            )
        axes.set_title(f"what the first labels hold {SUMS[audit.order]}")
        axes.set_xlabel("labels looked at")
        axes.set_xlim(0, looked[-1])
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        return to_svg(figure, "gain")


def moved_legend() -> Html:
    """What the line around a label in its place looks like."""
    line = element("path", d="M2 7H26", class_="moved")
    drawing = element("svg", line, viewBox="0 0 28 14", aria_hidden="true", class_="layers")
    return element("li", drawing, "label where it belongs")


def _moved(loaded: Loaded, displacement: tuple[float, ...]) -> Loaded:
    place = Place(np.array(displacement), 1.0, 0.0, MOVED)
    label, valid = moved_arrays(loaded.label, loaded.valid, place.whole())
    return Loaded(loaded.raster, label, valid)


def _strip(
    painter: Painter, loaded: Loaded, prediction: np.ndarray, moved: Loaded | None, alt: str
) -> Html:
    """The recording with what is claimed and what is predicted in lanes below it."""
    tint = make_rectangles("tint", loaded.label, loaded.valid)
    rows = [
        ("image", painter.recording(loaded, tint, alt)),
        ("label", make_lane("label", loaded.label, loaded.valid)),
        ("prediction", make_lane("prediction", prediction, np.ones_like(loaded.valid))),
    ]
    if moved is not None:
        rows.append(("label moved", make_lane("label moved", moved.label, moved.valid)))
    parts = [element("div", element("span", name), drawing) for name, drawing in rows]
    return element("div", *parts, class_="strip named", role="img", aria_label=alt)
