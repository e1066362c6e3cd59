"""From masks back to shapes: exact where it can be, within stated bounds elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest

from labelmend.errors import DataError
from labelmend.labels.fitting import Box, best_box, best_ellipse, best_polygon
from labelmend.labels.outlines import find_intervals
from labelmend.labels.shapes import box, circle, ellipse, polygon


def test_an_ellipse_comes_back_with_its_area() -> None:
    mask = ellipse((80, 90), (40.3, 44.6), (25, 11), 0.4)
    found = best_ellipse(mask)
    assert math.pi * math.prod(found.radii) == pytest.approx(mask.sum(), rel=1e-12)
    np.testing.assert_allclose(found.centre, (40.3, 44.6), atol=0.1)
    np.testing.assert_allclose(found.radii, (25, 11), atol=0.1)
    assert found.angle == pytest.approx(0.4, abs=0.01)


def test_radii_stay_along_rows_and_columns() -> None:
    for radii in [(20, 6), (6, 20)]:
        found = best_ellipse(ellipse((60, 60), (30, 30), radii))
        np.testing.assert_allclose(found.radii, radii, atol=0.3)
        assert found.angle == pytest.approx(0, abs=1e-9)


def test_a_line_of_positions_is_as_much_longer_as_it_is_wide() -> None:
    found = best_ellipse(np.ones((1, 9), bool))
    assert found.radii[1] / found.radii[0] == pytest.approx(9)


def test_a_round_mask_is_not_turned() -> None:
    assert best_ellipse(circle((40, 40), (20, 20), 9)).angle == 0
    assert best_ellipse(np.ones((1, 1), bool)).radii == pytest.approx((math.pi**-0.5,) * 2)


@pytest.mark.parametrize("turned", [False, True])
def test_an_upright_box_comes_back_exactly(turned: bool) -> None:
    mask = box((30, 40), (10.5, 17), (6, 11))
    found = best_box(mask, turned=turned)
    assert found == Box((10.5, 17.0), (6.0, 11.0), 0.0)


def test_a_turned_box_comes_back_within_its_bounds() -> None:
    mask = box((90, 90), (44, 45), (50, 20), 0.5)
    found = best_box(mask)
    np.testing.assert_allclose(found.centre, (44, 45), atol=0.5)
    np.testing.assert_allclose(found.sides, (50, 20), atol=1.3)
    assert found.angle == pytest.approx(0.5, abs=0.03)
    assert math.prod(found.sides) < 0.75 * math.prod(best_box(mask, turned=False).sides)


@pytest.mark.parametrize(
    ("places", "sides"),
    [
        ([(2, 3)], (1, 1)),
        ([(2, 3), (2, 4), (2, 5)], (1, 3)),
        ([(1, 3), (5, 3)], (5, 1)),
        ([(1, 1), (2, 2), (3, 3)], (1, 1 + 2 * math.sqrt(2))),
    ],
)
def test_a_box_around_positions_in_one_line(places: list, sides: tuple) -> None:
    mask = np.zeros((8, 8), bool)
    mask[tuple(np.transpose(places))] = True
    found = best_box(mask)
    assert sorted(found.sides) == pytest.approx(sorted(sides))
    assert (box(mask.shape, found.centre, found.sides, found.angle) & mask).sum() == mask.sum()


def test_a_polygon_has_few_corners_where_the_border_is_straight() -> None:
    triangle = polygon((60, 60), [[(5, 5), (52.2, 20.7), (30.3, 55.1)]])
    [ring] = best_polygon(triangle, 1.0)
    assert len(ring) <= 6
    different = polygon(triangle.shape, [ring]) ^ triangle
    assert 0 < different.sum() < 60
    [exact] = best_polygon(triangle, 0)
    assert len(exact) > 60


def test_an_upright_box_has_its_four_corners() -> None:
    [ring] = best_polygon(box((20, 30), (8, 12), (7, 11)), 1.0)
    assert sorted(ring.tolist()) == [[4.5, 6.5], [4.5, 17.5], [11.5, 6.5], [11.5, 17.5]]


def test_nothing_is_too_small_to_stay() -> None:
    mask = np.ones((20, 20), bool)
    mask[4, 4] = False
    mask[10:12, 10:12] = False
    assert len(best_polygon(mask, 5.0)) == 3
    assert not polygon(mask.shape, best_polygon(mask, 5.0))[4, 4]
    assert best_polygon(np.zeros((4, 4), bool)) == []


def test_intervals_have_their_first_and_not_their_last_place() -> None:
    assert find_intervals(np.array([0, 1, 1, 0, 1], bool)) == [(1, 3), (4, 5)]
    assert find_intervals(np.ones(3, bool)) == [(0, 3)]
    assert find_intervals(np.zeros(3, bool)) == find_intervals(np.zeros(0, bool)) == []
    with pytest.raises(DataError, match="find_outlines takes two"):
        find_intervals(np.zeros((2, 2), bool))


@pytest.mark.parametrize("fit", [best_box, best_ellipse])
def test_nothing_fits_an_empty_mask(fit: object) -> None:
    with pytest.raises(DataError, match="without any position"):
        fit(np.zeros((3, 3), bool))
    with pytest.raises(DataError, match="take a slice"):
        fit(np.zeros((3, 3, 3), bool))


def test_a_tolerance_is_not_negative() -> None:
    for wrong in (-1, math.nan, math.inf):
        with pytest.raises(DataError, match="tolerance must be"):
            best_polygon(np.ones((3, 3), bool), wrong)
