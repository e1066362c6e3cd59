"""Charts of weights: how they lie, how they got there, and what they rest on."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labelmend.report.canvas import CARD, INK, MUTED, STRONG, STYLE, THIN, WEAK, mark, to_svg
from labelmend.report.charts import smoothed
from labelmend.report.gather import Paths
from labelmend.report.markup import Html
from labelmend.report.story import Curve

MOST_ROWS = 24
MOST_PANELS = 12
MOST_NAMED = 8
MOST_DOTS = 30


def draw_histogram(weights: Sequence[float], began: Sequence[float], highest: float) -> Html:
    """How many labels have which weight, and had at first."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.4), layout="constrained")
        axes = figure.subplots()
        bins = np.linspace(0, highest, 21).tolist()
        axes.hist(weights, bins=bins, color=WEAK, rwidth=0.86, label="latest")
        moved, alike = tuple(weights) != tuple(began), max(began) - min(began) < 1e-6
        if moved and not alike:
            axes.hist(
                began, bins=bins, histtype="step", color=MUTED, linewidth=1.4, label="at first"
            )
            axes.legend(
                frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0
            )
        axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
        if alike:
            mark(axes, began[0], "start")
        _count_upwards(axes, highest)
        axes.set_title("weak labels by latest weight" if moved else "weak labels by weight")
        axes.set_xlabel("weight")
        return to_svg(figure, "histogram")


def draw_classes(by_class: Mapping[str, Sequence[float]], highest: float) -> Html:
    """A histogram for every class of the weights that labels have in it, on common axes."""
    names = order_of(by_class, MOST_PANELS)
    with mpl.rc_context(STYLE):
        across = 2 if len(names) in (1, 2, 4) else 3
        down = -(-len(names) // across)
        figure = Figure(figsize=(5.8, 0.7 + 1.45 * down), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        bins = np.linspace(0, highest, 11).tolist()
        for place, axes in enumerate(grid.flat):
            if place >= len(names):
                axes.set_visible(False)
                continue
            values = by_class[names[place]]
            axes.hist(values, bins=bins, color=WEAK, rwidth=0.86)
            _count_upwards(axes, highest)
            axes.set_title(shortened(names[place]), fontsize=10)
            axes.set_xticks([0, highest], ["0", f"{highest:g}"])
            # Where the row below ends early, this is the lowest panel of its column.
            axes.tick_params(labelbottom=place + across >= len(names))
        figure.supxlabel("weight", color=MUTED, fontsize=11)
        return to_svg(figure, "classes")


def draw_paths(paths: Paths, highest: float) -> Html:
    """Every label's weight over time, thin, and three quantiles of all on top."""
    with mpl.rc_context(STYLE):
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
        ends = {}
        for share, width in ((0.1, 1.6), (0.5, 2.6), (0.9, 1.6)):
            quantile = np.quantile(values, share, axis=1)
            axes.plot(paths.steps, quantile, color=WEAK, linewidth=width)
            ends["median" if share == 0.5 else f"{share:.0%}"] = float(quantile[-1])
        _name_ends(axes, paths.steps[-1], ends, highest)
        axes.set_title("weight of every weak label")
        return _finish_paths(axes, paths, highest)


def draw_shared_paths(paths: Paths, first: Mapping[str, int], by: str, highest: float) -> Html:
    """The weight of every annotator, or group, over time.

    ``first`` is the place in ``paths`` of one of its labels, which all have its weight.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.4), layout="constrained", dpi=150)
        axes = figure.subplots()
        values = np.array(paths.weights)
        few = len(first) <= MOST_NAMED
        for place in first.values():
            width, opacity = (2.0, 1.0) if few else (1.0, 0.5)
            axes.plot(paths.steps, values[:, place], color=WEAK, linewidth=width, alpha=opacity)
        if few:
            ends = {shortened(name): values[-1, place] for name, place in first.items()}
            _name_ends(axes, paths.steps[-1], ends, highest)
        axes.set_title(f"weight of every {by}")
        return _finish_paths(axes, paths, highest)


def draw_parts(parts: Mapping[str, Sequence[float]], by: str, highest: float) -> Html:
    """Weights by annotator or group: a dot per label, a bar at the mean; lowest mean on top."""
    order = order_of(parts)
    with mpl.rc_context(STYLE):
        axes = _rows(order, parts, highest)
        for row, name in enumerate(order):
            values = np.asarray(parts[name])
            # Spread by the golden ratio: even, and the same every time.
            offset = ((np.arange(len(values)) * 0.618034) % 1 - 0.5) * 0.55
            axes.scatter(
                values, row + offset, s=9, color=THIN, alpha=0.5, rasterized=len(values) > 300
            )
            mean = values.mean()
            axes.plot([mean, mean], [row - 0.34, row + 0.34], color=WEAK, linewidth=3)
        axes.set_title(f"weight by {by}")
        return to_svg(_figure_of(axes), "parts")


def draw_shared(parts: Mapping[str, Sequence[float]], by: str, highest: float) -> Html:
    """The one weight that all labels of an annotator, or group, have: a bar each, lowest on top."""
    order = order_of(parts)
    with mpl.rc_context(STYLE):
        axes = _rows(order, parts, highest)
        for row, name in enumerate(order):
            weight = statistics.fmean(parts[name])
            axes.barh(row, weight, height=0.62, color=WEAK)
            inside = weight > 0.85 * highest
            axes.annotate(
                f"{weight:.2f}",
                (weight, row),
                (-5 if inside else 5, 0),
                textcoords="offset points",
                ha="right" if inside else "left",
                va="center",
                color=CARD if inside else INK,
                fontsize=10,
            )
        axes.set_title(f"weight of every {by}")
        return to_svg(_figure_of(axes), "shared")


def draw_agreement(agreement: Curve) -> Html:
    """How far two halves of the strong labels wanted the same step, at every weight step."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.4), layout="constrained")
        axes = figure.subplots()
        few = len(agreement) <= MOST_DOTS
        style, opacity, width = ("o-", 1.0, 1.8) if few else ("-", 0.3, 1.0)
        axes.plot(
            agreement.steps,
            agreement.values,
            style,
            color=STRONG,
            alpha=opacity,
            linewidth=width,
            markersize=4.5,
        )
        if not few:
            axes.plot(*smoothed(agreement), color=STRONG, linewidth=2.2)
        axes.set_xlim(0, agreement.steps[-1] * 1.03)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title("agreement of the strong labels")
        axes.set_xlabel("step")
        return to_svg(figure, "agreement")


def order_of(parts: Mapping[str, Sequence[float]], most: int = MOST_ROWS) -> list[str]:
    """Names by rising mean; of very many the lowest and the highest."""
    order = sorted(parts, key=lambda name: statistics.fmean(parts[name]))
    half = most // 2
    return order if len(order) <= most else order[:half] + order[-half:]


def shortened(name: str) -> str:
    """A name that fits beside a chart.

    >>> shortened("a" * 15 + "b" * 15)
    'aaaaaaaaaa…bbbbbbbbbbb'
    """
    name = name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"
    # A dollar sign would start a formula.
    return name.replace("$", chr(92) + "$")


def _rows(order: Sequence[str], parts: Mapping[str, Sequence[float]], highest: float) -> Axes:
    """Axes with a row for every name, and how many labels it has."""
    figure = Figure(figsize=(5.8, 0.9 + 0.36 * len(order)), layout="constrained", dpi=150)
    axes = figure.subplots()
    names = [f"{shortened(name)}  ({len(parts[name])})" for name in order]
    axes.set_yticks(range(len(order)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(-0.02 * highest, 1.02 * highest)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("weight")
    return axes


def _figure_of(axes: Axes) -> Figure:
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def _count_upwards(axes: Axes, highest: float) -> None:
    axes.set_xlim(-0.02 * highest, 1.02 * highest)
    axes.grid(axis="x", visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _finish_paths(axes: Axes, paths: Paths, highest: float) -> Html:
    axes.set_xlim(0, paths.steps[-1])
    axes.set_ylim(-0.02 * highest, 1.02 * highest)
    axes.set_xlabel("step")
    return to_svg(_figure_of(axes), "paths")


def _name_ends(axes: Axes, step: int, ends: Mapping[str, float], highest: float) -> None:
    """Names to the right of where lines end, moved apart where they would cover each other."""
    for (name, _), place in zip(
        sorted(ends.items(), key=lambda item: item[1]),
        moved_apart(sorted(ends.values()), 0.07 * highest, highest),
        strict=True,
    ):
        axes.annotate(
            name,
            (step, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            fontsize=10,
            annotation_clip=False,
        )


def moved_apart(places: Sequence[float], least: float, highest: float) -> list[float]:
    """Rising places at least so far apart, as near to where they were as that allows.

    >>> [round(place, 2) for place in moved_apart([0.1, 0.1, 1.0, 1.0], least=0.1, highest=1.0)]
    [0.1, 0.2, 0.9, 1.0]
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + least) if moved else place)
    top = highest
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], top)
        top = moved[i] - least
    return moved
