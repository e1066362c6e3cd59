"""Which held-out samples to show beside their predictions: the worst, the typical and the best."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from labelmend.errors import LabelmendError
from labelmend.inference.evaluate import judge_sample
from labelmend.inference.predictor import Predictor
from labelmend.progress import Watcher
from labelmend.report.story import Judgement
from labelmend.types import Sample, Split

MOST_SHOWN = 8
MOST_JUDGED = 64
"""Without an evaluation to go by, no more samples than this are predicted to choose from."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample to show, its figure (``None``: nothing to measure there), and why it was chosen."""

    sample: Sample
    value: float | None
    place: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What is shown of a split, and out of how many samples it was chosen."""

    split: Split
    shown: tuple[Shown, ...]
    judged: int
    total: int


def choose(
    predictor: Predictor, metric: str, judgements: Sequence[Judgement], watcher: Watcher
) -> Choice | None:
    """Up to eight strong samples of ``test``, else ``val``; nothing where neither has any.

    Their figures are those of an evaluation of the same checkpoint where there is one. Samples
    that cannot be predicted are told to the watcher and left out.

    Raises:
        LabelmendError: when none can be predicted.
    """
    data = predictor.run.data
    split: Split = "test" if data.of("test", "strong") else "val"
    samples = data.of(split, "strong")
    if not samples:
        return None
    values = _evaluated(predictor, split, metric, judgements)
    if any(sample.label not in values for sample in samples):
        values = _judged(predictor, spread(samples, MOST_JUDGED), metric, watcher)
    rated = [(sample, values[sample.label]) for sample in samples if sample.label in values]
    return Choice(split, tuple(select(rated)), len(rated), len(samples))


def select(rated: Sequence[tuple[Sample, float | None]]) -> list[Shown]:
    """Three worst, two from the middle and three best, worst first; all where they are few."""
    known = sorted(((s, v) for s, v in rated if v is not None), key=lambda pair: pair[1])
    blank = [Shown(s, None, "") for s, v in rated if v is None]
    if len(rated) <= MOST_SHOWN:
        return [Shown(s, v, _place(i, len(known))) for i, (s, v) in enumerate(known)] + blank
    middle = len(known) // 2
    last = len(known) - 1
    wanted = {0: "worst", 1: "worst", 2: "worst", middle - 1: "median", middle: "median"}
    wanted |= {last - 2: "best", last - 1: "best", last: "best"}
    chosen = [Shown(*known[i], wanted[i]) for i in sorted(wanted) if 0 <= i <= last]
    return (chosen + blank)[:MOST_SHOWN]


def spread(samples: Sequence[Sample], most: int) -> list[Sample]:
    """At most so many samples, evenly from first to last.

    >>> spread([1, 2, 3, 4, 5], 3)
    [1, 3, 5]
    """
    if len(samples) <= most:
        return list(samples)
    return [samples[round(i * (len(samples) - 1) / (most - 1))] for i in range(most)]


def value_of(row: Mapping[str, Mapping[str, float]], metric: str) -> float | None:
    """Mean of a metric over the classes of a sample where it exists.

    >>> value_of({"a": {"dice": 0.5}, "b": {"dice": float("nan")}}, "dice")
    0.5
    """
    values = [numbers[metric] for numbers in row.values() if metric in numbers]
    values = [value for value in values if math.isfinite(value)]
    return statistics.fmean(values) if values else None


def _place(place: int, total: int) -> str:
    if total > 1 and place in (0, total - 1):
        return "worst" if place == 0 else "best"
    return ""


def _judged(
    predictor: Predictor, samples: Sequence[Sample], metric: str, watcher: Watcher
) -> dict[str, float | None]:
    watcher.start(len(samples), 0)
    values: dict[str, float | None] = {}
    refused: list[LabelmendError] = []
    try:
        for number, sample in enumerate(samples, 1):
            try:
                values[sample.label] = value_of(judge_sample(predictor, sample), metric)
            except LabelmendError as error:
                watcher.say(f"{sample.label} cannot be predicted: {error}")
                refused.append(error)
            watcher.step(number, {})
    finally:
        watcher.finish()
    if refused and not values:
        raise refused[0]
    return values


def _evaluated(
    predictor: Predictor, split: Split, metric: str, judgements: Sequence[Judgement]
) -> dict[str, float | None]:
    """Per-sample figures that ``labelmend evaluate`` left, if they are of this checkpoint."""
    table = predictor.run.path / "evaluation" / f"{split}.csv"
    same = any(j.split == split and j.step == predictor.step for j in judgements)
    if not same or not table.exists():
        return {}
    rows: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for line in csv.DictReader(io.StringIO(table.read_text(encoding="utf-8"))):
        cell = line.get(metric) or "nan"
        rows[line["label"]][line["class"]] = {metric: float(cell)}
    return {label: value_of(row, metric) for label, row in rows.items()}
