"""The figures of calibration against a slow twin, and the temperature against a grid of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelmend.errors import ShapeError
from labelmend.inference.reliability import (
    BINS,
    COLDEST,
    HOTTEST,
    Answers,
    Tally,
    fit_temperature,
    measure,
)

from .oracle_reliability import figures

RNG = np.random.default_rng(1)


def answers(many: int, times: float = 1.0, classes: int = 3) -> Answers:
    """Labels drawn as probable as the scores say, and the scores then multiplied."""
    scores = RNG.normal(0, 2, (classes, many))
    label = (scores + RNG.gumbel(size=scores.shape)).argmax(0)
    return Answers((times * scores).astype(np.float32), label)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_figures_are_those_of_the_slow_twin(temperature: float) -> None:
    samples = [answers(30), answers(7), answers(90)]
    found = measure(samples, [temperature] * 3)
    told = figures(samples, temperature, BINS)
    assert (found.ece, found.nll, found.brier) == pytest.approx(told, abs=1e-6)
    assert sum(each.count for each in found.bins) == 127
    assert sum(each.share for each in found.bins) == pytest.approx(1)
    assert all(each.low <= each.confidence <= each.high for each in found.bins)


def test_every_sample_counts_alike_however_large() -> None:
    small, large = answers(10), answers(1000)
    again = Answers(np.tile(large.scores, 5), np.tile(large.label, 5))
    assert measure([small, large], [1, 1]).nll == pytest.approx(measure([small, again], [1, 1]).nll)
    assert fit_temperature([small, large]) == pytest.approx(
        fit_temperature([small, again]), rel=1e-3
    )
    assert fit_temperature([small, large]) != pytest.approx(fit_temperature([large]), rel=1e-3)


@pytest.mark.parametrize("times", [0.3, 1.0, 4.0])
def test_the_temperature_is_the_best_of_all(times: float) -> None:
    samples = [answers(4000, times), answers(3000, times)]
    found = fit_temperature(samples)
    assert found == pytest.approx(times, rel=0.06)
    best = measure(samples, [found] * 2).nll
    for other in np.geomspace(COLDEST, HOTTEST, 200):
        assert measure(samples, [other] * 2).nll >= best - 1e-9
    assert measure(samples, [found] * 2).ece < 0.02


def test_where_all_is_right_or_chance_the_search_ends_at_its_ends() -> None:
    scores = RNG.normal(0, 2, (2, 500)).astype(np.float32)
    assert fit_temperature([Answers(scores, scores.argmax(0))]) == pytest.approx(COLDEST, rel=0.01)
    wrong = Answers(scores, scores.argmin(0))
    assert fit_temperature([wrong]) == pytest.approx(HOTTEST, rel=0.01)


def test_scores_that_are_far_apart_make_no_infinity() -> None:
    scores = np.array([[1e4, 0.0], [0.0, 1e4]], np.float32)
    found = measure([Answers(scores, np.array([1, 1]))], [1.0])
    assert found.nll == pytest.approx(5000) and found.ece == pytest.approx(0.5)


def test_nothing_is_nothing() -> None:
    empty = Answers(np.zeros((2, 0), np.float32), np.zeros(0, np.int64))
    tally = Tally()
    tally.add(empty)
    assert math.isnan(tally.result().ece) and not tally.result().bins
    with pytest.raises(ShapeError, match="at least one position"):
        fit_temperature([empty])
    with pytest.raises(ShapeError, match="2 positions|labels"):
        tally.add(Answers(np.zeros((2, 2)), np.zeros(3, np.int64)))


def test_one_in_a_bin_of_its_own_when_sure_of_all() -> None:
    found = measure([Answers(np.array([[100.0], [0.0]]), np.array([0]))], [1.0])
    assert [(each.low, each.high) for each in found.bins] == [(pytest.approx(14 / 15), 1.0)]
