"""Shapes agree with slow twins, and masks come back from their outlines bit for bit."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from labelmend.labels.band import uncertain_band
from labelmend.labels.fitting import best_box, best_ellipse, best_polygon
from labelmend.labels.outlines import find_intervals, find_outlines
from labelmend.labels.shapes import box, circle, dots, ellipse, interval, polygon, scribble

from ..unit.labels import oracle_shapes as oracle

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
# halves lie on centres and borders, sixteenths between; in both no last digit decides
numbers = st.one_of(
    st.integers(-8, 40).map(lambda n: n / 2), st.integers(-99, 299).map(lambda n: n / 16)
)
points = st.tuples(numbers, numbers)
rings = st.lists(st.lists(points, max_size=7), max_size=3)
masks = hnp.arrays(bool, st.tuples(st.integers(0, 11), st.integers(0, 11)))
angles = st.one_of(st.floats(-7, 7), st.integers(-8, 8).map(lambda n: n * math.pi / 4))


@given(sizes, rings)
def test_a_polygon_is_what_an_odd_number_of_borders_surrounds(size: tuple, drawn: list) -> None:
    np.testing.assert_array_equal(polygon(size, drawn), oracle.polygon(size, drawn))


@given(sizes, st.lists(points, max_size=6), st.one_of(st.integers(0, 9), st.floats(0.25, 9)))
def test_a_scribble_is_what_is_near_its_line(size: tuple, line: list, width: float) -> None:
    np.testing.assert_array_equal(scribble(size, line, width), oracle.scribble(size, line, width))


@given(sizes, points, st.tuples(st.floats(0, 12), st.integers(0, 12)), angles)
def test_a_box_is_what_lies_between_its_sides(
    size: tuple, centre: tuple, sides: tuple, angle: float
) -> None:
    found = box(size, centre, sides, angle)
    np.testing.assert_array_equal(found, oracle.box(size, centre, sides, angle))


@given(sizes, points, st.one_of(st.integers(0, 9), st.floats(0.25, 9)))
def test_a_circle_is_what_is_near_its_centre(size: tuple, centre: tuple, radius: float) -> None:
    wanted = oracle.circle(size, centre, radius)
    np.testing.assert_array_equal(circle(size, centre, radius), wanted)
    np.testing.assert_array_equal(dots(size, [centre], radius), wanted)
    if radius:
        np.testing.assert_array_equal(ellipse(size, centre, (radius, radius)), wanted)


@given(sizes, st.lists(points, min_size=3, max_size=8), points)
def test_polygons_that_share_edges_share_no_position(
    size: tuple, ring: list, middle: tuple
) -> None:
    """A fan of triangles about any point is, taken together, the polygon."""
    together = np.zeros(size, bool)
    for one, other in zip(ring, ring[1:] + ring[:1], strict=True):
        together ^= polygon(size, [[one, other, middle]])
    np.testing.assert_array_equal(together, polygon(size, [ring]))


@given(sizes, points, st.lists(st.floats(0.5, 5), min_size=1, max_size=4), st.floats(1, 8), angles)
def test_boxes_side_by_side_share_no_position_and_leave_none_out(
    size: tuple, centre: tuple, widths: list, height: float, angle: float
) -> None:
    together = np.zeros(size, int)
    at = -sum(widths) / 2
    for width in widths:
        across = at + width / 2
        here = centre[0] - across * math.sin(angle), centre[1] + across * math.cos(angle)
        together += box(size, here, (height, width), angle)
        at += width
    whole = box(size, centre, (height, sum(widths)), angle)
    rounded = _near_a_seam(size, centre, widths, angle)
    np.testing.assert_array_equal(together[~rounded], whole[~rounded])


def _near_a_seam(size: tuple, centre: tuple, widths: list, angle: float) -> np.ndarray:
    """Where sums of floats decide: within two roundings of a border (its own tolerance apart)."""
    down, right = np.indices(size) - np.reshape(centre, (2, 1, 1))
    across = right * math.cos(angle) - down * math.sin(angle) + 1e-9
    seams = np.cumsum([0.0, *widths]) - sum(widths) / 2
    return (np.abs(across[..., None] - seams) < 1e-12).any(-1)


@given(sizes, rings, st.tuples(st.integers(-5, 5), st.integers(-5, 5)))
def test_a_shape_moves_with_its_points(size: tuple, drawn: list, by: tuple) -> None:
    """By whole positions, and for coordinates that are halves, where nothing is rounded."""
    halves = [[(round(2 * r) / 2, round(2 * c) / 2) for r, c in ring] for ring in drawn]
    moved = [[(r + by[0], c + by[1]) for r, c in ring] for ring in halves]
    big = tuple(n + 20 for n in size)
    there = polygon(big, [[(r + 10 + by[0], c + 10 + by[1]) for r, c in x] for x in halves])
    window = there[10 : 10 + size[0], 10 : 10 + size[1]]
    np.testing.assert_array_equal(polygon(size, moved), window)


@given(masks)
def test_the_outlines_of_a_mask_give_it_back(mask: np.ndarray) -> None:
    outlines = find_outlines(mask)
    every = [ring for outline in outlines for ring in outline.rings]
    np.testing.assert_array_equal(polygon(mask.shape, every), mask)


@given(masks)
def test_each_outline_is_one_part_of_the_mask(mask: np.ndarray) -> None:
    parts, number = ndimage.label(mask)
    outlines = find_outlines(mask)
    assert len(outlines) == number
    for outline in outlines:
        alone = polygon(mask.shape, outline.rings)
        [part] = np.unique(parts[alone])
        np.testing.assert_array_equal(alone, parts == part)
        filled = polygon(mask.shape, [outline.exterior])
        np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(alone))
        for ring in outline.rings:
            assert len({tuple(point) for point in ring.tolist()}) == len(ring)


@pytest.mark.parametrize(
    "mask",
    [
        np.indices((24, 24)).sum(0) % 2 == 0,
        np.indices((25, 24)).sum(0) % 2 == 1,
        np.ones((9, 7), bool),
        np.ones((1, 1), bool),
        np.indices((31, 31)).max(0) % 2 == 0,
        np.abs(np.indices((41, 41)) - 20).max(0) % 2 == 0,  # islands in holes in islands
        np.abs(np.indices((41, 41)) - 20).sum(0) % 2 == 0,
        np.abs(np.indices((41, 41)) - 20).sum(0) % 5 < 3,
        np.random.default_rng(0).random((200, 200)) < 0.55,
    ],
)
def test_the_outlines_of_awkward_masks_give_them_back(mask: np.ndarray) -> None:
    every = [ring for outline in find_outlines(mask) for ring in outline.rings]
    np.testing.assert_array_equal(polygon(mask.shape, every), mask)


@given(hnp.arrays(bool, st.integers(0, 30)))
def test_intervals_put_together_are_the_mask(mask: np.ndarray) -> None:
    found = np.zeros(len(mask), bool)
    for start, stop in find_intervals(mask):
        found ^= interval(len(mask), start, stop)
    np.testing.assert_array_equal(found, mask)


middles = st.tuples(st.floats(38, 42), st.floats(38, 42))


@given(middles, st.tuples(st.floats(5, 25), st.floats(5, 25)), st.floats(-4, 4))
def test_a_drawn_ellipse_comes_back(centre: tuple, radii: tuple, angle: float) -> None:
    mask = ellipse((80, 80), centre, radii, angle)
    found = best_ellipse(mask)
    np.testing.assert_allclose(found.centre, centre, atol=0.6)
    np.testing.assert_allclose(sorted(found.radii), sorted(radii), atol=0.9)
    again = ellipse((80, 80), found.centre, found.radii, found.angle)
    assert not ((again ^ mask) & ~uncertain_band(mask, 2)).any()
    assert abs(found.angle) <= math.pi / 4


@given(middles, st.tuples(st.floats(5, 50), st.floats(5, 50)), angles)
def test_a_drawn_box_comes_back_and_is_covered(centre: tuple, sides: tuple, angle: float) -> None:
    mask = box((80, 80), centre, sides, angle)
    found = best_box(mask)
    np.testing.assert_allclose(found.centre, centre, atol=1.0)
    assert math.prod(found.sides) <= math.prod(s + 1.5 for s in sides)
    assert not (mask & ~box((80, 80), found.centre, found.sides, found.angle)).any()


@given(masks.filter(np.any))
def test_the_bounding_box_is_the_box_around_all(mask: np.ndarray) -> None:
    found = best_box(mask, turned=False)
    places = np.argwhere(mask)
    low, high = places.min(0), places.max(0)
    wanted = np.zeros(mask.shape, bool)
    wanted[low[0] : high[0] + 1, low[1] : high[1] + 1] = True
    np.testing.assert_array_equal(box(mask.shape, found.centre, found.sides), wanted)
    smallest = best_box(mask)
    assert math.prod(smallest.sides) <= math.prod(found.sides) + 1e-6
    around = box(mask.shape, smallest.centre, smallest.sides, smallest.angle)
    assert not (mask & ~around).any()


@given(masks, st.sampled_from([0.0, 0.5, 1.0, 1.7, 3.0]))
def test_a_simpler_polygon_differs_only_near_the_border(mask: np.ndarray, tolerance: float) -> None:
    rings = best_polygon(mask, tolerance)
    different = polygon(mask.shape, rings) ^ mask
    # between centres on either side of a border there is one position more than to the border
    assert not (different & ~uncertain_band(np.pad(mask, 3), 2 * tolerance + 1)[3:-3, 3:-3]).any()
    exact = [ring for outline in find_outlines(mask) for ring in outline.rings]
    assert len(rings) == len(exact)
    for ring, true in zip(rings, exact, strict=True):
        assert len(ring) <= len(true)
        # the middle of an edge is half of it from either end
        far = tolerance + 0.5 * (tolerance > 0)
        assert max(_distance(corner, ring) for corner in true) <= far + 1e-9
    if tolerance == 0:
        assert not different.any()


def _distance(point: np.ndarray, ring: np.ndarray) -> float:
    """From a point to the nearest place on a closed ring."""
    found = []
    for one, way in zip(ring, np.roll(ring, -1, axis=0) - ring, strict=True):
        t = min(max((point - one) @ way / (way @ way), 0), 1)
        found.append(float(np.linalg.norm(point - one - t * way)))
    return min(found)


@given(masks, st.floats(0, 6))
def test_a_band_is_what_has_the_other_side_near(mask: np.ndarray, width: float) -> None:
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    wanted = np.zeros(mask.shape, bool)
    for places, others in ((inside, outside), (outside, inside)):
        for place in places:
            far = [math.dist(place, other) for other in others]
            wanted[tuple(place)] = bool(far) and min(far) <= width * (1 + 1e-9)
    found = uncertain_band(mask, width)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(uncertain_band(~mask, width), found)


@given(masks)
def test_a_band_has_the_border_in_it_and_grows(mask: np.ndarray) -> None:
    assert not uncertain_band(mask, 0).any()
    bands = [uncertain_band(mask, width) for width in (1, 2, 3.5)]
    for thin, thick in pairwise(bands):
        assert not (thin & ~thick).any()
    for axis in (0, 1):
        one, other = (np.moveaxis(mask, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
        near = np.moveaxis(bands[0], axis, 0)
        assert near[:-1][one != other].all()
        assert near[1:][one != other].all()
