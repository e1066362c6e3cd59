"""A sentence of the report, and numbers as a person writes them."""

from __future__ import annotations

from typing import Literal, NamedTuple

Tone = Literal["fact", "good", "warning", "unknown"]
Topic = Literal["Data", "Training", "Held-out", "Weights", "Mixed images", "Verdict"]

METRICS = {
    "dice": "Dice",
    "iou": "IoU",
    "mae": "MAE",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "event_f1": "event F1",
    "onset_error": "onset error",
    "offset_error": "offset error",
    "surface_distance": "surface distance",
    "hausdorff95": "Hausdorff 95 %",
}


class Sentence(NamedTuple):
    """One thing to say: about what, how it is to be taken, and whether the page opens with it."""

    topic: Topic
    tone: Tone
    text: str
    lead: bool = False


def count(number: int, thing: str) -> str:
    """A number with its noun.

    >>> count(1, "label"), count(1200, "step")
    ('1 label', '1,200 steps')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """A time as a person says it.

    >>> duration(3.2), duration(75), duration(7260)
    ('3 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(round(seconds), 1)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def metric_name(metric: str) -> str:
    """A metric as it is written in a sentence.

    >>> metric_name("psnr")
    'PSNR'
    """
    return METRICS.get(metric, metric.replace("_", " "))


def figure(metric: str, value: float) -> str:
    """A metric's value with its unit.

    >>> figure("psnr", 21.256), figure("dice", 0.8)
    ('21.3 dB', '0.800')
    """
    return f"{value:.1f} dB" if metric == "psnr" else f"{value:.3f}"


def were(number: int) -> str:
    """The verb after so many things.

    >>> were(1), were(2)
    ('was', 'were')
    """
    return "was" if number == 1 else "were"
