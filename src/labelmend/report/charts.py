"""Charts as inline SVG whose colours follow the page, light or dark."""

from __future__ import annotations

import io
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labelmend.report.gather import Paths
from labelmend.report.markup import Html
from labelmend.report.story import Course, Curve
from labelmend.report.words import metric_name

# Drawn in these colours and written as the page's own, which differ between light and dark.
INK, MUTED, LINE = "#111213", "#717273", "#d1d2d3"
STRONG, WEAK, HELD, THIN = "#0171b1", "#d25f01", "#019e71", "#8a8b8c"
_THEME = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    STRONG: "strong",
    WEAK: "weak",
    HELD: "held",
    THIN: "thin",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 11,
    "svg.hashsalt": "labelmend",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "text.color": INK,
    "lines.solid_capstyle": "round",
}
MOST_ROWS = 24


def draw_losses(course: Course, first_weighing: int | None) -> Html:
    """Losses, every step light and smoothed on top, over the learning rate."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 3.8), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        curves = [("strong", course.loss_strong, STRONG), ("weak", course.loss_weak, WEAK)]
        if not any(len(curve) for _, curve, _ in curves):
            curves = [("all", course.loss, STRONG)]
        for name, curve, colour in curves:
            if len(curve):
                top.plot(*_envelope(curve), color=colour, alpha=0.22, linewidth=0.9)
                steps, smooth = smoothed(curve)
                top.plot(steps, smooth, color=colour, linewidth=2.2, label=name)
        top.set_title("loss per label, by quality" if len(curves) > 1 else "loss per label")
        top.legend(
            frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0
        )
        top.set_ylim(bottom=min(0.0, top.get_ylim()[0]))
        if first_weighing is not None:
            _mark(top, first_weighing, "weights are learned from here")
        bottom.plot(*_envelope(course.rate), color=MUTED, linewidth=1.4)
        largest = max(course.rate.values, default=0.0) or 1.0
        bottom.set_ylim(0, 1.1 * largest)
        bottom.set_yticks([0, largest], ["0", f"{largest:.2g}"])
        bottom.set_title("learning rate", color=MUTED, fontsize=10)
        bottom.set_xlabel("step")
        return _to_svg(figure, "losses")


def draw_held_out(course: Course) -> Html:
    """The held-out metric on an axis of its own, its best marked."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 3.8), layout="constrained")
        axes = figure.subplots()
        held = course.held
        axes.plot(held.steps, held.values, "o-", color=HELD, linewidth=2.2, markersize=4.5)
        step, value = held.best
        axes.plot([step], [value], "o", markersize=12, markerfacecolor="none", color=HELD)
        axes.annotate(
            f"best {value:.3g}",
            (step, value),
            (0, -18),
            textcoords="offset points",
            ha="right" if step > statistics.fmean(held.steps) else "left",
            va="top",
            color=INK,
        )
        axes.set_title(f"{metric_name(course.metric)} on held-out strong labels")
        axes.set_xlim(0, max(course.steps, held.steps[-1]) * 1.03)
        if course.metric == "dice":
            axes.set_ylim(0, 1.02)
        else:
            axes.margins(y=0.2)
        axes.set_xlabel("step")
        return _to_svg(figure, "held")


def draw_histogram(weights: Sequence[float], initial: float) -> Html:
    """How many labels have which weight."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.hist(weights, bins=np.linspace(0, 1, 21).tolist(), color=WEAK, rwidth=0.86)
        axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
        _mark(axes, initial, "start")
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title("weak labels by latest weight")
        axes.set_xlabel("weight")
        return _to_svg(figure, "histogram")


def draw_paths(paths: Paths) -> Html:
    """Every label's weight over time, thin, and three quantiles of all on top."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 3.4), layout="constrained", dpi=150)
        axes = figure.subplots()
        values = np.array(paths.weights)
        lines = [np.column_stack([paths.steps, column]) for column in values.T]
        opacity = float(np.clip(30 / max(len(lines), 1), 0.06, 0.6))
        # One picture instead of thousands of paths; grey shows on light and dark.
        many = len(lines) * len(paths.steps) > 3000
        axes.add_collection(
            LineCollection(
                lines, colors=THIN, linewidths=0.9, alpha=opacity, rasterized=many, zorder=1
            )
        )
        for share, width in ((0.9, 1.6), (0.5, 2.6), (0.1, 1.6)):
            quantile = np.quantile(values, share, axis=1)
            axes.plot(paths.steps, quantile, color=WEAK, linewidth=width)
            axes.annotate(
                "median" if share == 0.5 else f"{share:.0%}",
                (paths.steps[-1], quantile[-1]),
                (5, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=10,
                annotation_clip=False,
            )
        axes.set_xlim(0, paths.steps[-1])
        axes.set_ylim(-0.02, 1.02)
        axes.set_title("weight of every weak label")
        axes.set_xlabel("step")
        return _to_svg(figure, "paths")


def draw_parts(parts: Mapping[str, Sequence[float]], by: str) -> Html:
    """Weights by annotator or group: a dot per label, a bar at the mean; lowest mean on top."""
    order = order_of(parts)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(5.8, 0.9 + 0.36 * len(order)), layout="constrained", dpi=150)
        axes = figure.subplots()
        for row, name in enumerate(order):
            values = np.asarray(parts[name])
            # Spread by the golden ratio: even, and the same every time.
            offset = ((np.arange(len(values)) * 0.618034) % 1 - 0.5) * 0.55
            axes.scatter(
                values, row + offset, s=9, color=THIN, alpha=0.5, rasterized=len(values) > 300
            )
            mean = values.mean()
            axes.plot([mean, mean], [row - 0.34, row + 0.34], color=WEAK, linewidth=3)
        axes.set_yticks(range(len(order)), [_short(name, len(parts[name])) for name in order])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="y", visible=False)
        axes.set_title(f"weight by {by}")
        axes.set_xlabel("weight")
        return _to_svg(figure, "parts")


def order_of(parts: Mapping[str, Sequence[float]]) -> list[str]:
    """Names by rising mean; of very many the lowest and the highest."""
    order = sorted(parts, key=lambda name: statistics.fmean(parts[name]))
    half = MOST_ROWS // 2
    return order if len(order) <= MOST_ROWS else order[:half] + order[-half:]


def smoothed(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """A straight line fitted around every record, over a twelfth of them, at up to 400 steps.

    Near the ends a running mean would bend a falling curve; a line does not.

    >>> smoothed(Curve((1, 2, 3), (1.0, 2.0, 3.0)))[1].round(9).tolist()
    [1.0, 2.0, 3.0]
    """
    steps, values = np.asarray(curve.steps), np.asarray(curve.values)
    half = max(len(values) // 24, 2)
    keep = np.unique(np.linspace(0, len(values) - 1, min(len(values), 400)).round().astype(int))
    fitted = []
    for place in keep:
        near = slice(max(place - half, 0), place + half + 1)
        x, y = steps[near] - steps[place], values[near]
        spread = ((x - x.mean()) ** 2).sum()
        slope = ((x - x.mean()) * (y - y.mean())).sum() / spread if spread else 0.0
        fitted.append(y.mean() - slope * x.mean())
    return steps[keep], np.array(fitted)


def _envelope(curve: Curve, bins: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """The curve, or where it is long the least and largest value of every stretch of it."""
    steps, values = np.asarray(curve.steps), np.asarray(curve.values)
    if len(values) <= 2 * bins:
        return steps, values
    parts = np.array_split(np.arange(len(values)), bins)
    places = [sorted((p[values[p].argmin()], p[values[p].argmax()])) for p in parts]
    keep = np.unique(np.concatenate(places))
    return steps[keep], values[keep]


def _mark(axes: Axes, x: float, text: str) -> None:
    axes.axvline(x, color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
    axes.annotate(
        text,
        (x, 1),
        (4, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        color=MUTED,
        fontsize=9.5,
    )


def _short(name: str, many: int) -> str:
    name = name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"
    # A dollar sign would start a formula.
    return f"{name.replace('$', chr(92) + '$')}  ({many})"


def _to_svg(figure: Figure, name: str) -> Html:
    """The figure without anything that a page of many pictures cannot hold twice."""
    buffer = io.BytesIO()
    FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]
        buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*pt"', r"\1", text)
    used = set(re.findall(r'(?:url\(|href=")#([^)"]+)', text))
    text = re.sub(r'\sid="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(|href=")#', rf"\g<1>#{name}-", text)
    for colour, variable in _THEME.items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r"font-family: [^;\"]+;? ?", "", text)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    return Html(text.replace("<svg", '<svg aria-hidden="true" focusable="false"', 1))
