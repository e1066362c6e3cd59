"""The uncertain band of a mask, and labels that are only half known."""

from __future__ import annotations

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.labels.band import surely, uncertain_band
from labelmend.labels.shapes import circle

HALF = np.arange(10) >= 5


@pytest.mark.parametrize("width", [0, 1, 2, 3])
def test_a_straight_border_is_uncertain_on_either_side(width: int) -> None:
    wanted = np.zeros(10, bool)
    wanted[5 - width : 5 + width] = True
    np.testing.assert_array_equal(uncertain_band(HALF, width), wanted)
    flat = np.broadcast_to(HALF, (4, 10))
    np.testing.assert_array_equal(uncertain_band(flat, width), np.broadcast_to(wanted, (4, 10)))
    np.testing.assert_array_equal(uncertain_band(flat.T[None], width)[0, :, 0], wanted)


def test_the_end_of_the_image_is_no_border() -> None:
    assert not uncertain_band(np.ones((4, 4), bool), 9).any()
    assert not uncertain_band(np.zeros((4, 4), bool), 9).any()


def test_the_width_is_in_the_unit_of_the_spacing() -> None:
    block = np.zeros((9, 9, 9), bool)
    block[3:6, 2:7, 2:7] = True
    found = uncertain_band(block, 2, spacing=(2, 1, 1))
    assert found[:, 4, 4].nonzero()[0].tolist() == [2, 3, 5, 6]
    assert found[4, :, 4].nonzero()[0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]


def test_a_round_border_has_a_round_band() -> None:
    disc = circle((41, 41), (20, 20), 10)
    band = uncertain_band(disc, 3)
    assert not (band & circle((41, 41), (20, 20), 6.5)).any()
    assert not (band & ~circle((41, 41), (20, 20), 13.5)).any()


def test_what_cannot_be_a_band_is_refused() -> None:
    for wrong in (-1, np.nan, np.inf):
        with pytest.raises(DataError, match="width of a band must be"):
            uncertain_band(HALF, wrong)
    for steps in ((1, 1), (0,), (-1,)):
        with pytest.raises(DataError, match="one distance above 0 per axis, here 1"):
            uncertain_band(HALF, 1, spacing=steps)


def test_what_is_surely_neither_is_not_known() -> None:
    inside, outside = circle((20, 20), (9, 9), 4), ~circle((20, 20), (9, 9), 7)
    label, known = surely(inside, outside)
    np.testing.assert_array_equal(label, inside)
    assert label.dtype == np.int64
    np.testing.assert_array_equal(known, inside | outside)
    assert not known.all()


def test_nothing_is_surely_both() -> None:
    with pytest.raises(DataError, match="5 positions are surely inside and surely outside"):
        surely(HALF, HALF)
    with pytest.raises(DataError, match="in one size"):
        surely(HALF, HALF[:3])
