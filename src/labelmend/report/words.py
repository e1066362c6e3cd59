"""What happened in a run, in sentences that claim no more than its records show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from labelmend.report.story import Course, Curve, Data, Judgement, Story, Weighing

Tone = Literal["fact", "good", "warning", "unknown"]
Topic = Literal["Data", "Training", "Held-out", "Weights"]

NEAR = 0.05
"""Weights this close to 0 or 1 count as near it; a spread below it is none."""
TOO_LOW = 0.15
"""A mean weight below this leaves the weak labels next to no say."""
FEW = 5
"""With fewer held-out labels a figure is only rough."""
LEAST_RECORDS = 40
"""With fewer recorded steps nothing is said about where a loss is going."""
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
_GAIN = {"psnr": 0.3}


class Sentence(NamedTuple):
    """One thing to say: about what, how it is to be taken, and whether the page opens with it."""

    topic: Topic
    tone: Tone
    text: str
    lead: bool = False


def tell(story: Story) -> list[Sentence]:
    """Everything worth saying about a run, in reading order.

    A trap: thresholds decide between two sentences, so near them a small change of the run can
    change the words; the figures stand beside them for that reason.
    """
    return [
        *_about_data(story.data, story.course),
        *_about_held_out(story.data, story.course, story.judgements),
        *_about_weights(story.data, story.weighing),
        *_about_training(story.course),
    ]


# ---------------------------------------------------------------------- data


def _about_data(data: Data, course: Course) -> Iterator[Sentence]:
    labels = f"{count(data.strong, 'strong label')} and {count(data.weak, 'weak label')}"
    groups = f" from {count(data.groups, 'group')}" if data.groups else ""
    by = f", weak ones by {count(len(data.annotators), 'annotator')}" if data.annotators else ""
    time = f" in {duration(course.seconds)}" if course.seconds else ""
    text = f"Trained for {count(course.steps, 'step')}{time} on {labels}{groups}{by}."
    yield Sentence("Data", "fact", text, lead=True)
    if not data.strong:
        text = "There was no strong label to train on: no label in this run is known to be exact."
        yield Sentence("Data", "warning", text)
    if data.left_out:
        files = count(data.left_out, "file")
        text = f"{files} could not be used and {_were(data.left_out)} left out; listed below."
        yield Sentence("Data", "warning", text)
    if data.notes:
        notes = " ".join(note if note.endswith(".") else f"{note}." for note in data.notes)
        yield Sentence("Data", "fact", f"How the files were understood: {notes}")


# ---------------------------------------------------------------------- held-out labels


def _about_held_out(
    data: Data, course: Course, judgements: Sequence[Judgement]
) -> Iterator[Sentence]:
    held, metric = course.held, metric_name(course.metric)
    samples = data.held_out.get("val", 0)
    if not samples:
        text = (
            "No strong label was held out for validation, so nothing here says how training "
            "changed predictions on images that it did not see."
        )
        yield Sentence("Held-out", "unknown", text, lead=True)
    elif not len(held):
        text = f"{count(samples, 'strong label')} held out, but not validated on yet."
        yield Sentence("Held-out", "unknown", text, lead=True)
    else:
        yield Sentence("Held-out", "fact", _course_of(held, course.metric, samples), lead=True)
        yield from _about_peak(course)
        text = f"The best checkpoint was chosen by this {metric}, so it is no test figure."
        yield Sentence("Held-out", "fact", text)
    if 0 < samples < FEW:
        text = f"With {count(samples, 'held-out label')} the {metric} is a rough figure."
        yield Sentence("Held-out", "unknown", text)
    yield from _about_evaluations(data, course, judgements)


def _course_of(held: Curve, metric: str, samples: int) -> str:
    on = f"on {count(samples, 'held-out strong label')}"
    if len(held) == 1:
        return f"{metric_name(metric)} {on}: {figure(metric, held.last)}, measured once."
    best_step, best = held.best
    text = f"{metric_name(metric)} {on} went from {figure(metric, held.values[0])}"
    text += f" (step {held.steps[0]:,}) to {figure(metric, held.last)} (step {held.steps[-1]:,})"
    if best_step == held.steps[-1]:
        return f"{text}, its best."
    return f"{text}; best {figure(metric, best)} at step {best_step:,}."


def _about_peak(course: Course) -> Iterator[Sentence]:
    held, metric = course.held, course.metric
    best_step, best = held.best
    lost = best - held.last
    if len(held) < 3 or lost < _GAIN.get(metric, 0.02) or best_step > 0.7 * held.steps[-1]:
        return
    strong = _change(course.loss_strong, best_step)
    name = metric_name(metric)
    text = f"{name} fell by {figure(metric, lost)} after step {best_step:,}"
    if strong is not None and strong < 0:
        text += " while the loss on strong training labels went on falling: it over-fits"
    text += "; the checkpoint of that step is kept as the best (--checkpoint best)."
    yield Sentence("Held-out", "warning", text)


def _about_evaluations(
    data: Data, course: Course, judgements: Sequence[Judgement]
) -> Iterator[Sentence]:
    for one in judgements:
        value = one.mean.get(course.metric)
        if one.split == "train" or value is None:
            continue
        on = f"{count(one.samples, 'strong label')} of the {one.split} split"
        text = f"Evaluated on {on} at step {one.step:,}: "
        text += f"{metric_name(course.metric)} {figure(course.metric, value)}."
        yield Sentence("Held-out", "fact", text)
    tests = data.held_out.get("test", 0)
    if not tests:
        text = "No strong label was kept for testing, so there is no figure free of choices."
        yield Sentence("Held-out", "unknown", text)
    elif not any(one.split == "test" for one in judgements):
        text = f"{count(tests, 'strong label')} kept for testing, not evaluated yet"
        yield Sentence("Held-out", "unknown", f"{text} (labelmend evaluate RUN).")


# ---------------------------------------------------------------------- weights


def _about_weights(data: Data, weighing: Weighing) -> Iterator[Sentence]:
    if not data.weak:
        yield Sentence("Weights", "fact", "There were no weak labels to weigh.")
    elif not weighing.used:
        text = "The weak labels were left aside: this run trained on strong ones only."
        yield Sentence("Weights", "fact", text, lead=True)
    elif not weighing.learned:
        text = f"Weights were not learned: every weak label counted with {weighing.initial:g}."
        yield Sentence("Weights", "fact", text, lead=True)
    elif not weighing.rounds or not weighing.weights:
        text = (
            f"No weight step was taken: it would have begun at step {weighing.start:,} "
            f"(weighting.start), so every weak label counted with {weighing.initial:g}."
        )
        yield Sentence("Weights", "warning", text, lead=True)
    else:
        yield from _about_learned(weighing)


def _about_learned(weighing: Weighing) -> Iterator[Sentence]:
    weights = weighing.weights
    if all(math.isclose(w, weighing.initial, abs_tol=1e-6) for w in weights):
        text = (
            f"The weights never moved from {weighing.initial:g} in "
            f"{count(weighing.rounds, 'weight step')}: they say nothing about the labels."
        )
        yield Sentence("Weights", "warning", text, lead=True)
        return
    low = sum(w <= NEAR for w in weights)
    high = sum(w >= 1 - NEAR for w in weights)
    mean = statistics.fmean(weights)
    text = (
        f"After {count(weighing.rounds, 'weight step')} the weak labels count with {mean:.2f} "
        f"on average (at first {weighing.initial:g}): {low} of {len(weights)} near 0, "
        f"{high} near 1."
    )
    yield Sentence("Weights", "fact", text, lead=True)
    yield from _about_spread(weights, mean)
    unjudged = len(weights) - weighing.judged
    if unjudged > 0:
        text = f"{count(unjudged, 'weak label')} {_were(unjudged)} never judged: still at the start"
        yield Sentence("Weights", "warning", f"{text} weight.")
    yield from _about_annotators(weighing.by_annotator)
    text = (
        "A low weight says that the network finds a label unusual, or that learning from it does "
        "not help with the strong ones. That "
        "is a reason to look at it, not a proof that it is wrong."
    )
    yield Sentence("Weights", "fact", text)


def _about_spread(weights: Sequence[float], mean: float) -> Iterator[Sentence]:
    if len(weights) > 1 and max(weights) - min(weights) < NEAR:
        text = (
            f"The weights collapsed to one value (all within {max(weights) - min(weights):.3f} "
            f"of each other, around {mean:.2f}): they do not tell labels apart."
        )
        yield Sentence("Weights", "warning", text)
    if mean < TOO_LOW:
        text = (
            f"The weights collapsed towards 0 (mean {mean:.2f}): the weak labels hardly count, "
            "and the run is close to training on strong ones alone. A smaller weighting.rate or "
            "more weighting.strong_samples may help."
        )
        yield Sentence("Weights", "warning", text)
    elif mean > 1 - NEAR:
        text = f"Nearly every weight is 1 (mean {mean:.2f}): this is close to pooling all labels."
        yield Sentence("Weights", "warning", text)


def _about_annotators(by_annotator: Mapping[str, Sequence[float]]) -> Iterator[Sentence]:
    if len(by_annotator) < 2:
        return
    means = sorted((statistics.fmean(w), name, w) for name, w in by_annotator.items())
    (low, lowest, below), (high, highest, above) = means[0], means[-1]
    text = (
        f"Mean weight by annotator: from {low:.2f} ({lowest}, {count(len(below), 'label')}) "
        f"to {high:.2f} ({highest}, {count(len(above), 'label')})"
    )
    if high - low < 2 * math.hypot(_standard_error(below), _standard_error(above)):
        text += "; with so few labels or so much spread, chance alone could make this difference"
    yield Sentence("Weights", "fact", f"{text}.")


# ---------------------------------------------------------------------- training


def _about_training(course: Course) -> Iterator[Sentence]:
    yield from _about_end(course)
    curve, name = course.loss_strong, "loss on strong labels"
    if len(curve) == 0 and len(course.loss_weak) == 0:
        curve, name = course.loss, "loss"
    way = trend(curve)
    if way == "unknown":
        text = f"Too few steps ({len(course.loss)}) to say where the loss is going."
        yield Sentence("Training", "unknown", text)
    elif way == "rising":
        low, end = _lowest(curve), statistics.fmean(_quarters(curve)[3])
        text = (
            f"The {name} rose again, from {low:#.3g} at its lowest to {end:#.3g}: the training "
            "diverges. Lower optimiser.learning_rate or optimiser.clip."
        )
        yield Sentence("Training", "warning", text)
    elif way == "falling":
        third, last = (statistics.fmean(part) for part in _quarters(curve)[2:])
        text = (
            f"The {name} was still falling at the end ({third:#.3g} in the third quarter, "
            f"{last:#.3g} in the last): a longer training may gain."
        )
        yield Sentence("Training", "warning", text)
    else:
        text = f"The {name} was level over the last half of the steps."
        yield Sentence("Training", "good", text)


def _about_end(course: Course) -> Iterator[Sentence]:
    if course.planned is None or course.steps >= course.planned:
        return
    since = len(course.held) and sum(s > course.held.best[0] for s in course.held.steps)
    if course.patience is not None and since >= course.patience:
        text = (
            f"Ended early at step {course.steps:,} of {course.planned:,}: "
            f"no gain in {count(course.patience, 'validation')} (patience)."
        )
        yield Sentence("Training", "fact", text)
        return
    text = (
        f"Not finished: step {course.steps:,} of {course.planned:,}. "
        "labelmend train --resume RUN goes on from the last checkpoint."
    )
    yield Sentence("Training", "warning", text)


def trend(curve: Curve) -> Literal["falling", "rising", "level", "unknown"]:
    """Where a noisy curve is going in its last quarter.

    ``rising`` compares with the lowest stretch of the curve, ``falling`` with the third quarter;
    either has to be beyond three standard errors and a few percent.

    >>> steps = tuple(range(100))
    >>> trend(Curve(steps, tuple(1 - s / 100 for s in steps))), trend(Curve(steps, (0.5,) * 100))
    ('falling', 'level')
    """
    if len(curve) < LEAST_RECORDS:
        return "unknown"
    _, _, third, last = _quarters(curve)
    mean, error = statistics.fmean(last), _standard_error(last)
    lowest = _lowest(curve)
    height = max(statistics.fmean(_eighths(curve)[0]) - lowest, 0)
    if mean - lowest > max(0.25 * abs(lowest), 0.1 * height, 4 * error):
        return "rising"
    fall = statistics.fmean(third) - mean
    noise = math.hypot(error, _standard_error(third))
    if fall > max(3 * noise, 0.05 * abs(statistics.fmean(third))):
        return "falling"
    return "level"


def _quarters(curve: Curve) -> list[Sequence[float]]:
    n = len(curve)
    return [curve.values[n * i // 4 : n * (i + 1) // 4] for i in range(4)]


def _eighths(curve: Curve) -> list[Sequence[float]]:
    n = len(curve)
    return [curve.values[n * i // 8 : n * (i + 1) // 8] for i in range(8)]


def _lowest(curve: Curve) -> float:
    return min(statistics.fmean(part) for part in _eighths(curve))


def _change(curve: Curve, step: int) -> float | None:
    """Mean after a step minus mean of as many records before it."""
    after = [v for s, v in zip(curve.steps, curve.values, strict=True) if s > step]
    before = [v for s, v in zip(curve.steps, curve.values, strict=True) if s <= step]
    before = before[-len(after) :] if after else []
    return statistics.fmean(after) - statistics.fmean(before) if after and before else None


def _standard_error(values: Sequence[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


# ---------------------------------------------------------------------- numbers as words


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


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
