"""How far probabilities can be taken at their word, and the temperature that mends them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar

from labelmend.errors import ShapeError
from labelmend.inference.probabilities import softmax

BINS = 15
"""Stretches of confidence, equally long, that are compared with the share that was right."""
COLDEST, HOTTEST = 0.05, 20.0
"""Temperatures are looked for between these."""


class Answers(NamedTuple):
    """Positions of one sample: scores ``(classes, positions)`` float, and their class indices."""

    scores: np.ndarray
    label: np.ndarray


@dataclass(frozen=True, slots=True)
class Bin:
    """Positions whose confidence lies from ``low`` to ``high``.

    ``count`` of them were looked at; ``share`` is how much they count among all, ``confidence``
    their mean confidence and ``right`` the share of them whose class was right.
    """

    low: float
    high: float
    count: int
    share: float
    confidence: float
    right: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far probabilities and what was right are apart, every sample counting alike.

    Attributes:
        ece: the expected calibration error: how far confidence and share right are apart in a bin,
            mean over the bins by how much they hold (Naeini et al. 2015). The trap: it is low, too,
            for a network that says the same of every position, and so is no sign of quality.
        nll: the mean negative logarithm of the true class's probability, in nats.
        brier: the mean squared distance to a probability of 1 for the true class, 0 to 2.
        bins: those that hold any position.
    """

    ece: float
    nll: float
    brier: float
    bins: tuple[Bin, ...]


class Tally:
    """Adds positions up, sample by sample; holds nothing of them but sums per bin.

    >>> tally = Tally()
    >>> tally.add(Answers(np.array([[0.0, 2.0], [0.0, 0.0]]), np.array([1, 0])))
    >>> [(each.count, round(each.confidence, 3), each.right) for each in tally.result().bins]
    [(1, 0.5, 0.0), (1, 0.881, 1.0)]
    """

    def __init__(self) -> None:
        self._counts = np.zeros(BINS, np.int64)
        self._sums = np.zeros((3, BINS))  # weight, weight * confidence, weight * right
        self._nll = self._brier = self._samples = 0.0

    def add(self, answers: Answers, temperature: float = 1.0) -> None:
        """One sample; one without a position counts nothing.

        Raises:
            ShapeError: when there are not as many labels as scores.
        """
        scores, label = answers
        if scores.shape[1:] != label.shape:
            raise ShapeError(f"scores of {scores.shape[1:]} positions have {label.shape} labels")
        many = label.size
        if not many:
            return
        shares, place = softmax(scores, temperature), np.arange(many)
        found = scores.argmax(0)
        confidence = shares[found, place].astype(np.float64)
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self._counts += np.bincount(bins, minlength=BINS)
        added = [np.bincount(bins, v, BINS) for v in (None, confidence, found == label)]
        self._sums += np.stack(added) / many
        truly = shares[label, place].astype(np.float64)
        squares = (shares.astype(np.float64) ** 2).sum(0)
        self._brier += float((1 - 2 * truly + squares).mean())
        self._nll += _Fit([answers])(math.log(temperature))
        self._samples += 1

    def result(self) -> Reliability:
        """What was added so far; NaN where that is nothing."""
        many = self._samples or math.nan
        bins = []
        for number, (weight, sure, right) in enumerate(self._sums.T):
            if weight > 0:
                low, high = number / BINS, (number + 1) / BINS
                figures = (weight / many, sure / weight, right / weight)
                bins.append(Bin(low, high, int(self._counts[number]), *map(float, figures)))
        ece = sum(each.share * abs(each.confidence - each.right) for each in bins)
        missing = 0.0 if bins else math.nan
        return Reliability(ece + missing, self._nll / many, self._brier / many, tuple(bins))


def measure(samples: Sequence[Answers], temperatures: Sequence[float]) -> Reliability:
    """The figures of samples, each by a temperature of its own."""
    tally = Tally()
    for answers, temperature in zip(samples, temperatures, strict=True):
        tally.add(answers, temperature)
    return tally.result()


def fit_temperature(samples: Sequence[Answers]) -> float:
    """The temperature that gives true classes the largest probabilities (Guo et al. 2017).

    The least mean negative log likelihood, every sample counting alike, its positions sharing its
    weight. In one over the temperature it is convex, so a search over one number finds it; it ends
    at :data:`COLDEST` or :data:`HOTTEST`. The trap: where every class is right, the coldest is the
    best, and nothing was learned of how sure to be.

    Args:
        samples: at least one position in one of them.

    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(0, 2, (3, 4000))
    >>> label = (scores + rng.gumbel(size=scores.shape)).argmax(0)  # as the softmax says
    >>> round(fit_temperature([Answers(5 * scores, label)]), 1)
    5.0
    """
    bounds = (math.log(COLDEST), math.log(HOTTEST))
    found = minimize_scalar(_Fit(samples), bounds=bounds, method="bounded", options={"xatol": 1e-5})
    return float(math.exp(found.x))


class _Fit:
    """The mean negative log likelihood as a function of the temperature's logarithm."""

    def __init__(self, samples: Sequence[Answers]) -> None:
        told = [each for each in samples if each.label.size]
        if not told:
            raise ShapeError("at least one position with a label is wanted")
        scores = np.concatenate([each.scores for each in told], axis=1)
        label = np.concatenate([each.label for each in told])
        self._apart = scores - scores.max(0)
        self._true = self._apart[label, np.arange(label.size)].astype(np.float64)
        sizes = np.array([each.label.size for each in told])
        self._weight = np.repeat(1 / (sizes * len(told)), sizes)

    def __call__(self, logarithm: float) -> float:
        cold = math.exp(-logarithm)
        total = np.log(np.exp(self._apart * cold).sum(0, dtype=np.float64))
        return float(self._weight @ (total - self._true * cold))
