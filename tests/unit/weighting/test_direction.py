from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labelmend.errors import SettingsError, ShapeError
from labelmend.weighting.direction import FadingMean

keeps = st.floats(0, 0.99)
seeds = st.integers(0, 2**31)


def gradients(seed, steps, dtype=torch.float64) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"share": (2, 3), "mean/b": (3,)}  # names as like those of a state as they may be
    return [
        {n: torch.randn(s, generator=generator, dtype=dtype) for n, s in shapes.items()}
        for _ in range(steps)
    ]


def faded(keep, values):
    """The weighted mean of everything so far, written out."""
    rates = [keep ** (len(values) - 1 - i) for i in range(len(values))]
    total = sum(rate * value for rate, value in zip(rates, values, strict=True))
    return total / sum(rates)


@given(keep=keeps, seed=seeds, steps=st.integers(1, 12))
def test_it_is_the_fading_mean_of_all_so_far(keep, seed, steps) -> None:
    given_ = gradients(seed, steps)
    mean = FadingMean(keep)
    for gradient in given_:
        found = mean.add(gradient)
    for name in given_[0]:
        right = faded(keep, [gradient[name] for gradient in given_])
        torch.testing.assert_close(found[name], right, rtol=1e-9, atol=1e-12)
        assert found[name].dtype == torch.float64


@given(keep=keeps, seed=seeds)
def test_the_first_comes_back_as_it_is(keep, seed) -> None:
    (only,) = gradients(seed, 1)
    torch.testing.assert_close(FadingMean(keep).add(only), only, rtol=1e-12, atol=0)


@given(keep=keeps, seed=seeds, steps=st.integers(1, 30))
def test_a_gradient_that_stays_is_its_own_mean(keep, seed, steps) -> None:
    (same,) = gradients(seed, 1)
    mean = FadingMean(keep)
    for _ in range(steps):
        found = mean.add(same)
    torch.testing.assert_close(found, same, rtol=1e-9, atol=0)


@given(seed=seeds)
def test_without_memory_it_is_the_latest_to_the_bit(seed) -> None:
    mean = FadingMean(keep=0.0)
    for gradient in gradients(seed, 3, torch.float32):
        found = mean.add(gradient)
        assert found is not gradient
        torch.testing.assert_close(found, gradient, rtol=0, atol=0)
    assert mean.state() == {}


@given(keep=keeps, seed=seeds, before=st.integers(0, 4), after=st.integers(1, 4))
def test_it_goes_on_from_a_saved_state_to_the_bit(keep, seed, before, after) -> None:
    given_ = gradients(seed, before + after, torch.float32)
    mean = FadingMean(keep)
    for gradient in given_[:before]:
        mean.add(gradient)
    saved = mean.state()
    kept = {name: value.clone() for name, value in saved.items()}
    other = FadingMean(keep)
    other.add(given_[-1])  # what it knew is forgotten
    other.restore(saved)
    for gradient in given_[before:]:
        torch.testing.assert_close(other.add(gradient), mean.add(gradient), rtol=0, atol=0)
    torch.testing.assert_close(other.state(), mean.state(), rtol=0, atol=0)
    torch.testing.assert_close(saved, kept, rtol=0, atol=0)  # a state does not run on


@given(keep=keeps, seed=seeds)
def test_nothing_that_is_passed_in_changes(keep, seed) -> None:
    mean, given_ = FadingMean(keep), gradients(seed, 3)
    for gradient in given_:
        mean.add(gradient)
    torch.testing.assert_close(given_, gradients(seed, 3), rtol=0, atol=0)


def test_other_parameters_are_refused_and_change_nothing() -> None:
    mean = FadingMean(0.5)
    mean.add({"a": torch.ones(2)})
    before = mean.state()
    with pytest.raises(ShapeError, match="the same names"):
        mean.add({"b": torch.ones(2)})
    torch.testing.assert_close(mean.state(), before, rtol=0, atol=0)


@pytest.mark.parametrize("keep", [-0.1, 1.0, 1.5, float("nan")])
def test_a_share_that_cannot_be_kept_is_refused(keep) -> None:
    with pytest.raises(SettingsError, match="from 0 to below 1"):
        FadingMean(keep)
