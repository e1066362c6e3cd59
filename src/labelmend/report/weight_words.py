"""What happened to the weights of a run, in sentences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from labelmend.report.phrases import Sentence, count, were
from labelmend.report.story import Data, Method, Weighing
from labelmend.report.trends import quarters, standard_error

NEAR = 0.05
"""Weights this share of the highest away from 0 or from it are near; a spread below it is none."""
TOO_LOW = 0.15
"""A mean weight below this leaves the weak labels next to no say."""
NOISE = 0.1
"""Strong labels that agree less than this on a step leave similarities to chance."""
FEW_ROUNDS = 8
"""Of fewer weight steps only a mean is told."""
MOST_NOTES = 3
MOST_CLASSES = 8

_FOR = {
    "both": "a fit to the prediction nearly as good as the median label's, and a gradient that "
    "helps with the strong labels",
    "alike": "a fit to the prediction nearly as good as the median label's, and a gradient that "
    "helps with the strong labels, both beside images alike where no strong one is like them",
    "fit": "a fit to the prediction nearly as good as the median label's",
    "loss": "a loss that is usual among the weak labels",
    "similarity": "a gradient that helps with the strong labels",
}
_LOW = {
    "fit": "the prediction and a label overlap less than is usual",
    "loss": "a label's loss is unusually large",
    "similarity": "learning from a label does not help with the strong ones",
}
_LOW_OF_BOTH = (
    "the network finds a label unusual, or that learning from it does not help with the strong ones"
)
_OWN = {
    "class": " Every class of a label is judged by itself and has a weight of its own.",
    "annotator": " All labels of an annotator are judged together and share one weight.",
    "group": " All labels of a group are judged together and share one weight.",
}


def tell_weights(data: Data, weighing: Weighing) -> Iterator[Sentence]:
    """Everything worth saying about the weights, in reading order."""
    method = weighing.method
    if not data.weak:
        yield Sentence("Weights", "fact", "There were no weak labels to weigh.")
        return
    if not weighing.used:
        text = "The weak labels were left aside: this run trained on strong ones only."
        yield Sentence("Weights", "fact", text, lead=True)
        return
    if method.learned and weighing.rounds:
        yield from _about_learned(weighing)
    else:
        yield _about_constant(weighing)
    if weighing.rounds or method.given:
        yield from _about_use(method)


def near_ends(weights: Sequence[float], highest: float) -> tuple[int, int]:
    """How many weights are near 0, and how many near the highest.

    >>> near_ends([0.0, 0.08, 1.0, 1.95], highest=2.0)
    (2, 1)
    """
    near = NEAR * highest
    return sum(w <= near for w in weights), sum(w >= highest - near for w in weights)


def starting(weighing: Weighing) -> str:
    """The weights before any weight step.

    >>> starting(Weighing(Method(), used=True, began=(0.5, 0.5)))
    '0.5'
    >>> starting(Weighing(Method(given=True), used=True, began=(0.2, 0.6)))
    '0.40 on average, as given, from 0.20 to 0.60'
    """
    low, high = min(weighing.began, default=0.0), max(weighing.began, default=0.0)
    given = ", as given" if weighing.method.given else ""
    if high - low < 1e-6:
        return f"{low:g}{given}"
    return f"{statistics.fmean(weighing.began):.2f} on average{given}, from {low:.2f} to {high:.2f}"


def _about_constant(weighing: Weighing) -> Sentence:
    method = weighing.method
    counted = f"weak labels counted with {starting(weighing)}"
    if not method.given:
        counted = f"every weak label counted with {starting(weighing)}"
    if not method.learned:
        return Sentence("Weights", "fact", f"Weights were not learned: {counted}.", lead=True)
    when = ""
    if method.start is not None:
        when = f": the first was to come at step {method.start:,} (weighting.start)"
    return Sentence("Weights", "warning", f"No weight step was taken{when}, so {counted}.", True)


def _about_use(method: Method) -> Iterator[Sentence]:
    if method.shuffled:
        text = (
            "A sanity run (weighting.shuffled): training dealt the weights out among the weak "
            "labels at random, so a label was trained on with another one's weight. Weights on "
            "this page are those of the labels they stand beside; held-out figures show what is "
            "left when nobody knows whose weight is whose."
        )
        yield Sentence("Weights", "warning", text, lead=True)
    text = "Weights decided how often a weak label was drawn"
    if method.use == "sampler":
        text += ", and did not scale its loss (weighting.use = sampler)."
        yield Sentence("Weights", "fact", text)
    elif method.use == "both":
        text += " and scaled its loss too: they counted twice (weighting.use = both)."
        yield Sentence("Weights", "fact", text)


# ---------------------------------------------------------------------- learned weights


def _about_learned(weighing: Weighing) -> Iterator[Sentence]:
    method, weights = weighing.method, weighing.weights
    taken = count(weighing.rounds, "weight step")
    if not any(weighing.moved):
        text = f"The weights never moved from {starting(weighing)} in {taken}: they say nothing "
        yield Sentence("Weights", "warning", f"{text}about the labels.", lead=True)
    else:
        low, high = near_ends(weights, method.highest)
        verb = "count with" if method.use == "loss" and not method.shuffled else "have a weight of"
        mean = f"{statistics.fmean(weights):.2f} on average"
        classes = ", the mean over its classes for each" if weighing.by_class else ""
        text = (
            f"After {taken} the weak labels {verb} {mean}{classes} (at first "
            f"{starting(weighing)}): {low} of {len(weights)} near 0, {high} near "
            f"{method.highest:g}."
        )
        yield Sentence("Weights", "fact", text, lead=True)
        yield from _about_spread(weighing)
    yield from _about_looks(weighing)
    yield from _about_parts(weighing)
    yield from _about_agreement(weighing)
    yield from _about_notes(weighing.notes)
    if any(weighing.moved):
        some = ", perhaps not for all that share it" if weighing.pooled else ""
        text = (
            f"A low weight says that {_LOW.get(method.signal, _LOW_OF_BOTH)}{some}. That is a "
            "reason to look at it, not a proof that it is wrong."
        )
        yield Sentence("Weights", "fact", text)


def _about_spread(weighing: Weighing) -> Iterator[Sentence]:
    highest, weights = weighing.method.highest, weighing.all_weights
    spread, mean = max(weights) - min(weights), statistics.fmean(weights)
    things = {"class": "labels and classes", "annotator": "annotators", "group": "groups"}
    # One annotator with one weight has nothing to be told apart from.
    if spread < NEAR * highest and _owners(weighing) > 1:
        text = (
            f"The weights collapsed to one value (all within {spread:.3f} of each other, around "
            f"{mean:.2f}): they do not tell {things.get(weighing.method.per, 'labels')} apart."
        )
        yield Sentence("Weights", "warning", text)
    if mean < TOO_LOW * min(highest, 1):
        yield _too_low(weighing, mean)
    elif mean > highest * (1 - NEAR):
        yield _too_high(weighing.method, mean)


def _owners(weighing: Weighing) -> int:
    """How many weights there are that could differ."""
    if not weighing.pooled:
        return len(weighing.all_weights)
    alone = len(weighing.weights) - sum(len(weights) for weights in weighing.parts.values())
    return alone + len(weighing.parts)


def _too_low(weighing: Weighing, mean: float) -> Sentence:
    method, weights = weighing.method, weighing.weights
    text = f"The weights collapsed towards 0 (mean {mean:.2f}): "
    if method.use == "sampler" and method.apart:
        above = len(weights) - near_ends(weights, method.highest)[0]
        text += (
            f"places for weak labels in batches went mostly to the {above} of {len(weights)} that "
            "are not near 0."
            if max(weights) > 0
            else "strong labels were drawn in the places of weak ones."
        )
    else:
        text += (
            "the weak labels hardly count, and the run is close to training on strong ones alone."
        )
    more = " or more weighting.strong_samples" if _compares(method) else ""
    return Sentence("Weights", "warning", f"{text} A smaller weighting.rate{more} may help.")


def _compares(method: Method) -> bool:
    """Whether gradients of strong labels took part."""
    return method.signal not in ("fit", "loss")


def _too_high(method: Method, mean: float) -> Sentence:
    text = f"Nearly every weight is {method.highest:g} (mean {mean:.2f}): "
    if method.use == "sampler":
        text += "weak labels are drawn all alike."
    elif method.highest == 1:
        text += "this is close to pooling all labels."
    else:
        text += f"the highest there is; all weak labels count alike, {method.highest:g} times."
    return Sentence("Weights", "warning", text)


def _about_looks(weighing: Weighing) -> Iterator[Sentence]:
    """What spoke for a label, and how often it was asked about."""
    method, looks = weighing.method, weighing.looks
    if method.signal:
        text = f"What speaks for a label is {_FOR[method.signal]} (weighting.signal = "
        text += f"{method.signal}).{_OWN.get(method.per, '')}"
        yield Sentence("Weights", "fact", text)
    if any(looks):
        yield Sentence("Weights", "fact", _schedule(method, looks))
    never = sum(not look for look in looks)
    if never:
        still = sum(not (look or moved) for look, moved in zip(looks, weighing.moved, strict=True))
        text = f"{count(never, 'weak label')} {were(never)} never judged: still at the start weight"
        if still < never:
            text = f"{count(never, 'weak label')} {were(never)} never judged"
            text += f"; {never - still} of them moved with the others"
        yield Sentence("Weights", "warning" if still else "fact", f"{text}.")
    if method.held_out:
        only = f"{count(method.held_out, 'strong label')} served the weight steps alone"
        text = f"{only}; training did not see {'it' if method.held_out == 1 else 'them'}"
        yield Sentence("Weights", "fact", f"{text} (weighting.held_out).")
    if method.band is not None:
        low, high = method.band
        text = f"The mean of all weights was held within {low:g} and {high:g} (weighting.mean)."
        yield Sentence("Weights", "fact", text)


def _schedule(method: Method, looks: Sequence[int]) -> str:
    least, most = min(looks), max(looks)
    times = _times(most) if least == most else f"{least} to {most} times"
    times = times if least else f"at most {_times(most)}"
    text = f"Each weak label was looked at {times}"
    if method.start is not None and method.every is not None and method.judged is not None:
        steps = "every step" if method.every == 1 else f"every {method.every:,} steps"
        many = f"{method.judged:,} of {len(looks):,}" if method.judged < len(looks) else "all"
        text += f": from step {method.start:,} on, {steps}, {many}"
    if method.cost is not None:
        text += f". That takes about {method.cost:.0%} more time than training alone, by counting "
        text += "passes through the network"
    return f"{text}."


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _about_parts(weighing: Weighing) -> Iterator[Sentence]:
    if weighing.by_class:
        means = {name: statistics.fmean(w) for name, w in weighing.by_class.items()}
        order = sorted(means, key=lambda name: means[name])
        named = [f"{name} {means[name]:.2f}" for name in order]
        if len(named) > MOST_CLASSES:
            named[MOST_CLASSES // 2 : -MOST_CLASSES // 2] = ["…"]
        text = f"Mean weight by class, rising: {', '.join(named)}."
        yield Sentence("Weights", "fact", text)
    parts, by = weighing.parts, weighing.by
    if weighing.pooled:
        yield Sentence("Weights", "fact", _shared(weighing))
    elif by == "annotator" and len(parts) > 1:
        low, high = _extremes(parts)
        text = f"Mean weight by annotator: from {_named(low, parts)} to {_named(high, parts)}"
        apart = statistics.fmean(parts[high]) - statistics.fmean(parts[low])
        if apart < 2 * math.hypot(standard_error(parts[low]), standard_error(parts[high])):
            text += (
                "; with so few labels or so much spread, chance alone could make this difference"
            )
        yield Sentence("Weights", "fact", f"{text}.")


def _shared(weighing: Weighing) -> str:
    """Who has which weight, where labels share them."""
    parts, per = weighing.parts, weighing.method.per
    alone = len(weighing.weights) - sum(len(weights) for weights in parts.values())
    if not parts:
        return f"No weak label names its {per}, so each has a weight of its own."
    low, high = _extremes(parts)
    text = f"All labels that name {_an(per)} have one weight: {_named(low, parts)}"
    if len(parts) > 1:
        text = f"The weights of {count(len(parts), per)}: from {_named(low, parts)} to "
        text += _named(high, parts)
    if alone:
        text += f"; {count(alone, 'label')} without {per} {'has' if alone == 1 else 'have'} a "
        text += "weight each"
    return f"{text}."


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _extremes(parts: Mapping[str, Sequence[float]]) -> tuple[str, str]:
    order = sorted(parts, key=lambda name: (statistics.fmean(parts[name]), name))
    return order[0], order[-1]


def _named(name: str, parts: Mapping[str, Sequence[float]]) -> str:
    return f"{statistics.fmean(parts[name]):.2f} ({name}, {count(len(parts[name]), 'label')})"


def _about_agreement(weighing: Weighing) -> Iterator[Sentence]:
    """Whether similarities meant something, which wears off as the strong labels are fitted."""
    curve, signal = weighing.agreement, weighing.method.signal
    if not len(curve) or not _compares(weighing.method):
        return
    parts = quarters(curve)
    first, last = (statistics.fmean(part or curve.values) for part in (parts[0], parts[-1]))
    went = f"{first:.2f} in the first quarter of weight steps and {last:.2f} in the last"
    if len(curve) < FEW_ROUNDS:
        first = last = statistics.fmean(curve.values)
        went = f"{last:.2f} on average"
    text = f"Two halves of the strong labels agreed on the step to take with {went} (0: not at all,"
    text += " 1: fully)"
    if signal in ("both", "alike"):
        text += "; the similarity to them had that share in a verdict, a third at least, and the "
        text += "fit the rest."
        yield Sentence("Weights", "fact", text)
    elif last < NOISE:
        text += ": at the end a similarity to them says little. weighting.signal = alike, or a "
        text += "weighting.held_out share, may help."
        yield Sentence("Weights", "warning", text)
    else:
        yield Sentence("Weights", "fact", f"{text}; the lower, the less a similarity to them says.")


def _about_notes(notes: Sequence[str]) -> Iterator[Sentence]:
    for note in notes[:MOST_NOTES]:
        yield Sentence("Weights", "fact", f"The weight steps say of themselves: {note}.")
    if len(notes) > MOST_NOTES:
        more = count(len(notes) - MOST_NOTES, "further note")
        yield Sentence("Weights", "fact", f"{more} of this kind in metrics.jsonl.")
