"""Which labels to look at first: one sum of what speaks against each."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from labelmend.audit.evidence import Evidence

Order = Literal["gain", "wrong"]
"""What a network gains from a look, or how likely a label is wrong."""

PRIOR = {"weak": -2.0, "strong": -5.0}
"""Log-odds that a label is wrong of which nothing else is known: 12 %, and less than 1 %."""
IGNORED = 0.03
"""What a label of which training takes no notice is worth looking at, beside one that counts fully:
put right, it is one more to learn from, but it did no harm before."""
DISAGREEMENT = 4.0
OTHERS = 16.0
WEIGHT = 4.0
DISPLACEMENT = 4.0
ANNOTATOR = 2.0
"""How many log-odds a disagreement with the prediction, one with other labels of the image, a lost
weight, a displacement and an annotator count."""
FEW = 5
"""Of fewer labels one cannot say how much disagreement is usual among them."""
SHRINK = 4.0
"""An annotator is thought to have made so many labels more, all of them as the mean of all."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The place of a label in the order.

    Attributes:
        index: which label, as they were given.
        score: above 0 and at most 1, never rising along the order.
        wrong: how likely it is wrong, by what is known; above 0 and at most 1.
        like: the earlier label that it is nearly identical to, as it was given.
        terms: what speaks against it (above 0) or for it, in log-odds, by name.
    """

    index: int
    score: float
    wrong: float
    like: int | None
    terms: Mapping[str, float]


def rank(
    evidence: Sequence[Evidence],
    alike: Mapping[int, Collection[int]] | None = None,
    *,
    order: Order = "gain",
) -> list[Standing]:
    """All labels, those that are most worth a look first.

    How likely a label is ``wrong`` is ``1 / (1 + exp(-s))``, and ``s`` is a sum of

    - its prior: a strong label is rarely wrong;
    - 4 times its disagreement with the prediction, less what is usual (the median) among labels
      that were trained on like it, or held out like it;
    - 4 times 1 - 2 w, where w is its weight on average over training, as a share of the highest;
    - 4 times the part of the disagreement that a displacement explains, times how sure that is;
    - 16 times its disagreement with the n other labels of its image, less what is usual; where
      there are any, the three above rest on the same prediction as those of the others do, and
      are divided by n + 1;
    - 2 times by how much the annotator's other labels are more doubtful than others are.

    What is not known adds nothing. What there is to ``gain`` from a label is that, times
    0.03 + 0.97 u, where u says how much it counts at the end of training: its latest weight as a
    share of the highest, 1 for strong labels, 0 for weak ones that were held out. A wrong label
    that has lost its weight does no harm any more.

    Labels that are nearly identical to an earlier one come after all others. Of labels that score
    alike, the one with the larger loss comes first.

    Args:
        evidence: of every label.
        alike: by number of a label, the numbers of those that are nearly identical to it.
        order: what the score is.

    The trap: the figures of a label that was learned from flatter it. Comparing it with others
    that were learned from makes up for that on average, and not for one learned by heart.

    >>> from labelmend.types import Sample
    >>> labels = [Sample("i", name, "weak", "train", "g") for name in ("a", "b")]
    >>> found = rank([Evidence(labels[0], 0.1), Evidence(labels[1], 0.9)])
    >>> [(labels[one.index].label, round(one.score, 2)) for one in found]
    [('b', 0.4), ('a', 0.03)]
    """
    usual = _medians([one.disagreement for one in evidence], [_learned(e) for e in evidence])
    odd = statistics.median([one.others for one in evidence if one.others is not None] or [0.0])
    terms = [_own(one, less, odd) for one, less in zip(evidence, usual, strict=True)]
    for own, more in zip(terms, _annotators(evidence, terms), strict=True):
        own["annotator"] = ANNOTATOR * more
    sums = [math.fsum(own.values()) for own in terms]
    wrong = [chance(one) for one in sums]
    worth = [1.0 if order == "wrong" else _worth(one) for one in evidence]
    score = [a * b for a, b in zip(wrong, worth, strict=True)]
    losses = [one.loss or 0.0 for one in evidence]
    # Sums stand for chances where those are 1 but for rounding.
    places = sorted(range(len(sums)), key=lambda i: (-score[i], -sums[i], -losses[i], i))
    first, behind = _parted(places, alike or {})
    least = score[first[-1]] if first else 1.0
    leading = [Standing(i, score[i], wrong[i], None, terms[i]) for i in first]
    return leading + [Standing(i, least * score[i], wrong[i], j, terms[i]) for i, j in behind]


def chance(odds: float) -> float:
    """Log-odds as a share.

    >>> chance(0.0), chance(-800.0)
    (0.5, 0.0)
    """
    return 1 / (1 + math.exp(-odds)) if odds > -700 else 0.0


def _own(one: Evidence, usual: float, odd: float) -> dict[str, float]:
    """What a label says of itself; ``usual`` and ``odd`` are usual disagreements."""
    seen = 1 / (one.fellows + 1)
    # Where both are empty there is no figure, but they agree.
    apart = 0.0 if one.remark == "nothing" else one.disagreement
    lost = 0.0 if one.average is None else 1 - 2 * one.average / one.highest
    moved = one.moves * (one.confidence or 0.0) * max(one.explained, 0.0)
    return {
        "prior": PRIOR[one.sample.quality],
        "disagreement": 0.0 if apart is None else DISAGREEMENT * seen * (apart - usual),
        "others": 0.0 if one.others is None else OTHERS * (one.others - odd),
        "weight": WEIGHT * seen * lost,
        "displacement": DISPLACEMENT * seen * moved,
    }


def _worth(one: Evidence) -> float:
    """What a look at the label is worth if it is wrong: more, the more training rests on it."""
    used = 1.0 if one.weight is None else one.weight / one.highest
    if one.sample.quality == "weak" and not _learned(one):
        used = 0.0
    return IGNORED + (1 - IGNORED) * used


def _learned(one: Evidence) -> bool:
    """Whether the network was trained on it."""
    return one.sample.split == "train"


def _medians(values: Sequence[float | None], kinds: Sequence[bool]) -> list[float]:
    """For every label the median of those of its kind; of all labels where they are few."""
    by: dict[bool, list[float]] = defaultdict(list)
    for value, kind in zip(values, kinds, strict=True):
        if value is not None:
            by[kind].append(value)
    known = [value for of in by.values() for value in of]
    overall = statistics.median(known) if known else 0.0
    middle = {kind: statistics.median(of) for kind, of in by.items() if len(of) >= FEW}
    return [middle.get(kind, overall) for kind in kinds]


def _annotators(evidence: Sequence[Evidence], terms: Sequence[Mapping[str, float]]) -> list[float]:
    """By how much the other labels of each one's annotator are more doubtful than all are."""
    doubts = [chance(math.fsum(own.values())) for own in terms]
    by: dict[str, list[float]] = defaultdict(list)
    for one, doubt in zip(evidence, doubts, strict=True):
        if one.sample.annotator:
            by[one.sample.annotator].append(doubt)
    known = [doubt for values in by.values() for doubt in values]
    mean = statistics.fmean(known) if known else 0.0
    sums = {name: (math.fsum(values), len(values)) for name, values in by.items()}
    found = []
    for one, doubt in zip(evidence, doubts, strict=True):
        total, many = sums.get(one.sample.annotator, (doubt, 1))
        found.append((total - doubt - (many - 1) * mean) / (many - 1 + SHRINK))
    return found


def _parted(
    order: Sequence[int], alike: Mapping[int, Collection[int]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Labels that are like no earlier one, and the others with the one that each is like."""
    place: dict[int, int] = {}
    first: list[int] = []
    behind: list[tuple[int, int]] = []
    for index in order:
        before = [other for other in alike.get(index, ()) if other in place]
        if before:
            behind.append((index, min(before, key=lambda other: place[other])))
        else:
            place[index] = len(first)
            first.append(index)
    return first, behind
