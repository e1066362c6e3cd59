"""Probabilities, and the two measures of uncertainty, against the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelmend.inference.probabilities import certainty, disagreement, entropy, softmax

RNG = np.random.default_rng(0)


def shares(*shape: int) -> np.ndarray:
    return softmax(RNG.normal(0, 3, shape).astype(np.float32))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_probabilities_are_the_exponentials_divided_by_their_sum(temperature: float) -> None:
    scores = RNG.normal(0, 3, (4, 5, 6)).astype(np.float32)
    told = np.exp(scores.astype(np.float64) / temperature)
    told /= told.sum(0)
    assert np.allclose(softmax(scores, temperature), told, atol=1e-6)
    assert np.allclose(certainty(scores, temperature), told.max(0), atol=1e-6)
    assert softmax(scores, temperature).dtype == np.float32


def test_no_score_is_too_large() -> None:
    scores = np.array([[3e38, -3e38], [-3e38, -3e38]], np.float32)
    with np.errstate(over="ignore"):
        assert softmax(scores).tolist() == [[1.0, 0.5], [0.0, 0.5]]


def test_entropy_is_that_of_the_formula() -> None:
    given = shares(5, 40)
    for place in range(40):
        told = -sum(p * math.log(p) for p in given[:, place].tolist() if p > 0) / math.log(5)
        assert entropy(given)[place] == pytest.approx(told, abs=1e-5)
    assert entropy(np.full((3, 1), 1 / 3)).tolist() == [1.0]
    assert entropy(np.ones((1, 2), np.float32)).tolist() == [0.0, 0.0]


def test_disagreement_is_the_mean_divergence_from_the_mean() -> None:
    one, other = shares(4, 50), shares(4, 50)
    middle = (one + other) / 2
    told = sum((p * np.log2(p / middle)).sum(0) for p in (one, other)) / 2
    assert np.allclose(disagreement(one, other), told, atol=1e-5)
    assert np.array_equal(disagreement(one, other), disagreement(other, one))
    assert disagreement(one, one).max() < 1e-6
    assert 0 <= disagreement(one, other).min() <= disagreement(one, other).max() <= 1
