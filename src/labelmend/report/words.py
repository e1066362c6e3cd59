"""What happened in a run, in sentences that claim no more than its records show."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from labelmend.report.mixed_words import tell_mixing
from labelmend.report.phrases import (
    Sentence,
    Tone,
    count,
    duration,
    figure,
    metric_name,
    were,
)
from labelmend.report.story import Course, Curve, Data, Endings, Judgement, Story
from labelmend.report.trends import change_after, lowest_stretch, quarters, trend
from labelmend.report.weight_words import tell_weights
from labelmend.training.endings import LEAST
from labelmend.verdict import Outcome, Verdict

FEW = 5
"""With fewer held-out labels a figure is only rough."""
_GAIN = {"psnr": 0.3}


def tell(story: Story) -> list[Sentence]:
    """Everything worth saying about a run, in reading order.

    A trap: thresholds decide between two sentences, so near them a small change of the run can
    change the words; the figures stand beside them for that reason.
    """
    return [
        *_about_data(story.data, story.course),
        *(_about_verdict(story.verdict) if story.verdict else ()),
        *_about_held_out(story.data, story.course, story.judgements),
        *tell_weights(story.data, story.weighing),
        *(tell_mixing(story.mixing) if story.mixing else ()),
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
        text = f"{files} could not be used and {were(data.left_out)} left out; listed below."
        yield Sentence("Data", "warning", text)
    if data.notes:
        notes = " ".join(note if note.endswith(".") else f"{note}." for note in data.notes)
        yield Sentence("Data", "fact", f"How the files were understood: {notes}")


# ---------------------------------------------------------------------- were weak labels worth it


def _about_verdict(verdict: Verdict) -> Iterator[Sentence]:
    tones: dict[Outcome, Tone] = {"helped": "good", "hurt": "warning", "unclear": "unknown"}
    yield Sentence("Verdict", tones[verdict.outcome], verdict.said(), lead=True)
    for remark in verdict.remarks():
        yield Sentence("Verdict", "fact", remark)


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
    strong = change_after(course.loss_strong, best_step)
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


# ---------------------------------------------------------------------- training


def _about_training(course: Course) -> Iterator[Sentence]:
    yield from _about_end(course)
    if course.endings is not None:
        yield _about_endings(course.endings, course.metric)
    curve, name = course.loss_strong, "loss on strong labels"
    if len(curve) == 0 and len(course.loss_weak) == 0:
        curve, name = course.loss, "loss"
    way = trend(curve)
    if way == "unknown":
        text = f"Too few steps ({len(course.loss)}) to say where the loss is going."
        yield Sentence("Training", "unknown", text)
    elif way == "rising":
        low, end = lowest_stretch(curve), statistics.fmean(quarters(curve)[3])
        text = (
            f"The {name} rose again, from {low:#.3g} at its lowest to {end:#.3g}: the training "
            "diverges. Lower optimiser.learning_rate or optimiser.clip."
        )
        yield Sentence("Training", "warning", text)
    elif way == "falling":
        third, last = (statistics.fmean(part) for part in quarters(curve)[2:])
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


def _about_endings(tried: Endings, metric: str) -> Sentence:
    text = (
        f"Two endings of {count(tried.length, 'step')} each were tried from step {tried.fork:,} on"
    )
    if tried.as_is is None or tried.strong is None:
        text += "; held-out labels could not tell them apart, so the one with weak labels is kept."
        return Sentence("Training", "unknown", text)
    text += (
        f": {metric_name(metric)} on held-out labels {figure(metric, tried.as_is)} with weak "
        f"labels, {figure(metric, tried.strong)} on strong labels alone. "
    )
    kept = "The latter" if tried.kept == "strong" else "The former"
    text += f"{kept} is kept, and told of here."
    if tried.trust is not None and abs(tried.strong - tried.as_is) <= LEAST[metric]:
        text += (
            " So small a difference may be chance; that weak labels count "
            f"{tried.trust:.2f} in the mean decided."
        )
    return Sentence("Training", "fact", text)
