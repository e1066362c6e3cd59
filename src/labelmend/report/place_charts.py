"""Charts of where labels were found to belong, and whether the network drifted meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from labelmend.inference.fixed import DRIFT
from labelmend.report.canvas import HELD, INK, MUTED, STRONG, STYLE, THIN, WEAK, to_svg
from labelmend.report.charts import smoothed
from labelmend.report.markup import Html
from labelmend.report.places import Bending, PlaceRow, Placings

_COLOURS = (STRONG, WEAK, HELD)


def axis_name(axis: int, dims: int) -> str:
    """What moving along an axis is called.

    >>> axis_name(0, 2), axis_name(0, 3)
    ('down', 'along the first axis')
    """
    if dims == 1:
        return "along the signal"
    if dims == 2:
        return ("down", "to the right")[axis]
    return f"along the {_short(axis)}"


def _short(axis: int) -> str:
    return f"{('first', 'second', 'third')[axis]} axis"


def draw_displacements(rows: Sequence[PlaceRow], window: int) -> Html:
    """A dot per label in 2-D; a histogram per axis else."""
    dims = len(rows[0].displacement)
    known = np.array([row.displacement for row in rows if row.clear]).reshape(-1, dims)
    unclear = np.array([row.displacement for row in rows if not row.clear]).reshape(-1, dims)
    with mpl.rc_context(STYLE):
        if dims == 2:
            return _scatter(known, unclear, window)
        figure = Figure(figsize=(5.8, 3.4 if dims == 1 else 3.0), layout="constrained")
        for axis, axes in enumerate(figure.subplots(1, dims, sharey=True, squeeze=False)[0]):
            _histogram(axes, known[:, axis], unclear[:, axis])
            axes.set_xlabel(f"positions {axis_name(axis, dims)}" if dims == 1 else _short(axis))
        figure.axes[0].set_title("weak labels by displacement")
        return to_svg(figure, "displacements")


def _scatter(known: np.ndarray, unclear: np.ndarray, window: int) -> Html:
    figure = Figure(figsize=(5.8, 4.6), layout="constrained")
    axes = figure.subplots()
    largest = np.abs(np.concatenate([known, unclear])).max(initial=1.0)
    reach = min(1.3 * largest + 0.5, window * 1.1 + 0.5)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    opacity = float(np.clip(60 / max(len(known), 1), 0.25, 0.85))
    if len(unclear):
        axes.plot(
            unclear[:, 1], unclear[:, 0], "o", color=THIN, markerfacecolor="none", markersize=6,
            alpha=opacity, label="unclear when last looked at",
        )  # fmt: skip
    axes.plot(known[:, 1], known[:, 0], "o", color=WEAK, markersize=6, alpha=opacity, label="clear")
    if len(known):
        down, right = known.mean(0)
        axes.plot(
            [right], [down], "P", color=INK, markersize=10, markeredgecolor="none",
            label="mean of the clear ones",
        )  # fmt: skip
    axes.set_xlim(-reach, reach)
    axes.set_ylim(reach, -reach)
    axes.set_aspect("equal")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("where weak labels belong, from where they are")
    axes.set_xlabel("positions to the right")
    axes.set_ylabel("positions down")
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize=9)
    return to_svg(figure, "displacements")


def _histogram(axes: Axes, known: np.ndarray, unclear: np.ndarray) -> None:
    every = np.concatenate([known, unclear])
    reach = int(np.ceil(np.abs(every).max(initial=1.0)))
    step = max(1, -(-2 * reach // 32))
    bins = np.arange(-reach - step / 2, reach + step, step)
    axes.hist(
        [known, unclear], bins=bins.tolist(), stacked=True, color=[WEAK, THIN], rwidth=0.86,
        label=["clear", "unclear when last looked at"],
    )  # fmt: skip
    if len(known):
        axes.axvline(float(known.mean()), color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))


def draw_drift(found: Placings) -> Html:
    """How far the network would like strong labels moved, over the steps; the room it has."""
    dims = len(found.drift)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.axhspan(-DRIFT, DRIFT, color=HELD, alpha=0.18, linewidth=0)
        axes.axhline(0, color=MUTED, linewidth=1)
        most = 2 * DRIFT
        for axis, one in enumerate(found.drift):
            steps, smooth = smoothed(one)
            most = max(most, float(np.abs(smooth).max()) * 1.2)
            name = axis_name(axis, dims) if dims < 3 else _short(axis)
            axes.plot(one.steps, one.values, color=_COLOURS[axis], alpha=0.2, linewidth=0.8)
            axes.plot(steps, smooth, color=_COLOURS[axis], linewidth=2.2, label=name)
        axes.set_ylim(-most, most)
        if dims > 1:
            axes.legend(
                frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=dims,
                borderaxespad=0,
            )  # fmt: skip
        axes.set_title("drift")
        axes.set_ylabel("positions")
        axes.set_xlabel("step")
        return to_svg(figure, "drift")


def draw_shares(found: Placings) -> Html:
    """Which share of weak labels moved at every step, and of which share the place is unclear."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, one, colour in (("moved", found.moved, WEAK), ("unclear", found.unclear, THIN)):
            if len(one):
                axes.plot(one.steps, one.values, color=colour, alpha=0.2, linewidth=0.8)
                axes.plot(*smoothed(one), color=colour, linewidth=2.2, label=name)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(
            frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0
        )
        axes.set_title("weak labels of a step")
        axes.set_xlabel("step")
        return to_svg(figure, "shares")


def draw_removed(found: Bending, most: Mapping[str, float]) -> Html:
    """Which share of what labels and predictions differ by bending explains, and what is too much.

    ``most`` are the shares above which it explains everything away, by their names in ``found``.
    """
    curves = {"weak": (found.removed, WEAK), "strong": (found.removed_strong, STRONG)}
    limits = {"weak": most["removed"], "strong": most["removed_strong"]}
    low = 0.0
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=1)
        for name, (one, colour) in curves.items():
            if len(one):
                steps, smooth = smoothed(one)
                low = min(low, float(smooth.min()))
                axes.plot(one.steps, one.values, color=colour, alpha=0.2, linewidth=0.8)
                axes.plot(steps, smooth, color=colour, linewidth=2.2, label=name)
                axes.axhline(limits[name], color=colour, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_ylim(low - 0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(
            frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0
        )
        axes.set_title("explained by bending")
        axes.set_xlabel("step")
        return to_svg(figure, "removed")


def draw_bent(found: Bending) -> Html:
    """How far fields of weak labels move about their means, over the share of labels bent."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.8), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        for axes, one in ((top, found.bent_by), (bottom, found.bent)):
            axes.plot(one.steps, one.values, color=WEAK, alpha=0.2, linewidth=0.8)
            axes.plot(*smoothed(one), color=WEAK, linewidth=2.2)
        top.set_ylim(bottom=0)
        top.set_ylabel("positions")
        top.set_title("how far fields bend weak labels")
        bottom.set_ylim(-0.05, 1.05)
        bottom.set_yticks([0, 1])
        bottom.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        bottom.set_title("weak labels bent", color=MUTED, fontsize=10)
        bottom.set_xlabel("step")
        return to_svg(figure, "bent")
