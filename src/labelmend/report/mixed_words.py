"""What happened to mixed images in a training, in sentences."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from labelmend.report.phrases import Sentence
from labelmend.report.story import Curve, Mixing
from labelmend.report.trends import standard_error
from labelmend.training.idle import LEAST, WINDOW

MOSTLY = 0.9
"""A gate that leaves out more than this leaves next to nothing to learn from."""


def tell_mixing(mixing: Mixing) -> Iterator[Sentence]:
    """Everything worth saying about mixed images, in reading order."""
    how = f"Trained also on images cut into one another along a class; {_taught(mixing)}."
    yield Sentence("Mixed images", "fact", how)
    if not len(mixing.loss):
        yield Sentence("Mixed images", "unknown", "No mixed image has been trained on yet.")
    if (text := tell_idle(mixing)) is not None:
        yield Sentence("Mixed images", "warning", text)
    gated, gain = latest(mixing.gated), latest(mixing.gain)
    if gated and statistics.fmean(gated) > MOSTLY:
        text = (
            f"The gate left out {statistics.fmean(gated):.1%} of positions over the last {WINDOW} "
            "steps, so pseudo-labels taught next to nothing; lower mixing.gate."
        )
        yield Sentence("Mixed images", "warning", text)
    if gain and statistics.fmean(gain) + 3 * standard_error(gain) < 0:
        text = (
            "Where pseudo-labels and what their pupil said differed, the pupil was right more "
            f"often (gain {statistics.fmean(gain):.2f} over the last {WINDOW} steps): they taught "
            "mistakes. A ramp (mixing.ramp) or a gate (mixing.gate) may help."
        )
        yield Sentence("Mixed images", "warning", text)


def tell_idle(mixing: Mixing) -> str | None:
    """That the second model added nothing, where the last steps show that; else None."""
    latest_ones = latest(mixing.disagreement)
    if not latest_ones or (mean := statistics.fmean(latest_ones)) >= LEAST:
        return None
    return (
        f"The second model was idle: over the last {WINDOW} steps both predicted the same but for "
        f"{mean:.1%} of their objects, so it added nothing there; training without dual.use would "
        "take about half the time."
    )


def latest(curve: Curve) -> tuple[float, ...]:
    """The values of the last steps, as many as the watch on a training looks at; none of fewer.

    >>> latest(Curve((1, 2), (0.5, 0.5)))
    ()
    """
    return curve.values[-WINDOW:] if len(curve) >= WINDOW else ()


def _taught(mixing: Mixing) -> str:
    """What the networks learned from them."""
    average = "the average of " if mixing.averaged else ""
    but = ", but for strong labels, which stood as they are" if mixing.trusted else ""
    if mixing.two:
        return (
            "two networks taught each other: either learned on them what "
            f"{average}the other predicted for the two images{but}"
        )
    if mixing.predicted:
        who = "its average" if mixing.averaged else "it"
        return f"the network learned on them what {who} predicted for the two images{but}"
    return "the network learned them with their labels, mixed alike"
