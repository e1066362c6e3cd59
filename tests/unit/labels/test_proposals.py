"""Labels by machine: every method finds a plain thing, whatever the axes, the side, the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelmend.errors import DataError, SettingsError, ShapeError
from labelmend.labels.proposals import METHODS, brighter_part, propose_label, smaller_side


def scene(size: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A bright box in noise, ``(1, *size)``, and where it is."""
    rng = np.random.default_rng(seed)
    place = np.zeros(size, bool)
    place[tuple(slice(n // 4, n // 2 + 1) for n in size)] = True
    return (place + rng.normal(0, 0.12, size))[None], place


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.parametrize("by", [*METHODS, 0.5])
@pytest.mark.parametrize("size", [(60, 70), (16, 40, 40)])
def test_every_method_finds_a_bright_thing(by: str | float, size: tuple[int, ...]) -> None:
    image, place = scene(size)
    found = propose_label(image, by)
    assert found.side == "brighter"
    assert found.label.dtype == np.int64
    assert dice(found.label == 1, place) > (0.9 if by in ("otsu", "watershed", 0.5) else 0.6)


@pytest.mark.parametrize("by", [*METHODS, -0.5])
def test_a_dark_thing_is_found_too(by: str | float) -> None:
    image, place = scene((60, 70))
    found = propose_label(-image, by)
    assert found.side == "darker"
    assert dice(found.label == 1, place) > 0.7


@pytest.mark.parametrize("by", METHODS)
def test_what_rings_in_a_recording_is_found(by: str) -> None:
    rng = np.random.default_rng(1)
    time = np.arange(4001)  # a prime number of positions
    place = (time > 1200) & (time < 2000)
    sound = np.sin(0.9 * time) * place + rng.normal(0, 0.05, len(time))
    found = propose_label(sound[None] + 7.0, by)
    assert found.side == "brighter"
    assert dice(found.label == 1, place) > 0.85


@pytest.mark.parametrize("by", [*METHODS, 0.5])
def test_the_side_that_is_said_is_taken(by: str | float) -> None:
    image, _ = scene((30, 30))
    brighter, darker = (propose_label(image, by, side=s) for s in ("brighter", "darker"))
    np.testing.assert_array_equal(brighter.label, 1 - darker.label)
    assert (brighter.side, darker.side) == ("brighter", "darker")
    np.testing.assert_array_equal(brighter.label, propose_label(image, by).label)


def test_a_number_is_the_threshold_itself() -> None:
    image = np.array([[[1, 5, 5], [9, 4, 5]]], np.uint8)
    assert brighter_part(image, 5).tolist() == [[False, False, False], [True, False, False]]
    assert brighter_part(image, 4.5).sum() == 4
    assert not brighter_part(np.zeros((1, 3, 3)), 0).any()  # one value is no problem for a number


@pytest.mark.parametrize("by", METHODS)
def test_neither_scale_nor_offset_nor_type_changes_a_method(by: str) -> None:
    image, _ = scene((40, 40))
    whole = np.round(image * 1000).astype(np.int64)
    wanted = brighter_part(whole, by)
    np.testing.assert_array_equal(brighter_part(whole.astype(np.int32) * 4 - 2**20, by), wanted)
    np.testing.assert_array_equal(brighter_part(whole * 2.0**900, by), wanted)


def test_channels_are_averaged_or_chosen() -> None:
    image, place = scene((40, 40))
    blank = np.random.default_rng(0).normal(0, 0.1, (40, 40))
    both = np.stack([blank, image[0]])
    assert dice(brighter_part(both, "otsu", channel=1), place) > 0.95
    assert dice(brighter_part(both, "otsu", channel=0), place) < 0.5
    np.testing.assert_array_equal(
        brighter_part(both, "otsu"), brighter_part(both.mean(0)[None], "otsu")
    )


def test_smoothing_takes_specks_away() -> None:
    image, place = scene((60, 60))
    noisy = image + np.random.default_rng(5).normal(0, 0.5, image.shape)
    rough, smooth = (brighter_part(noisy, "otsu", smooth=s) for s in (0, 2))
    assert dice(smooth, place) > 0.9 > dice(rough, place)


def test_the_watershed_lies_where_the_image_is_steepest() -> None:
    """A long ramp, and a step in it that is nowhere near the threshold."""
    profile = np.concatenate([np.zeros(20), np.linspace(0, 2, 15), np.linspace(6, 10, 25)])
    image = np.broadcast_to(profile, (1, 12, 60))
    found = brighter_part(image, "watershed", smooth=0)
    assert found.any(0).argmax() in (34, 35, 36)


def test_the_smaller_side_is_that_of_all_images_together() -> None:
    assert smaller_side([0.9, 0.2, 0.3]) == "brighter"
    assert smaller_side([0.9, 0.2, 0.6]) == "darker"
    assert smaller_side([0.25, 0.75]) == "brighter"


def test_the_image_is_not_changed() -> None:
    image, _ = scene((20, 20))
    before = image.copy()
    for by in METHODS:
        propose_label(image, by)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("by", METHODS)
@pytest.mark.parametrize("size", [(1, 9), (2, 1), (1, 1, 5), (3,)])
def test_the_smallest_images_are_divided(by: str, size: tuple[int, ...]) -> None:
    image = np.zeros((1, *size))
    image.flat[-1] = 5
    found = brighter_part(image, by, smooth=0)
    assert found.shape == size
    assert 0 < found.sum() < found.size


def test_what_no_method_can_divide_is_refused() -> None:
    for by in METHODS:
        with pytest.raises(DataError, match=f"is 3 throughout, .* by {by}"):
            brighter_part(np.full((1, 5, 5), 3.0), by)
    with pytest.raises(DataError, match="too large to compute with"):
        brighter_part(np.array([[[-1.7e308, 1.7e308]]]), "otsu", smooth=0)
    with pytest.raises(SettingsError, match="did you mean 'otsu'"):
        brighter_part(np.zeros((1, 5, 5)), "otzu")
    with pytest.raises(SettingsError, match="no channel 2: the image has 2"):
        brighter_part(np.zeros((2, 5, 5)), "otsu", channel=2)
    for wrong in (math.nan, math.inf):
        with pytest.raises(SettingsError, match="a threshold is a finite number"):
            brighter_part(np.zeros((1, 5, 5)), wrong)
        with pytest.raises(SettingsError, match="0 or more positions"):
            brighter_part(np.zeros((1, 5, 5)), "otsu", smooth=wrong)


@pytest.mark.parametrize("side", ["Brighter", "dark", ""])
def test_a_word_that_is_no_side_is_refused(side: str) -> None:
    with pytest.raises(SettingsError, match=f"unknown side '{side}'; did you mean"):
        propose_label(scene((9, 9))[0], "otsu", side=side)


@pytest.mark.parametrize("shape", [(9,), (1, 2, 3, 4, 5), (1, 0, 4), ()])
def test_what_is_no_image_with_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(channels, \*space\) .* is wanted, not"):
        propose_label(np.zeros(shape), 0.5)


@pytest.mark.parametrize(("value", "said"), [(math.nan, "NaN"), (-math.inf, "infinity")])
@pytest.mark.parametrize("by", ["otsu", 0.5])
def test_what_is_no_number_is_called_so(by: str | float, value: float, said: str) -> None:
    image, _ = scene((9, 9))
    image[0, 3, 4] = value
    with pytest.raises(DataError, match=f"holds {said}; repair it"):
        propose_label(image, by)
