"""How likely every label is wrong, and what a look is worth: the sums of the docs, one by one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from labelmend.audit.evidence import Evidence


def chances(labels: Sequence[Evidence]) -> list[float]:
    """How likely each is wrong."""
    own = [own_odds(labels, one) for one in labels]
    return [1 / (1 + math.exp(-one - 2 * company(labels, own, i))) for i, one in enumerate(own)]


def worths(labels: Sequence[Evidence]) -> list[float]:
    """What each is worth a look if it is wrong."""
    return [0.03 + 0.97 * used(one) for one in labels]


def own_odds(labels: Sequence[Evidence], one: Evidence) -> float:
    """The sum of all that a label says of itself."""
    total = -5.0 if one.sample.quality == "strong" else -2.0
    share = 1 / (1 + one.fellows)
    if apart(one) is not None:
        total += 4 * share * (apart(one) - usual(labels, one))
    if one.others is not None:
        total += 16 * (one.others - statistics.median(known([e.others for e in labels])))
    if one.average is not None:
        total += 4 * share * (1 - 2 * one.average / one.highest)
    if one.displacement is not None and any(one.displacement):
        total += 4 * share * one.explained * one.confidence
    return total


def apart(one: Evidence) -> float | None:
    """Disagreement; label and prediction that are both empty agree."""
    return 0.0 if one.remark == "nothing" else one.disagreement


def usual(labels: Sequence[Evidence], one: Evidence) -> float:
    """The median among labels that were trained on, or held out, as it was; of all if few."""
    every = known([e.disagreement for e in labels])
    alike = known(
        [
            e.disagreement
            for e in labels
            if (e.sample.split == "train") == (one.sample.split == "train")
        ]
    )
    return statistics.median(alike if len(alike) >= 5 else every or [0.0])


def company(labels: Sequence[Evidence], own: Sequence[float], place: int) -> float:
    """By how much the annotator's other labels are more doubtful than all of all annotators."""
    who = labels[place].sample.annotator
    doubts = [1 / (1 + math.exp(-one)) for one in own]
    named = [doubt for one, doubt in zip(labels, doubts, strict=True) if one.sample.annotator]
    others = [
        doubt
        for i, (one, doubt) in enumerate(zip(labels, doubts, strict=True))
        if who and one.sample.annotator == who and i != place
    ]
    return sum(d - statistics.fmean(named) for d in others) / (len(others) + 4)


def used(one: Evidence) -> float:
    """How much training rests on a label in the end."""
    if one.sample.quality == "strong":
        return 1.0
    if one.sample.split != "train":
        return 0.0
    return 1.0 if one.weight is None else one.weight / one.highest


def known(values: Sequence[float | None]) -> list[float]:
    """Those that are not None."""
    return [value for value in values if value is not None]
