"""How far the network's probabilities can be taken at their word, in words and two charts."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from labelmend.errors import DamagedError
from labelmend.inference.reliability import Reliability
from labelmend.inference.temperature import FIGURES, Calibration, read_calibrations
from labelmend.report.canvas import HELD, INK, MUTED, STYLE, WEAK, to_svg
from labelmend.report.document import chart, say, section
from labelmend.report.markup import Child, Html, element, table
from labelmend.runs import Run

RELIABILITY = "How sure it is"
"""The title of the section."""

_SAME = 0.005
"""Confidence and share right that are no further apart are called alike."""


def make_reliability(run: Run) -> list[Html]:
    """The section on calibration; none for a run where nobody measured it."""
    try:
        kept = read_calibrations(run.path)
    except DamagedError as error:
        return [section("reliability", RELIABILITY, say(f"{error}.", "warning"))]
    if not kept:
        return []
    newest = max(kept, key=lambda one: (one.model == "main", one.step))
    others = [one for one in kept if one is not newest]
    sides: list[tuple[str, str, Reliability]] = [
        ("before", "as the network gives it", newest.before),
        ("after", f"by the temperature {newest.temperature:.2f}", newest.after),
    ]
    drawn = [
        chart(draw_reliability(side, f"reliability-{name}", words), _caption(side, words))
        for name, words, side in sides
    ]
    steps = run.steps()
    old = bool(steps) and newest.step != steps[-1]
    parts: list[Child] = [
        element("p", in_words(newest)),
        say(
            f"This was measured at step {newest.step:,}, and the run is at step {steps[-1]:,}: "
            "labelmend calibrate measures again.",
            "warning",
        )
        if old
        else None,
        *(say(f"{text[:1].upper()}{text[1:]}.", "warning") for text in newest.remarks()),
        element("div", *drawn, class_="charts"),
        element("h3", "All that was measured"),
        _table([newest, *others]),
    ]
    return [section("reliability", RELIABILITY, *parts)]


def in_words(found: Calibration) -> str:
    """What was found, in two or three sentences."""
    before, after = found.before, found.after
    sure, right = _mean(before, "confidence"), _mean(before, "right")
    text = (
        f"Judged on {found.where()}: on average the network gives its class a probability of "
        f"{sure:.3f}, and {right:.3f} of the positions are right"
    )
    if abs(sure - right) <= _SAME:
        text += ", which is alike"
    else:
        text += f": it is {'too sure' if sure > right else 'not sure enough'}"
    text += (
        f". Divided by the temperature {found.temperature:.2f}, scores give "
        f"{_mean(after, 'confidence'):.3f}. Stretch by stretch of confidence, confidence and share "
        f"right are {before.ece:.4f} apart in the mean without it and {after.ece:.4f} with it"
    )
    return f"{text}. Which class a position has stays the same."


def draw_reliability(found: Reliability, name: str, title: str) -> Html:
    """Confidence against the share right, per stretch of confidence; below, how many positions."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.8, 4.6), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        low = min((each.low for each in found.bins), default=0.0)
        low = min(low, *(each.right for each in found.bins)) if found.bins else low
        low = max(0.0, np.floor(10 * low) / 10)
        top.plot([low, 1], [low, 1], color=MUTED, linewidth=1, linestyle=(0, (2, 3)))
        for each in found.bins:
            ends = [each.confidence, each.confidence]
            top.plot(ends, [each.confidence, each.right], color=WEAK, linewidth=1.6, alpha=0.6)
        sure = [each.confidence for each in found.bins]
        top.plot(sure, [each.right for each in found.bins], "o-", color=HELD, linewidth=2)
        top.annotate(
            f"ECE {found.ece:.4f}", (0.02, 0.96), xycoords="axes fraction", va="top", color=INK
        )
        top.set_ylim(low, 1.02)
        top.set_title(f"share right against confidence, {title}")
        width = [0.86 * (each.high - each.low) for each in found.bins]
        middle = [(each.low + each.high) / 2 for each in found.bins]
        bottom.bar(middle, [each.count for each in found.bins], width, color=MUTED)
        bottom.set_yscale("log")
        bottom.set_title("positions", color=MUTED, fontsize=10)
        bottom.set_xlabel("confidence")
        bottom.set_xlim(min([low, *(each.low for each in found.bins)]), 1.0)
        return to_svg(figure, name)


def _caption(found: Reliability, words: str) -> str:
    total = sum(each.count for each in found.bins)
    worst = max(found.bins, key=lambda each: each.share * abs(each.confidence - each.right))
    return (
        f"Confidence {words}: {total:,} positions in {len(found.bins)} stretches, the dotted line "
        f"where both are equal. Most of the error lies from {worst.low:.2f} to {worst.high:.2f}: "
        f"{worst.share:.0%} of the positions, confidence {worst.confidence:.3f}, right "
        f"{worst.right:.3f}."
    )


def _table(kept: Sequence[Calibration]) -> Html:
    rows: list[list[Child]] = []
    for one in kept:
        low, high = one.spread
        apart = f" ({low:.2f} to {high:.2f})" if high > low else ""
        cells = [f"{one.temperature:.3f}{apart}"]
        for field in FIGURES.values():
            pair = (getattr(each, field) for each in (one.before, one.after))
            cells.append(" → ".join(f"{value:.4f}" for value in pair))
        rows.append([f"{one.model}, step {one.step:,}", *cells, f"{one.judged_samples}"])
    head = ["network", "temperature (of parts)", *FIGURES, "labels"]
    return table(head, rows, "As the network gives them → by the temperature")


def _mean(found: Reliability, field: str) -> float:
    return float(sum(each.share * getattr(each, field) for each in found.bins))
