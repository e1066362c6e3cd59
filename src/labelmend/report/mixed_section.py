"""The part of the page about mixed images: a few of them, and how they went over training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from labelmend.report import charts
from labelmend.report.document import chart, say
from labelmend.report.legend import is_paired, make_key, make_mixed_legend
from labelmend.report.markup import Html, element, join
from labelmend.report.mixed_pictures import MixedPainter
from labelmend.report.mixed_words import tell_idle
from labelmend.report.phrases import count
from labelmend.report.story import Curve, Mixing
from labelmend.runs import Run
from labelmend.training.assembly.examples import LOOKED, MixedExample, mixed_examples
from labelmend.types import Sample

MIXED = "Mixed images"
SHOWN = 3


def make_examples(run: Run, mixing: Mixing, spectrogram: bool, network: str | None) -> Html:
    """A few mixed images, or why there is none.

    Raises:
        LabelmendError: when they cannot be made, as by a file that changed.
    """
    # Three patches take less time than a device takes to wake up.
    examples = mixed_examples(run, SHOWN, torch.device("cpu"), network=network)
    if not examples:
        return say(
            f"No pair of two images with something to cut out comes up in {LOOKED} steps, so there "
            "is none to show."
        )
    spec = run.data.spec
    taught, shaded = ("pseudo-label", "gated") if mixing.predicted else ("mixed label", "ignored")
    painter = MixedPainter(spec, taught, shaded, spectrogram)
    of = {sample.id: sample for sample in run.data.samples}
    tiles = [_tile(painter, mixing, example, of) for example in examples]
    style = "tiles mixed" + " wide" * (spec.dims == 1) + " paired" * is_paired(spec)
    return join(
        element("p", _explain(mixing, examples)),
        make_key("mixing", spec, make_mixed_legend(spec, shaded, _shaded(mixing, examples))),
        element("div", *tiles, class_=style),
    )


def _explain(mixing: Mixing, examples: Sequence[MixedExample]) -> str:
    step = count(examples[0].step, "step")
    text = f"Pairs that training would take next after {step}, as the models then see them. "
    if not mixing.predicted:
        return text + "What a mixed image teaches are the labels of both, mixed as the images are."
    whose = "the auxiliary model" if mixing.two else "the model"
    who = f"the average of {whose}" if mixing.averaged else whose
    text += f"The pseudo-label is what {who} predicts for the two images, put together as they are"
    if mixing.two:
        text += "; it teaches the main model, and one by the main model teaches the auxiliary"
    if mixing.trusted:
        text += ". Where a label is strong, it stands in the place of the prediction"
    return f"{text}."


def _shaded(mixing: Mixing, examples: Sequence[MixedExample]) -> str:
    """What it is that teaches nothing; empty where there is none."""
    if all(example.teaches.all() for example in examples):
        return ""
    return _gated(mixing) if mixing.predicted else "not said by any label: teaches nothing"


def _gated(mixing: Mixing) -> str:
    return f"left out by the gate (no class has a probability of {mixing.gate:g})"


def _tile(
    painter: MixedPainter, mixing: Mixing, example: MixedExample, of: dict[str, Sample]
) -> Html:
    picture, note = painter.draw(example)
    name = painter.spec.classes[example.cut]
    parts = zip(("first", "second"), example.samples, example.weights, strict=True)
    lines = [
        element(
            "span",
            f"{place}: ",
            element("code", sample),
            f" ({of[sample].quality}, weight\u00a0γ\u00a0{weight:.2f})",
            class_="sample",
        )
        for place, sample, weight in parts
    ]
    caption = element(
        "figcaption",
        element("span", element("b", f"{name} cut out of the first image"), class_="head"),
        *lines,
        element("span", " · ".join(_details(mixing, example, note)), class_="details"),
    )
    return element("figure", picture, caption, class_="tile")


def _details(mixing: Mixing, example: MixedExample, note: str) -> list[str]:
    found = []
    if example.differ is not None:
        found.append(f"the two models differ over {_share(example.differ)} of their objects here")
    elif len(example.predicted) > 1:
        found.append("neither model sees an object here")
    if mixing.gate:
        left_out = _share(1 - float(example.teaches.mean()))
        found.append(f"the gate leaves out {left_out} of positions")
    return [*found, note] if note else found


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 or value == 0 else f"{value:.1%}"


# ---------------------------------------------------------------------- over training


def make_course(mixing: Mixing) -> list[Html]:
    """Charts of what training recorded about mixed images, and what to know about them."""
    if not len(mixing.loss):
        return [say("No mixed image has been trained on yet.")]
    drawn = [*_disagreement(mixing), *_gate(mixing), *_gain(mixing), _loss(mixing)]
    idle = tell_idle(mixing)
    warning = element("p", idle, class_="note warning spaced") if idle else None
    heading = element("h3", "Over training")
    parts = (heading, warning, element("div", *drawn, class_="charts"))
    return [part for part in parts if part is not None]


def _disagreement(mixing: Mixing) -> list[Html]:
    curve = mixing.disagreement
    if not len(curve):
        return []
    text = (
        "Of the positions where either model sees an object, the share where they name different "
        "classes: what they can still teach each other. Near 0 the second one adds nothing. "
    )
    title = "disagreement of the two models"
    drawing = charts.draw_figure(curve, title, "disagreement", (0, 0.05), percent=True)
    return [chart(drawing, text + _tenths(curve, "{:.1%}"))]


def _gate(mixing: Mixing) -> list[Html]:
    curve = mixing.gated
    if not len(curve) or not mixing.gate:
        return []
    text = (
        f"Positions of pseudo-labels that taught nothing because no class had a probability of "
        f"{mixing.gate:g}. Near 100% there is nothing left to learn from, near 0 the gate is idle. "
    )
    title = "share that the gate left out"
    drawing = charts.draw_figure(curve, title, "gated", (0, 0.05), percent=True)
    return [chart(drawing, text + _tenths(curve, "{:.1%}"))]


def _gain(mixing: Mixing) -> list[Html]:
    curve = mixing.gain
    if not len(curve):
        return []
    text = (
        "Where a pseudo-label and what its pupil says differ, at positions from strong labels: how "
        "much more often the pseudo-label is right. Above 0 it corrects, below 0 it misleads. "
        "Both were trained on these labels, so read its course, not its height. "
    )
    drawing = charts.draw_figure(curve, "gain of pseudo-labels", "gain", (-1, 1))
    return [chart(drawing, text + _tenths(curve, "{:.2f}"))]


def _loss(mixing: Mixing) -> Html:
    against = "pseudo-labels" if mixing.predicted else "their labels, mixed alike"
    text = f"Loss of mixed images against {against}, weights left aside. "
    if mixing.predicted:
        text += "A low one says that a model follows pseudo-labels, not that these are right. "
    drawing = charts.draw_figure(mixing.loss, "loss of mixed images", "mixed-loss", (0, 0))
    return chart(drawing, text + _tenths(mixing.loss, "{:#.3g}"))


def _tenths(curve: Curve, form: str) -> str:
    """Where a figure began and ended."""
    smooth = charts.smoothed(curve)[1]
    tenth = max(len(smooth) // 10, 1)
    first, last = (form.format(part.mean()) for part in (smooth[:tenth], smooth[-tenth:]))
    return f"First to last tenth: {first} → {last}.".replace("-", "−")
