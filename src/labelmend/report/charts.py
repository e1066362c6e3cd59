"""Charts of the course of a training."""

from __future__ import annotations

import statistics

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from labelmend.report.canvas import HELD, INK, MUTED, STRONG, STYLE, WEAK, mark, to_svg
from labelmend.report.markup import Html
from labelmend.report.phrases import metric_name
from labelmend.report.story import Course, Curve


def draw_losses(course: Course, first_weighing: int | None) -> Html:
    """Losses, every step light and smoothed on top, over the learning rate."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.8), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        curves = [("strong", course.loss_strong, STRONG), ("weak", course.loss_weak, WEAK)]
        if not any(len(curve) for _, curve, _ in curves):
            curves = [("all", course.loss, STRONG)]
        for name, curve, colour in curves:
            if len(curve):
                light, dark = broken(course, *_envelope(curve)), broken(course, *smoothed(curve))
                top.plot(*light, color=colour, alpha=0.22, linewidth=0.9)
                top.plot(*dark, color=colour, linewidth=2.2, label=name)
        top.set_title("loss per label, by quality" if len(curves) > 1 else "loss per label")
        top.legend(
            frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, borderaxespad=0
        )
        top.set_ylim(bottom=min(0.0, top.get_ylim()[0]))
        if first_weighing is not None:
            mark(top, first_weighing, "weights are learned from here")
        bottom.plot(*broken(course, *_envelope(course.rate)), color=MUTED, linewidth=1.4)
        largest = max(course.rate.values, default=0.0) or 1.0
        bottom.set_ylim(0, 1.1 * largest)
        bottom.set_yticks([0, largest], ["0", f"{largest:.2g}"])
        bottom.set_title("learning rate", color=MUTED, fontsize=10)
        bottom.set_xlabel("step")
        return to_svg(figure, "losses")


def draw_held_out(course: Course) -> Html:
    """The held-out metric on an axis of its own, its best marked."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 3.8), layout="constrained")
        axes = figure.subplots()
        held = course.held
        line = broken(course, np.asarray(held.steps), np.asarray(held.values))
        axes.plot(*line, "o-", color=HELD, linewidth=2.2, markersize=4.5)
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
        return to_svg(figure, "held")


def draw_figure(
    curve: Curve, title: str, name: str, span: tuple[float, float], *, percent: bool = False
) -> Html:
    """A figure of every step, light, and smoothed on top; ``span`` is in view whatever it is."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 2.8), layout="constrained")
        axes = figure.subplots()
        axes.plot(*_envelope(curve), color=HELD, alpha=0.25, linewidth=0.9)
        axes.plot(*smoothed(curve), color=HELD, linewidth=2.2)
        low, high = min(span[0], *curve.values), max(span[1], *curve.values)
        room = 0.04 * (high - low)
        axes.set_ylim(low - room, high + room)
        if low < 0:
            axes.axhline(0, color=MUTED, linewidth=1)
        if percent:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.set_xlim(0, curve.steps[-1] * 1.03)
        axes.set_title(title)
        axes.set_xlabel("step")
        return to_svg(figure, name)


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


def broken(course: Course, steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A line with a gap where the steps of an ending lie that was not kept.

    >>> from labelmend.report.story import Endings
    >>> course = Course(8, 5, None, "dice", endings=Endings(2, 3, 0.1, 0.2, "strong"))
    >>> broken(course, np.array([1, 2, 6, 7]), np.array([4.0, 3.0, 2.0, 1.0]))[1].tolist()
    [4.0, 3.0, nan, 2.0, 1.0]
    """
    tried = course.endings
    if tried is None or tried.kept != "strong":
        return steps, values
    place = int(np.searchsorted(steps, tried.fork, side="right"))
    if not 0 < place < len(steps):
        return steps, values
    return np.insert(steps, place, tried.fork), np.insert(values.astype(float), place, np.nan)


def _envelope(curve: Curve, bins: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """The curve, or where it is long the least and largest value of every stretch of it."""
    steps, values = np.asarray(curve.steps), np.asarray(curve.values)
    if len(values) <= 2 * bins:
        return steps, values
    parts = np.array_split(np.arange(len(values)), bins)
    places = [sorted((p[values[p].argmin()], p[values[p].argmax()])) for p in parts]
    keep = np.unique(np.concatenate(places))
    return steps[keep], values[keep]
