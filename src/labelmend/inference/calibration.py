"""Find the temperature by which a run's probabilities can be taken at their word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from labelmend.errors import DataError, SettingsError
from labelmend.inference.evaluate import open_case
from labelmend.inference.predictor import Predictor
from labelmend.inference.reliability import Answers, Reliability, fit_temperature, measure
from labelmend.inference.temperature import Calibration, Judged, hash_parameters, keep_calibration
from labelmend.progress import Silent, Watcher, go_through
from labelmend.types import Sample

PER_SAMPLE = 2**14
"""Positions of one sample that are looked at, at most."""
ALL_TOGETHER = 2**19
"""Positions of all samples that are looked at, at most; that is what is in memory."""
LEAST = 2
"""With fewer strong labels there is nothing to measure on but what was fitted to."""
FOLDS = 10
"""Where there are more groups, they are put into so many parts."""


def calibrate(
    predictor: Predictor,
    split: Literal["val", "test"] = "val",
    *,
    seed: int = 0,
    watcher: Watcher | None = None,
) -> Calibration:
    """Find a temperature on held-out strong labels and keep it in ``RUN/calibration.json``.

    From then on whoever loads exactly these parameters gets probabilities by it; labels stay the
    same. Figures are never of what the temperature was fitted to, where that can be had: they are
    of the test split; or, without one, of every group by the temperature of all others (ten parts
    of whole groups, where there are more).

    Every sample counts alike, however large: labels are what was held out, and positions of one
    image are not independent. Of each at most :data:`PER_SAMPLE` positions whose label is known
    are looked at, and :data:`ALL_TOGETHER` of all, drawn by the seed.

    Args:
        predictor: from :func:`load`, which also says which of two networks, at which step.
        split: whose strong labels the temperature is fitted to.
        seed: which positions are looked at.
        watcher: told how many samples are predicted.

    Raises:
        SettingsError: for regression, which has no probabilities.
        DataError: when too few strong labels are held out, with the way out; or a file changed.
        StorageError: when the disk refuses.

    Source: Guo et al. 2017. The trap: one number makes a network neither better nor sure of the
    right things; it says only how far, on images like those held out, it is right as often as it
    says.
    """
    if predictor.spec.task == "regression":
        raise SettingsError(
            f"{predictor.run.path} predicts numbers; a temperature is for probabilities of classes"
        )
    watcher = watcher or Silent()
    fitted, others = _samples(predictor, split)
    room = min(PER_SAMPLE, ALL_TOGETHER // max(1, len(fitted) + len(others)))
    answers: list[Answers] = []

    def add(sample: Sample) -> None:
        answers.append(_look(predictor, sample, max(1, room), seed))

    go_through((*fitted, *others), add, watcher)
    found = _calibration(predictor, split, (fitted, others), answers, seed)
    keep_calibration(predictor.run.path, found)
    return found


def _look(predictor: Predictor, sample: Sample, room: int, seed: int) -> Answers:
    """Scores and class indices at some of a sample's positions."""
    case = open_case(predictor, sample)
    places = np.flatnonzero(case.valid)
    number = predictor.run.data.samples.index(sample)
    if len(places) > room:
        rng = np.random.default_rng([seed, number])
        places = np.sort(rng.choice(places, room, replace=False))
    scores = case.scores.reshape(len(case.scores), -1)[:, places]
    return Answers(scores, case.label.ravel()[places])


def _calibration(
    predictor: Predictor,
    split: str,
    samples: tuple[Sequence[Sample], Sequence[Sample]],
    answers: Sequence[Answers],
    seed: int,
) -> Calibration:
    first = len(samples[0])
    fitted, own = _with_labels(samples[0], answers[:first])
    _, rest = _with_labels(samples[1], answers[first:])
    if not own:
        raise DataError(f"{predictor.run.path}: no position of split {split} has a label")
    temperature = fit_temperature(own)
    groups = [sample.group for sample in fitted]
    judged, told, temperatures = _judging(temperature, groups, own, rest)
    before, after = _figures(told, temperatures)
    return Calibration(
        predictor.model,
        predictor.step,
        hash_parameters(predictor.network),
        temperature,
        split,
        len(fitted),
        len(set(groups)),
        sum(each.label.size for each in own),
        seed,
        judged,
        len(told),
        before,
        after,
        (min(temperatures), max(temperatures)),
    )


def _with_labels(
    samples: Sequence[Sample], answers: Sequence[Answers]
) -> tuple[list[Sample], list[Answers]]:
    """Those of which some position is known."""
    pairs = [(s, a) for s, a in zip(samples, answers, strict=True) if a.label.size]
    return [sample for sample, _ in pairs], [answer for _, answer in pairs]


def _figures(
    told: Sequence[Answers], temperatures: Sequence[float]
) -> tuple[Reliability, Reliability]:
    return measure(told, [1.0] * len(told)), measure(told, temperatures)


def _judging(
    temperature: float, groups: Sequence[str], own: Sequence[Answers], rest: Sequence[Answers]
) -> tuple[Judged, Sequence[Answers], list[float]]:
    """On what figures are, and the temperature of each sample there."""
    if rest:
        return "test", rest, [temperature] * len(rest)
    names = list(dict.fromkeys(groups))
    if len(names) < 2:
        return "same", own, [temperature] * len(own)
    part = {name: number % FOLDS for number, name in enumerate(names)}
    parts = [part[group] for group in groups]
    found = {
        held: fit_temperature([each for each, p in zip(own, parts, strict=True) if p != held])
        for held in set(parts)
    }
    return "groups", own, [found[p] for p in parts]


def _samples(
    predictor: Predictor, split: Literal["val", "test"]
) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """The strong labels that are fitted to, and those that only judge."""
    if split not in ("val", "test"):
        raise SettingsError(
            f"a temperature is fitted to val or test, not to {split}: of images that it was "
            "trained on a network is surer than of others"
        )
    predictor.run.data_folder()
    data = predictor.run.data
    fitted = data.of(split, "strong")
    if len(fitted) >= LEAST:
        return fitted, data.of("test", "strong") if split == "val" else ()
    other: Literal["val", "test"] = "test" if split == "val" else "val"
    there = len(data.of(other, "strong"))
    way = (
        f"there are {there} in {other} (--split {other})"
        if there >= LEAST
        else (
            "keep some apart in a new run: say so in manifest.csv, or train with "
            "--set input.val_share=0.2"
        )
    )
    raise DataError(
        f"{predictor.run.path}: {len(fitted)} strong label{'s' * (len(fitted) != 1)} in {split}, "
        f"and a temperature wants at least {LEAST}; {way}"
    )
