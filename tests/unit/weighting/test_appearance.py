"""What an image looks like in a few numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelmend.weighting.appearance import LEVELS, appearance, standardised

from . import oracle_appearance as oracle

seeds = st.integers(0, 2**31)
spaces = st.lists(st.integers(1, 9), min_size=1, max_size=3)


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@given(seed=seeds, space=spaces, channels=st.integers(1, 3))
def test_it_is_what_the_definition_says(seed, space, channels) -> None:
    image = numbers(seed, channels, *space)
    found = appearance(image)
    assert found.shape == (channels * (len(LEVELS) + 1),)
    np.testing.assert_allclose(found, oracle.appearance(image), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("space", [(100_000,), (300, 700), (40, 60, 50), (2, 9000), (8192, 1)])
def test_of_a_large_image_some_positions_say_nearly_the_same(space) -> None:
    image = numbers(3, 1, *space)
    found, wanted = appearance(image), np.array(oracle.appearance(image))
    # The deviation of a quantile at 2 % of 4096 normal values is 0.045, of a mean step 0.013.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.2)


def test_of_a_large_image_neighbours_are_compared_not_positions_of_a_grid() -> None:
    image = np.tile([0.0, 1.0], 50_000)[None]
    assert appearance(image)[-1] == 1.0


@given(seed=seeds, axis=st.integers(0, 1))
def test_a_mirrored_image_looks_the_same(seed, axis) -> None:
    image = numbers(seed, 2, 6, 5)
    mirrored = np.flip(image, axis + 1)
    np.testing.assert_allclose(appearance(mirrored), appearance(image), rtol=1e-9, atol=1e-12)


@given(seed=seeds, factor=st.floats(1e-3, 1e3), plus=st.floats(-1e3, 1e3))
def test_images_in_other_units_are_as_far_apart(seed, factor, plus) -> None:
    images = numbers(seed, 5, 1, 6, 6)
    one, other = (
        standardised(np.stack([appearance(image) for image in some]))[0]
        for some in (images, factor * images + plus)
    )
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "int16", "bool", "float32"])
def test_whole_numbers_do_not_run_over(kind) -> None:
    image = np.array([[[0, 1], [1, 0]]]).astype(kind)
    assert appearance(image)[-1] == 2.0


@pytest.mark.parametrize("value", [0.0, 7.0, 0.1, -1e9 / 3])
def test_what_all_have_in_common_is_zero_and_parts_stay_apart(value) -> None:
    one, other = standardised(np.full((7, 1), value), np.full((2, 1), value))
    assert one.tolist() == [[0.0]] * 7 and other.tolist() == [[0.0]] * 2
