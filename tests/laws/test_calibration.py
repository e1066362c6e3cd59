"""Laws of temperatures: no class ever changes, whatever the scores, ties and temperature."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from labelmend.inference.probabilities import certainty, disagreement, entropy, softmax
from labelmend.inference.reliability import COLDEST, HOTTEST, Answers, fit_temperature, measure

SCORES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6).map(lambda s: (s[0] + 1, *s[1:])),
    elements=st.one_of(st.sampled_from([0.0, 1.0, -1.0, 1e-7]), st.floats(-1e4, 1e4, width=32)),
)
TEMPERATURES = st.floats(COLDEST, HOTTEST)


@given(SCORES, TEMPERATURES)
def test_the_class_of_the_largest_score_has_the_largest_probability(
    scores: np.ndarray, temperature: float
) -> None:
    label, shares = scores.argmax(0)[None], softmax(scores, temperature)
    sure = np.take_along_axis(shares, label, 0)[0]
    assert np.array_equal(sure, shares.max(0))  # ties included: none is above it
    assert np.allclose(sure, certainty(scores, temperature), rtol=1e-5)
    assert np.allclose(shares.sum(0), 1, atol=1e-5)
    order = np.argsort(scores, axis=0, kind="stable")
    assert (np.diff(np.take_along_axis(shares, order, 0), axis=0) >= 0).all()


@given(SCORES, TEMPERATURES)
def test_a_higher_temperature_is_less_sure(scores: np.ndarray, temperature: float) -> None:
    once, hotter = (certainty(scores.astype(np.float64), t) for t in (temperature, 2 * temperature))
    assert (hotter <= once + 1e-12).all()


@given(SCORES, st.randoms(use_true_random=False))
def test_uncertainty_lies_between_0_and_1(scores: np.ndarray, random: object) -> None:
    one, other = softmax(scores), softmax(scores[::-1].copy())
    for found in (entropy(one), disagreement(one, other)):
        assert found.shape == scores.shape[1:] and ((found >= 0) & (found <= 1)).all()
    assert disagreement(one, one).max() < 1e-5


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 5.0), st.integers(2, 4))
def test_scores_times_a_number_have_the_temperature_times_it(
    seed: int, times: float, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (classes, 300))
    label = (scores + rng.gumbel(size=scores.shape)).argmax(0)
    once = fit_temperature([Answers(scores, label)])
    other = fit_temperature([Answers(times * scores, label)])
    if min(once, other) > COLDEST * 1.1 and max(once, other) < HOTTEST / 1.1:
        assert abs(np.log(other / (once * times))) < 1e-3
    fitted = measure([Answers(scores, label)], [once])
    assert fitted.nll <= measure([Answers(scores, label)], [1.0]).nll + 1e-9
